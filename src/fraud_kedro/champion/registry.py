"""The model registry: which version is champion, and who said so.

One thin layer over `mlflow.MlflowClient`; mlflow-skinny is enough for it.
Nothing else in the package knows MLflow's names for these things.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from sqlalchemy.exc import SQLAlchemyError

from fraud_kedro.champion.bundle import MEND_VERSION, Bundle, read_bundle
from fraud_kedro.champion.tracking_store import check_store, first_line, without_password
from fraud_kedro.errors import BundleError, RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_NAME = "fraud_detection"
BUNDLE_TAG = "bundle"
CHECKSUM_TAG = "bundle_checksum"

Alias = Literal["champion", "challenger", "shadow"]
ALIASES: tuple[Alias, ...] = get_args(Alias)

# One tag for each move: two processes that move aliases at once cannot lose each other's entry.
MOVE_TAG = "alias_move."
_KEPT_MOVES = 200
_WHY_LENGTH = 500

# MLflow's own: 120 s a request and 7 retries with back-off, many minutes for a server that is gone.
_FAIL_FAST = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of the model as the registry knows it.

    Attributes
    ----------
    version : int
    run_id : str
        The MLflow run that exported it.
    tags : mapping of str to str
    source : str
        URI of the bundle's folder.
    aliases : tuple of str
    """

    version: int
    run_id: str
    tags: Mapping[str, str]
    source: str
    aliases: tuple[str, ...] = ()


