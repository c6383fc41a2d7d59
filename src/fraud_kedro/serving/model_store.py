"""Which model serves: the registry's champion, or the local bundle without it."""

from __future__ import annotations

import logging
import tempfile
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from prometheus_client import Gauge

from fraud_kedro.champion.bundle import METADATA_FILE, Bundle, Thresholds, read_bundle
from fraud_kedro.champion.reasons import Explainer
from fraud_kedro.champion.registry import MODEL_NAME, Alias, RegisteredVersion, Registry
from fraud_kedro.champion.scorer import Decision, Scorer
from fraud_kedro.errors import BundleError, RegistryError
from fraud_kedro.serving.metrics import MODEL_INFO, MODEL_LOADS, MODEL_VERSION
from fraud_kedro.serving.requests import RequestFormat
from fraud_kedro.serving.settings import ServingSettings

logger = logging.getLogger(__name__)

Source = Literal["registry", "local bundle"]
Other = Literal["challenger", "shadow"]


@dataclass(frozen=True)
class ServedModel:
    """A model that has passed its self-test.

    Attributes
    ----------
    scorer : Scorer
    explainer : Explainer
    requests : RequestFormat
        What a request to this model looks like.
    version : int
        The registry's number, 0 for a bundle that was never registered.
    run_id : str or None
    source : {"registry", "local bundle"}
    loaded : datetime
    """

    scorer: Scorer
    explainer: Explainer
    requests: RequestFormat
    version: int
    run_id: str | None
    source: Source
    loaded: datetime

    @cached_property
    def name(self) -> str:
        """The ``model_version`` of answers and log rows."""
        return f"{MODEL_NAME}_{self.scorer.metadata.algorithm}_v{self.version}"

    def judgement(self, probability: float) -> tuple[str, float, int, Decision, str]:
        """What the log keeps of a score, in the order of its columns: ``model_version`` to ``policy``."""
        scorer = self.scorer
        return (
            self.name,
            probability,
            scorer.prediction(probability),
            scorer.decision(probability),
            scorer.thresholds.policy,
        )


class Roles(NamedTuple):
    """Which model serves in which role; they read the same requests.

    Attributes
    ----------
    champion, challenger, shadow : ServedModel or None
    """

    champion: ServedModel | None = None
    challenger: ServedModel | None = None
    shadow: ServedModel | None = None

    def named(self, name: str) -> ServedModel | None:
        """The model whose answers are signed by this name; None if it serves no longer."""
        return next((model for model in self if model is not None and model.name == name), None)


