"""Every setting of the service: environment variables with the prefix ``FRAUD_``."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    IPvAnyAddress,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fraud_kedro.errors import FraudKedroError
from fraud_kedro.locations import DEFAULT_ROOT, champion_folder, prediction_log_url, tracking_uri

PREFIX = "FRAUD_"
LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - bound only where keys guard it

Probability = Annotated[float, Field(ge=0, le=1)]

_LEAST_KEY = 16


def _listed(value: object) -> object:
    return [key.strip() for key in value.split(",") if key.strip()] if isinstance(value, str) else value


def _is_strong(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if len(text) < _LEAST_KEY or not text.isascii() or not text.isprintable():
        raise ValueError(
            f"a key should have at least {_LEAST_KEY} printable ASCII characters and no comma; "
            "`openssl rand -hex 24` makes one"
        )
    return key


# NoDecode: the settings library would read a tuple as JSON.
Keys = Annotated[
    tuple[Annotated[SecretStr, AfterValidator(_is_strong)], ...], NoDecode, BeforeValidator(_listed)
]


class SettingsError(FraudKedroError):
    """An environment variable has a value that cannot be."""


class ServingSettings(BaseSettings):
    """What can be set; ``.env.example`` explains each.

    Attributes
    ----------
    root : Path
        Folder of models, stores and the default log, relative to the working
        directory.
    host, port, workers
        Where the service listens, and with how many processes. Without a host:
        everywhere if there are keys, else on the loopback interface alone.
    score_keys, feedback_keys, admin_keys : tuple of SecretStr
        Who may score, send labels, and do everything; separated by commas.
    rate_limit : float, optional
        Requests a second of one key, over all workers.
    log_url : str, optional
        SQLAlchemy URL of the prediction log; a SQLite file under the root by
        default.
    mlflow_tracking_uri : str, optional
        The registry; SQLite under the root by default.
    model_poll_seconds : float
        How often the registry is asked for the champion.
    challenger_share : float
        Of the transactions, by their ids, that the challenger answers.
    challenger_version, shadow_version : int, optional
        Registry numbers in place of the versions that the aliases name.
    shadow_waiting_limit : int
        How many transactions may wait for the shadow's score before it goes
        without them.
    flag_threshold, decline_threshold : float, optional
        Decide by these in place of the champion's own.
    max_body_bytes, max_batch_bytes : int
        Largest body of one request, and of a batch.
    max_batch_rows : int
        Most transactions in a batch.
    request_timeout_seconds : float
        After this a request is given up with 504.
    log_waiting_limit : int
        How many predictions may wait for their commit before requests are
        refused.
    log_mode : {"durable", "background"}
        Whether an answer waits for the commit of its log row.
    log_on_failure : {"refuse", "spill"}
        What happens to predictions while the database is away.
    log_retry_seconds : float
        How long a lost PostgreSQL connection is tried to be got back first.
    log_spill_folder : Path, optional
        Where predictions are spilled; below the root by default.
    log_spill_bytes : int
        Size of the spill file at which predictions are refused.
    log_retention_days : int
        Age at which features are taken out of the log, 0 for never.
    label_maturity_days : float
        How long a transaction waits for its label before performance counts it.
    unlabelled : {"legitimate", "unknown"}
        What it is if none has come by then.
    review_cost, false_decline_cost : float
        Prices of the figures of cost in performance.
    webhook_url : SecretStr, optional
        Where the watching process tells its decisions; the service does not use it.
    tracing_endpoint : str, optional
        OTLP/HTTP address that traces are sent to.
    access_log : bool
        Whether each request is a line of the process's log: method, path, status,
        time and id, never a value.
    json_logs : bool
        Whether the process's log is lines of JSON.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True
    )

    root: Path = Path(DEFAULT_ROOT)
    host: IPvAnyAddress | None = None
    port: int = Field(default=8000, ge=0, le=65_535)
    workers: int = Field(default=1, ge=1)
    score_keys: Keys = ()
    feedback_keys: Keys = ()
    admin_keys: Keys = ()
    rate_limit: float | None = Field(default=None, gt=0)
    # Both may hold a password.
    log_url: str | None = Field(default=None, repr=False)
    mlflow_tracking_uri: str | None = Field(
        default=None,
        repr=False,
        validation_alias=AliasChoices("FRAUD_MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI"),
    )
    model_poll_seconds: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    challenger_share: Probability = 0.0
    challenger_version: int | None = Field(default=None, ge=1)
    shadow_version: int | None = Field(default=None, ge=1)
    shadow_waiting_limit: int = Field(default=10_000, ge=1)
    flag_threshold: Probability | None = None
    decline_threshold: Probability | None = None
    max_body_bytes: int = Field(default=65_536, ge=1024)
    max_batch_bytes: int = Field(default=1024 * 1024 * 1024, ge=1024)
    max_batch_rows: int = Field(default=1_000_000, ge=1)
    request_timeout_seconds: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    log_waiting_limit: int = Field(default=10_000, ge=1)
    log_mode: Literal["durable", "background"] = "durable"
    log_on_failure: Literal["refuse", "spill"] = "refuse"
    log_retry_seconds: float = Field(default=2.0, ge=0, le=60)
    log_spill_folder: Path | None = None
    log_spill_bytes: int = Field(default=1024 * 1024 * 1024, ge=1024 * 1024)
    log_retention_days: int = Field(default=180, ge=0, le=365_000)
    label_maturity_days: float = Field(default=30.0, ge=0, le=3650)
    unlabelled: Literal["legitimate", "unknown"] = "legitimate"
    review_cost: float = Field(default=3.0, ge=0)
    false_decline_cost: float = Field(default=20.0, ge=0)
    webhook_url: SecretStr | None = None
    tracing_endpoint: str | None = Field(default=None, pattern=r"^https?://", repr=False)
    access_log: bool = False
    json_logs: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> ServingSettings:
        flag, decline = self.flag_threshold, self.decline_threshold
        if flag is not None and decline is not None and decline < flag:
            raise ValueError(
                f"FRAUD_DECLINE_THRESHOLD ({decline}) should not be below FRAUD_FLAG_THRESHOLD ({flag})"
            )
        return self

    @property
    def keys_by_role(self) -> dict[str, tuple[str, ...]]:
        """The keys in the clear; empty if nobody needs one."""
        roles = {"score": self.score_keys, "feedback": self.feedback_keys, "admin": self.admin_keys}
        return {role: tuple(k.get_secret_value() for k in keys) for role, keys in roles.items() if keys}

    @property
    def listens_on(self) -> str:
        """The address to bind."""
        if self.host is not None:
            return str(self.host)
        return EVERYWHERE if self.keys_by_role else LOOPBACK

    @property
    def prediction_log(self) -> str:
        """SQLAlchemy URL of the prediction log."""
        return self.log_url or prediction_log_url(self.root)

    @property
    def spill_folder(self) -> Path:
        """Where predictions wait while the database is away."""
        return self.log_spill_folder or self.root / "prediction_log_spill"

    @property
    def registry(self) -> str:
        """MLflow tracking URI of the registry."""
        return self.mlflow_tracking_uri or tracking_uri(self.root)

    @property
    def local_bundle(self) -> Path:
        """The champion's copy that serves when the registry cannot."""
        return champion_folder(self.root)


def load_settings() -> ServingSettings:
    """Read the environment.

    Raises
    ------
    SettingsError
        Naming each variable that cannot be used, and why.
    """
    try:
        return ServingSettings()
    except ValidationError as error:
        problems = "; ".join(
            f"{_variable(problem['loc'])}: {problem['msg']}" if problem["loc"] else str(problem["msg"])
            for problem in error.errors(include_url=False)
        )
        raise SettingsError(
            f"{problems}. Mend the environment; .env.example explains every variable."
        ) from error


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """List the ``FRAUD_`` variables that mean nothing, each with the likely one meant."""
    known = sorted(f"{PREFIX}{name}".upper() for name in ServingSettings.model_fields)
    found = []
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            close = difflib.get_close_matches(name.upper(), known, n=1)
            found.append(f"{name} is not a setting" + (f"; did you mean {close[0]}?" if close else "."))
    return found


def _variable(location: tuple[int | str, ...]) -> str:
    name = str(location[0])
    return name if name.isupper() else f"{PREFIX}{name}".upper()
