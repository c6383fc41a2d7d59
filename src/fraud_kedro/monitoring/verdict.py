"""The verdict about drift, as the file of the last look says it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError, model_validator

from fraud_kedro.errors import DataError


class LastVerdict(BaseModel):
    """What the rule reads of it; the file holds more.

    Attributes
    ----------
    until : datetime
        The last moment that was looked at, aware.
    rows : int
        Transactions that were looked at.
    model_version : str, optional
        The champion whose reference they were compared with.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    verdict: Literal["ok", "warn", "drift", "insufficient_data"]
    drift_detected: bool
    reason: str
    until: AwareDatetime
    rows: int
    model_version: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_its_window(cls, value: Any) -> Any:
        """Take the window's moments and rows, where the file keeps them apart."""
        if isinstance(value, Mapping) and isinstance(window := value.get("window"), Mapping):
            return {"until": window.get("until"), "rows": window.get("rows"), **value}
        return value


def read_verdict(file: Path) -> LastVerdict | None:
    """Read the last verdict, None if there is no file.

    Raises
    ------
    DataError
        If it is no verdict.
    """
    try:
        return LastVerdict.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(
            f"{file} is not a verdict about drift ({place}: {first['msg']}). Look for drift again, or "
            "remove the file."
        ) from error
