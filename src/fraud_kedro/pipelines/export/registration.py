"""Writing to the registry: candidates become versions, the gate's decision moves an alias.

Reading is `fraud_kedro.champion.registry`, which the service shares; writing needs
the whole of MLflow and stays here.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as package_version
from pathlib import Path

import mlflow
import mlflow.onnx
import numpy as np
import onnx
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from fraud_kedro.champion.bundle import CARD_FILE, REFERENCE_FILE, Bundle, BundleMetadata, Registration
from fraud_kedro.champion.registry import (
    BUNDLE_TAG,
    CHECKSUM_TAG,
    MODEL_NAME,
    RegisteredVersion,
    Registry,
)
from fraud_kedro.champion.scorer import GRAPH_ERRORS
from fraud_kedro.champion.tracking_store import first_line, without_password
from fraud_kedro.datasets.bundle import BundleDraft
from fraud_kedro.errors import BundleError, RegistryError
from fraud_kedro.pipelines.export.assembly import graph_scores
from fraud_kedro.pipelines.export.options import Promotion, Registrations
from fraud_kedro.pipelines.export.promotion_section import promotion_section

EVALUATION_TAG = "evaluation_graph"
EVALUATION_CHECKSUM_TAG = "evaluation_graph_checksum"
PROMOTION_TAG = "promotion"
JUDGED_AGAINST_TAG = "judged_against"
PIPELINE = "promotion gate"


def current_registry() -> Registry:
    """The registry of the active tracking store."""
    return Registry(mlflow.get_registry_uri())


def register_bundle(bundle: Bundle, evaluation_graph: onnx.ModelProto) -> int:
    """Log a bundle to the active run and register its graph as a version.

    The bundle goes first: a version never points to files that are not there.

    Returns
    -------
    int
        The version's number.

    Raises
    ------
    RegistryError
        If no run is active.
    """
    run = mlflow.active_run()
    if run is None:
        raise RegistryError(
            "Registering needs an MLflow run. Start it with `kedro run`, or open one with mlflow.start_run()."
        )
    with _writing(f"Registering {bundle.metadata.algorithm}"):
        return _register(bundle, evaluation_graph, run.info.run_id)


@contextmanager
def _writing(what: str) -> Iterator[None]:
    """MLflow's errors turned into ours, before any alias has moved."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, RequestException, OSError) as error:
        raise RegistryError(
            f"{what} at {without_password(mlflow.get_registry_uri())} failed: {first_line(error)}. No alias "
            "has moved, so what is served stays as it is. Run `kedro run --pipeline=export` again once the "
            "registry answers."
        ) from error


def _register(bundle: Bundle, evaluation_graph: onnx.ModelProto, run_id: str) -> int:
    metadata = bundle.metadata
    evaluation = evaluation_graph.SerializeToString(deterministic=True)
    # By content: another candidate of the same run must not take the place of a version's files.
    bundle_path = f"bundle/{metadata.algorithm}/{metadata.checksum[:12]}"
    evaluation_checksum = hashlib.sha256(evaluation).hexdigest()
    evaluation_path = f"evaluation/{metadata.algorithm}/{evaluation_checksum[:12]}"
    mlflow.log_artifacts(str(bundle.folder), bundle_path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(evaluation)
        mlflow.log_artifact(str(file), evaluation_path)
    width = len(metadata.schema_.features)
    logged = mlflow.onnx.log_model(
        onnx.load_from_string(bundle.model),
        name=f"{metadata.model_name}_{metadata.algorithm}",
        signature=ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, width), "features")]),
            outputs=Schema([TensorSpec(np.dtype(np.float32), (-1,), "probability")]),
        ),
        input_example=_example(bundle),
        # As the service runs it; MLflow's default asks for a GPU first and warns where there is none.
        onnx_execution_providers=["CPUExecutionProvider"],
        # Given, because MLflow would spend seconds on inferring them.
        pip_requirements=[f"{name}=={package_version(name)}" for name in ("numpy", "onnx", "onnxruntime")],
        save_as_external_data=False,
    )
    client = mlflow.MlflowClient()
    _ensure_model(client)
    registered = client.create_model_version(
        MODEL_NAME,
        logged.model_uri,
        run_id,
        tags={
            **_tags(bundle),
            BUNDLE_TAG: f"runs:/{run_id}/{bundle_path}",
            EVALUATION_TAG: f"runs:/{run_id}/{evaluation_path}/model.onnx",
            EVALUATION_CHECKSUM_TAG: evaluation_checksum,
        },
        description=_description(metadata),
        # A server refuses a source of which it is not told.
        model_id=logged.model_id,
    )
    return int(registered.version)