class Registry:
    """The versions of `MODEL_NAME` and their aliases.

    Parameters
    ----------
    tracking_uri : str
        An MLflow tracking URI: a server or a database.
    fail_fast : bool
        Give up on a server after seconds, where MLflow itself would retry for
        minutes. Sets MLflow's environment variables unless they are set, so it
        holds for the whole process: for a service, not for a training run.

    Notes
    -----
    Reading never creates anything: a SQLite store that is not there is an
    error, where MLflow would create it.
    """

    def __init__(self, tracking_uri: str, *, fail_fast: bool = False) -> None:
        self.tracking_uri = tracking_uri
        self._client: MlflowClient | None = None
        # Importing MLflow is what starts its telemetry.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        if fail_fast:
            for name, value in _FAIL_FAST.items():
                os.environ.setdefault(name, value)

    def resolve(self, alias: Alias) -> RegisteredVersion:
        """Find the version an alias names.

        Raises
        ------
        RegistryError
            If the registry cannot be reached, or no version has the alias.
        """
        found = self.find(alias)
        if found is None:
            raise RegistryError(
                f"No version of {MODEL_NAME!r} at {self._where} has the alias {alias!r}. Train one with "
                "`kedro run`, or choose one with `kedro champion set VERSION --why REASON`."
            )
        return found

    def find(self, alias: Alias) -> RegisteredVersion | None:
        """Find the version an alias names, None if no version has it.

        Raises
        ------
        RegistryError
            If the registry cannot be reached, or the alias names a version that is
            no longer there.
        """
        with self._asking() as client:
            try:
                return _record(client.get_model_version_by_alias(MODEL_NAME, alias))
            except _mlflow_exception() as error:
                if not _is_absent(error):
                    raise
                lost = self._aliases(client).get(alias)
        if lost is None:
            return None
        raise RegistryError(
            f"The alias {alias!r} at {self._where} names version {lost}, which has been deleted. "
            + (
                "Give it to another one with `kedro champion set VERSION --why REASON`; "
                "`kedro champion show` lists them."
                if alias == "champion"
                else "Give it to another one, or take it away, on the model's page in MLflow."
            )
        )

    def _aliases(self, client: MlflowClient) -> dict[str, int]:
        try:
            aliases = client.get_registered_model(MODEL_NAME).aliases
        except _mlflow_exception() as error:
            if not _is_absent(error):
                raise
            return {}
        return {alias: int(number) for alias, number in aliases.items()}

    def version(self, number: int) -> RegisteredVersion:
        """Find a version by its number.

        Raises
        ------
        RegistryError
            If the registry cannot be reached or has no such version.
        """
        with self._asking() as client:
            try:
                return _record(client.get_model_version(MODEL_NAME, str(number)))
            except _mlflow_exception() as error:
                if not _is_absent(error):
                    raise
        raise RegistryError(
            f"{MODEL_NAME!r} at {self._where} has no version {number}. "
            "`kedro champion show` lists those it has."
        )

    def versions(self) -> list[RegisteredVersion]:
        """List every version, newest first, with its aliases."""
        with self._asking() as client:
            found = [_record(v) for v in client.search_model_versions(f"name = '{MODEL_NAME}'")]
            aliases = self._aliases(client)
        by_version: dict[int, list[str]] = {}
        for alias, number in aliases.items():
            by_version.setdefault(number, []).append(alias)
        found = [_with_aliases(v, tuple(sorted(by_version.get(v.version, ())))) for v in found]
        return sorted(found, key=lambda v: v.version, reverse=True)

    def download(self, version: RegisteredVersion, folder: Path) -> Bundle:
        """Fetch a version's bundle and verify it.

        Parameters
        ----------
        version : RegisteredVersion
        folder : Path
            Where the bundle goes; must not exist yet.

        Returns
        -------
        Bundle
            Its `folder` is `folder`.

        Raises
        ------
        RegistryError
            If the artifact cannot be fetched.
        BundleError
            If what came differs from its checksums, or there is no room for it.
        """
        try:
            return self._download(version, folder)
        except OSError as error:
            raise BundleError(
                f"Version {version.version} of {MODEL_NAME!r} cannot be stored at {folder}: "
                f"{error.strerror}. "
                "What was there before is unchanged."
            ) from error

    def _download(self, version: RegisteredVersion, folder: Path) -> Bundle:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as staging:
            with self._asking():
                # Not at the top: importing MLflow takes seconds.
                from mlflow.artifacts import download_artifacts

                local = download_artifacts(
                    artifact_uri=version.source, dst_path=staging, tracking_uri=self.tracking_uri
                )
            if not Path(local).is_dir():
                raise RegistryError(
                    f"Version {version.version} of {MODEL_NAME!r} has no bundle at {version.source}. "
                    "Export it again with `kedro run --pipeline=export`."
                )
            bundle = read_bundle(Path(local), version=version.version)
            promised = version.tags.get(CHECKSUM_TAG, bundle.metadata.checksum)
            if bundle.metadata.checksum != promised:
                raise BundleError(
                    f"The bundle at {version.source} is not the one that was registered as version "
                    f"{version.version}: its checksum differs from the version's tag. {MEND_VERSION}"
                )
            shutil.move(local, folder)
        return read_bundle(folder)

    def set_alias(self, alias: Alias, version: int, *, by: str, why: str) -> None:
        """Move an alias, and record who did it and why.

        Parameters
        ----------
        alias : {"champion", "challenger", "shadow"}
        version : int
        by, why : str
            Recorded as tags on the version, and in the model's history.

        Raises
        ------
        RegistryError
            If the registry cannot be reached, or has no such version or alias.
        """
        _check_alias(alias)
        self.version(version)
        when = _now()
        with self._asking() as client:
            for key, value in (("by", by), ("when", when), ("why", why)):
                client.set_model_version_tag(MODEL_NAME, str(version), f"{alias}.{key}", value)
            self._remember(client, {"alias": alias, "version": version, "by": by, "when": when, "why": why})
            # Last: a store that dies before this has changed nothing that is served.
            client.set_registered_model_alias(MODEL_NAME, alias, str(version))

    def delete_alias(self, alias: Alias, *, by: str, why: str) -> None:
        """Take an alias away; nothing happens when no version has it.

        Raises
        ------
        RegistryError
            If the registry cannot be reached, or the alias is none of ours.
        """
        _check_alias(alias)
        if self.find(alias) is None:
            return
        with self._asking() as client:
            self._remember(client, {"alias": alias, "version": None, "by": by, "when": _now(), "why": why})
            client.delete_registered_model_alias(MODEL_NAME, alias)

    def annotate(
        self, version: int, *, tags: Mapping[str, str] | None = None, description: str | None = None
    ) -> None:
        """Add tags to a version, and put a description in place of its own.

        Raises
        ------
        RegistryError
            If the registry cannot be reached or has no such version.
        """
        with self._asking() as client:
            for key, value in (tags or {}).items():
                client.set_model_version_tag(MODEL_NAME, str(version), key, value)
            if description is not None:
                client.update_model_version(MODEL_NAME, str(version), description)

    def history(self) -> list[dict[str, Any]]:
        """List the latest moves of aliases, oldest first.

        Each has ``alias``, ``version`` (None where it was taken away), ``by``,
        ``when`` (ISO 8601, UTC) and ``why``.
        """
        with self._asking() as client:
            try:
                tags = client.get_registered_model(MODEL_NAME).tags
            except _mlflow_exception() as error:
                if _is_absent(error):
                    return []
                raise
        return [json.loads(tags[key]) for key in sorted(tags) if key.startswith(MOVE_TAG)]

    def _remember(self, client: MlflowClient, entry: dict[str, Any]) -> None:
        # Sorts by time; the random end keeps two moves of one moment apart.
        key = f"{MOVE_TAG}{time.time_ns():020}.{uuid.uuid4().hex[:8]}"
        # 5,000 characters are what MLflow's table holds in a tag.
        text = json.dumps({**entry, "why": _shortened(str(entry["why"]))}, separators=(",", ":"))
        client.set_registered_model_tag(MODEL_NAME, key, text)
        tags = client.get_registered_model(MODEL_NAME).tags
        for old in sorted(tag for tag in tags if tag.startswith(MOVE_TAG))[:-_KEPT_MOVES]:
            client.delete_registered_model_tag(MODEL_NAME, old)

    @property
    def _where(self) -> str:
        return without_password(self.tracking_uri)

    @contextmanager
    def _asking(self) -> Iterator[MlflowClient]:
        """MLflow's client, its errors turned into ours."""
        if self._client is None or self.tracking_uri.startswith("sqlite:"):
            # A file may go away under a client that has it open.
            check_store(self.tracking_uri)
        if self._client is None:
            # Not at the top: importing MLflow takes seconds, and a service without a store never needs it.
            try:
                from mlflow import MlflowClient
            except ModuleNotFoundError as error:
                raise RegistryError(
                    "Reading the model registry needs MLflow. Install the extra `serving` or `training`."
                ) from error

            logging.getLogger("mlflow").setLevel(logging.WARNING)
            logging.getLogger("alembic").setLevel(logging.WARNING)
        try:
            if self._client is None:
                self._client = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)
            yield self._client
        except (_mlflow_exception(), SQLAlchemyError, OSError) as error:
            raise RegistryError(
                f"The model registry at {self._where} does not answer: {first_line(error)}. Check that it "
                "runs and that FRAUD_MLFLOW_TRACKING_URI names it."
            ) from error