class ModelStore:
    """Holds the models that serve and looks for newer ones.

    `refresh` may run in a thread beside requests: a request takes `roles` once,
    so it is answered by one model whole.

    Parameters
    ----------
    settings : ServingSettings
    """

    def __init__(self, settings: ServingSettings) -> None:
        self.roles = Roles()
        #: Why the newest champion is not what serves; None when it is.
        self.problem: str | None = None
        #: Why another version does not serve in its role.
        self.other_problems: dict[Other, str] = {}
        self._settings = settings
        self._registry = Registry(settings.registry, fail_fast=True)
        self._local = settings.local_bundle
        self._local_stamp: tuple[int, int] | None = None
        # Why the registry did not answer when it was asked for the champion.
        self._unreachable: RegistryError | None = None
        self._lock = threading.Lock()

    @property
    def current(self) -> ServedModel | None:
        """The champion."""
        return self.roles.champion

    def refresh(self) -> bool:
        """Load the champion, challenger and shadow that do not serve yet.

        Whatever goes wrong leaves the running models in place and `problem` and
        `other_problems` telling what it was.

        Returns
        -------
        bool
            Whether another model serves now.
        """
        with self._lock:
            before = self.roles
            self._refresh_champion()
            if self._settings.challenger_share > 0:
                self._refresh_other("challenger", self._settings.challenger_version)
            self._refresh_other("shadow", self._settings.shadow_version)
            return self.roles != before

    def _refresh_champion(self) -> None:
        try:
            champion = self._registry.find("champion")
            problem = None if champion else f"The registry has no champion. {_CHOOSE}"
            self._unreachable = None
        except RegistryError as error:
            champion, problem = None, str(error)
            self._unreachable = error
        found: ServedModel | None = None
        if champion is not None:
            if _is(self.current, champion):
                self._report(None)
                return
            found, problem = self._try_registry(champion, "champion")
        if found is None and (self.current is None or self.current.source == "local bundle"):
            found, local_problem = self._try_local()
            problem = " ".join(text for text in (problem, local_problem) if text)
        self._report(problem)
        if found is None:
            return
        # All at once: a request that the new champion decodes must not reach a model of another schema.
        others = (model if model and _reads_the_same(model, found) else None for model in self.roles[1:])
        if self.current is not None:
            _info(self.current).set(0)
        self.roles = Roles(found, *others)
        _info(found).set(1)
        MODEL_VERSION.set(found.version)
        _loaded(found, "champion")

    def _refresh_other(self, role: Other, pinned: int | None) -> None:
        running: ServedModel | None = getattr(self.roles, role)
        champion = self.current
        found, problem = running, None
        try:
            # It is not asked again at once: a server that is gone takes seconds to say so.
            if self._unreachable is not None:
                raise self._unreachable
            version = self._registry.find(role) if pinned is None else self._registry.version(pinned)
        except RegistryError as error:
            # Without a registry nobody has asked for a shadow.
            if running is not None or pinned is not None or role == "challenger":
                problem = str(error)
        else:
            if champion is None or version is None or _is(champion, version):
                found = None
            elif not _is(running, version):
                found, problem = self._try_registry(version, role)
                if found is not None and not _reads_the_same(found, champion):
                    problem = (
                        f"Version {version.version} is {role} and does not serve: it reads other features "
                        f"than {champion.name}, or another form of time."
                    )
                    found = None
                elif found is None:
                    found = running
        if problem is not None and problem != self.other_problems.get(role):
            logger.warning("%s", problem)
        self.other_problems = {
            other: text for other, text in {**self.other_problems, role: problem}.items() if text is not None
        }
        if found is not running:
            self.roles = self.roles._replace(**{role: found})
            if found is not None:
                _loaded(found, role)
            else:
                logger.info("No %s serves now.", role)

    def _try_registry(self, version: RegisteredVersion, role: Alias) -> tuple[ServedModel | None, str | None]:
        try:
            with tempfile.TemporaryDirectory(prefix="fraud-champion-", ignore_cleanup_errors=True) as folder:
                bundle = self._registry.download(version, Path(folder) / "bundle")
            return self._prepare(bundle, version.version, version.run_id, "registry"), None
        except (RegistryError, BundleError) as error:
            reason = str(error)
        except OSError as error:
            # No room for the folder itself.
            reason = f"{error.strerror}: {error.filename}. Make room for temporary files."
        MODEL_LOADS.labels("failed").inc()
        return None, f"Version {version.version} is {role} and could not be loaded: {reason}"

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
            explainer=Explainer(bundle),
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


def _is(model: ServedModel | None, version: RegisteredVersion) -> bool:
    return (
        model is not None
        and model.source == "registry"
        and (model.version, model.run_id) == (version.version, version.run_id)
    )


def _reads_the_same(one: ServedModel, other: ServedModel) -> bool:
    """Whether a request that one has decoded can be scored by the other."""
    first, second = one.requests.schema, other.requests.schema
    return (first.features, first.time, first.amount, first.time_origin, first.has_timestamps) == (
        second.features,
        second.time,
        second.amount,
        second.time_origin,
        second.has_timestamps,
    )


def _info(model: ServedModel) -> Gauge:
    return MODEL_INFO.labels(model.name, model.scorer.metadata.algorithm, model.source)


def _loaded(model: ServedModel, role: Alias) -> None:
    MODEL_LOADS.labels("loaded").inc()
    logger.info("%s serves now as %s, loaded from the %s.", model.name, role, model.source)


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