def _ensure_model(client: mlflow.MlflowClient) -> None:
    if client.search_registered_models(f"name = '{MODEL_NAME}'"):
        return
    try:
        client.create_registered_model(MODEL_NAME)
    except MlflowException as error:
        # Another run may have made it since.
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _example(bundle: Bundle) -> NDArray[np.float32]:
    """The self-test's rows, as the graph reads them."""
    rows = np.asarray(bundle.metadata.self_test.rows, dtype=np.float64)
    return bundle.metadata.schema_.model_matrix(rows)


def _description(metadata: BundleMetadata) -> str:
    return f"{metadata.algorithm}, trained on {metadata.data.source.kind} data"


def _tags(bundle: Bundle) -> Mapping[str, str]:
    metadata = bundle.metadata
    return {
        "algorithm": metadata.algorithm,
        "data_source": metadata.data.source.kind,
        "data_location": metadata.data.source.location,
        "data_fingerprint": metadata.data.fingerprint,
        "schema_hash": metadata.schema_.hash,
        CHECKSUM_TAG: metadata.checksum,
        "git_revision": metadata.git_revision or "unknown",
        **{f"test_{name}": f"{metric.value:.6g}" for name, metric in metadata.metrics.items()},
    }


_WAY_OUT = (
    "Make another version the champion with `kedro champion set VERSION --why REASON`, or promote the "
    "candidate with promotion.force and promotion.why."
)


def incomparable(version: RegisteredVersion) -> str:
    """Why a version's evaluation graph cannot be trusted with a comparison, empty if it can."""
    if EVALUATION_TAG not in version.tags:
        return f"version {version.version} has no tag {EVALUATION_TAG!r}"
    if EVALUATION_CHECKSUM_TAG not in version.tags:
        return (
            f"version {version.version} was registered without the checksum of its evaluation graph (tag "
            f"{EVALUATION_CHECKSUM_TAG!r})"
        )
    return ""


def evaluation_graph_of(registry: Registry, version: int) -> bytes:
    """The graph of a version's recipe, fitted without its test rows, as it was registered.

    Raises
    ------
    RegistryError
        If the version has none, or it cannot be fetched.
    BundleError
        If what came is not what was registered.
    """
    found = registry.version(version)
    if missing := incomparable(found):
        raise RegistryError(f"{missing[0].upper()}{missing[1:]}, so it cannot be compared. {_WAY_OUT}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            local = mlflow.artifacts.download_artifacts(
                artifact_uri=found.tags[EVALUATION_TAG], dst_path=folder, tracking_uri=registry.tracking_uri
            )
            graph = Path(local).read_bytes()
    except (MlflowException, SQLAlchemyError, RequestException, OSError) as error:
        raise RegistryError(
            f"The evaluation graph of version {version} cannot be fetched: {first_line(error)}. {_WAY_OUT}"
        ) from error
    if hashlib.sha256(graph).hexdigest() != found.tags[EVALUATION_CHECKSUM_TAG]:
        raise BundleError(
            f"The evaluation graph of version {version} is not the one that was registered: its checksum "
            f"differs from the version's tag. {_WAY_OUT}"
        )
    return graph