def _shortened(text: str) -> str:
    return text if len(text) <= _WHY_LENGTH else f"{text[: _WHY_LENGTH - 1].rstrip()}…"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _record(found: Any) -> RegisteredVersion:
    tags = dict(found.tags)
    return RegisteredVersion(
        version=int(found.version),
        run_id=found.run_id or "",
        tags=tags,
        source=tags.get(BUNDLE_TAG) or found.source or "",
        aliases=tuple(sorted(found.aliases)),
    )


def _with_aliases(version: RegisteredVersion, aliases: tuple[str, ...]) -> RegisteredVersion:
    return RegisteredVersion(version.version, version.run_id, version.tags, version.source, aliases)


def _check_alias(alias: str) -> None:
    if alias not in ALIASES:
        raise RegistryError(f"Alias {alias!r} is invalid. It should be one of {', '.join(ALIASES)}.")


def _mlflow_exception() -> type[Exception]:
    from mlflow.exceptions import MlflowException

    return cast("type[Exception]", MlflowException)


def _is_absent(error: Exception) -> bool:
    # A missing alias is INVALID_PARAMETER_VALUE in MLflow's SQL store and on its server.
    code = getattr(error, "error_code", "")
    return code == "RESOURCE_DOES_NOT_EXIST" or (
        code == "INVALID_PARAMETER_VALUE"
        and "alias" in str(error).lower()
        and "not found" in str(error).lower()
    )
