"""Which model serves: the registry's champion, or the local bundle without it."""

from __future__ import annotations

import logging
import tempfile
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from prometheus_client import Gauge

from fraud_kedro.champion.bundle import METADATA_FILE, Bundle, Thresholds, read_bundle
from fraud_kedro.champion.registry import MODEL_NAME, RegisteredVersion, Registry
from fraud_kedro.champion.scorer import Scorer
from fraud_kedro.errors import BundleError, RegistryError
from fraud_kedro.serving.metrics import MODEL_INFO, MODEL_LOADS, MODEL_VERSION
from fraud_kedro.serving.requests import RequestFormat
from fraud_kedro.serving.settings import ServingSettings

logger = logging.getLogger(__name__)

Source = Literal["registry", "local bundle"]


@dataclass(frozen=True)
class ServedModel:
    """A model that has passed its self-test.

    Attributes
    ----------
    scorer : Scorer
    requests : RequestFormat
        What a request to this model looks like.
    version : int
        The registry's number, 0 for a bundle that was never registered.
    run_id : str or None
    source : {"registry", "local bundle"}
    loaded : datetime
    """

    scorer: Scorer
    requests: RequestFormat
    version: int
    run_id: str | None
    source: Source
    loaded: datetime

    @cached_property
    def name(self) -> str:
        """The ``model_version`` of answers and log rows."""
        return f"{MODEL_NAME}_{self.scorer.metadata.algorithm}_v{self.version}"


class ModelStore:
    """Holds the model that serves and looks for a newer one.

    `refresh` may run in a thread beside requests: a request takes `current`
    once, so it is answered by one model whole.

    Parameters
    ----------
    settings : ServingSettings
    """

    def __init__(self, settings: ServingSettings) -> None:
        self.current: ServedModel | None = None
        #: Why the newest champion is not what serves; None when it is.
        self.problem: str | None = None
        self._settings = settings
        self._registry = Registry(settings.registry, fail_fast=True)
        self._local = settings.local_bundle
        self._local_stamp: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def refresh(self) -> bool:
        """Load the champion if it is not the one that serves.

        Whatever goes wrong leaves the running model in place and `problem`
        telling what it was.

        Returns
        -------
        bool
            Whether another model serves now.
        """
        with self._lock:
            try:
                champion = self._registry.find("champion")
                problem = None if champion else f"The registry has no champion. {_CHOOSE}"
            except RegistryError as error:
                champion, problem = None, str(error)
            found: ServedModel | None = None
            if champion is not None:
                if self._serves(champion):
                    self._report(None)
                    return False
                found, problem = self._try_registry(champion)
            if found is None and (self.current is None or self.current.source == "local bundle"):
                found, local_problem = self._try_local()
                problem = " ".join(text for text in (problem, local_problem) if text)
            self._report(problem)
            if found is None:
                return False
            if self.current is not None:
                _info(self.current).set(0)
            _info(found).set(1)
            self.current = found
            MODEL_LOADS.labels("loaded").inc()
            MODEL_VERSION.set(found.version)
            logger.info("%s serves now, loaded from the %s.", found.name, found.source)
            return True

    def _serves(self, champion: RegisteredVersion) -> bool:
        current = self.current
        return (
            current is not None
            and current.source == "registry"
            and (current.version, current.run_id) == (champion.version, champion.run_id)
        )

    def _try_registry(self, champion: RegisteredVersion) -> tuple[ServedModel | None, str | None]:
        try:
            with tempfile.TemporaryDirectory(prefix="fraud-champion-") as folder:
                bundle = self._registry.download(champion, Path(folder) / "bundle")
            return self._prepare(bundle, champion.version, champion.run_id, "registry"), None
        except (RegistryError, BundleError) as error:
            MODEL_LOADS.labels("failed").inc()
            return None, f"Version {champion.version} is champion and could not be loaded: {error}"

    def _try_local(self) -> tuple[ServedModel | None, str | None]:
        stamp = _stamp(self._local)
        if self.current is not None and stamp == self._local_stamp:
            return None, None
        try:
            bundle = read_bundle(self._local)
            registration = bundle.registration
            model = self._prepare(
                bundle,
                registration.version if registration else 0,
                registration.run_id if registration else None,
                "local bundle",
            )
        except BundleError as error:
            if stamp is not None:
                MODEL_LOADS.labels("failed").inc()
            return None, str(error)
        self._local_stamp = stamp
        return model, None

    def _prepare(self, bundle: Bundle, version: int, run_id: str | None, source: Source) -> ServedModel:
        scorer = Scorer(bundle, thresholds=self._thresholds(bundle))
        scorer.self_test()
        return ServedModel(
            scorer=scorer,
            requests=RequestFormat(scorer.schema),
            version=version,
            run_id=run_id,
            source=source,
            loaded=datetime.now(UTC),
        )

    def _thresholds(self, bundle: Bundle) -> Thresholds:
        own, settings = bundle.metadata.thresholds, self._settings
        if settings.flag_threshold is None and settings.decline_threshold is None:
            return own
        flag = own.flag if settings.flag_threshold is None else settings.flag_threshold
        decline = own.decline if settings.decline_threshold is None else settings.decline_threshold
        # One of the two may come from the bundle and lie on the wrong side of the other.
        return Thresholds(flag=flag, decline=max(flag, decline), policy="settings")

    def _report(self, problem: str | None) -> None:
        if problem and problem != self.problem:
            logger.warning("%s", problem)
        self.problem = problem or None


def _info(model: ServedModel) -> Gauge:
    return MODEL_INFO.labels(model.name, model.scorer.metadata.algorithm, model.source)


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Read what changes when a bundle is replaced; None where there is none."""
    try:
        status = (folder / METADATA_FILE).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


_CHOOSE = (
    "Train a model with `kedro run`, or choose a version with `kedro champion set VERSION --why REASON`."
)