def evaluation_scores(registry: Registry, version: int, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of a version's evaluation graph, shape (n_transactions,), float32.

    Raises
    ------
    RegistryError, BundleError
        As `evaluation_graph_of`; and if the graph does not run.
    """
    graph = evaluation_graph_of(registry, version)
    try:
        return graph_scores(graph, features)
    except GRAPH_ERRORS as error:
        raise BundleError(
            f"The evaluation graph of version {version} does not run: {first_line(error)}. {_WAY_OUT}"
        ) from error


def require_own(registrations: Registrations) -> None:
    """Refuse registrations that another run has written to the same root meanwhile.

    Raises
    ------
    RegistryError
    """
    run = mlflow.active_run()
    if run is None or registrations.run_id != run.info.run_id:
        raise RegistryError(
            "Another export in the same root has registered its candidates since this one did. No alias has "
            "moved. Wait until it has ended, then run `kedro run --pipeline=export`."
        )


def still_against(registry: Registry, promotion: Promotion, reigning: int | None) -> Promotion:
    """The decision, or `challenger` if the champion it was made against has changed since.

    Parameters
    ----------
    registry : Registry
    promotion : Promotion
        A forced one stays as it is.
    reigning : int, optional
        The champion when the judging began.
    """
    found = registry.find("champion")
    now = found.version if found else None
    if promotion.outcome != "promoted" or promotion.forced or now == reigning:
        return promotion
    changed = f"version {now} became champion" if now else "the alias was taken away"
    reason = f"{changed} while this one was judged: run `kedro run --pipeline=export` again"
    return promotion.model_copy(update={"outcome": "challenger", "reason": reason})


def numbered(version: int | None) -> str:
    """A champion in words."""
    return "none" if version is None else f"version {version}"


def apply_promotion(registry: Registry, promotion: Promotion) -> None:
    """Move the alias the decision names, and tag the version with it."""
    registry.annotate(
        promotion.version,
        tags={
            PROMOTION_TAG: f"{promotion.outcome}: {promotion.reason}",
            JUDGED_AGAINST_TAG: numbered(promotion.reigning_version),
        },
    )
    if promotion.outcome == "promoted":
        waited = "challenger" in registry.version(promotion.version).aliases
        registry.set_alias("champion", promotion.version, by=PIPELINE, why=promotion.reason)
        if waited:
            registry.delete_alias("challenger", by=PIPELINE, why="became champion")
    elif promotion.outcome == "challenger":
        registry.set_alias("challenger", promotion.version, by=PIPELINE, why=promotion.reason)


def record_promotion(registry: Registry, promotion: Promotion, draft: BundleDraft) -> None:
    """Write the decision with its numbers to the version, and its model card with them to the run.

    The bundle was sealed before it was judged, so its own card cannot hold the outcome.
    """
    verdict = promotion_section(promotion)
    card = f"{draft.card.rstrip()}\n\n{verdict}"
    description = f"{_description(draft.metadata)}\n\n{verdict}"
    registry.annotate(promotion.version, description=description)
    with _writing(f"Recording the decision about version {promotion.version}"):
        mlflow.MlflowClient().log_text(registry.version(promotion.version).run_id, card, CARD_FILE)


def champion_draft(registry: Registry) -> BundleDraft:
    """The bundle of the version with the alias ``champion``, to be written as the local copy."""
    return bundle_draft(registry, registry.resolve("champion"))


def bundle_draft(registry: Registry, version: RegisteredVersion) -> BundleDraft:
    """A version's bundle, verified, to be written as the local copy."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = registry.download(version, Path(folder) / "bundle")
        return BundleDraft(
            metadata=bundle.metadata,
            model=bundle.model,
            reference=(bundle.folder / REFERENCE_FILE).read_bytes(),
            card=(bundle.folder / CARD_FILE).read_text(encoding="utf-8"),
            registration=Registration(version=version.version, run_id=version.run_id),
        )
