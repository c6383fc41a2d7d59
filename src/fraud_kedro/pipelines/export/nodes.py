"""From trained candidates to versions in the registry, one of them perhaps the champion."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import numpy as np
import onnx
import polars as pl

from fraud_kedro.algorithms.model import ScoringModel, to_onnx
from fraud_kedro.champion.bundle import (
    Bundle,
    BundleMetadata,
    DataRecord,
    Thresholds,
)
from fraud_kedro.champion.registry import Registry
from fraud_kedro.datasets.bundle import BundleDraft, KeepBundle
from fraud_kedro.pipelines.export.assembly import (
    background,
    flag_rate,
    git_revision,
    graph_scores,
    lock_digest,
    package_versions,
    reference_parquet,
    run_command,
    score_histogram,
    self_test,
    single_row_latency_ms,
)
from fraud_kedro.pipelines.export.drawn_rows import drawn_rows
from fraud_kedro.pipelines.export.edge_rows import edge_rows, rows_not_finite
from fraud_kedro.pipelines.export.model_card import Origin, model_card
from fraud_kedro.pipelines.export.options import ExportOptions, Promotion, Registrations
from fraud_kedro.pipelines.export.parity import ParityReport, check_parity
from fraud_kedro.pipelines.export.promotion import Contender, JudgedRows, decide, has_not_seen
from fraud_kedro.pipelines.export.registration import (
    apply_promotion,
    bundle_draft,
    champion_draft,
    current_registry,
    evaluation_graph_of,
    record_promotion,
    register_bundle,
    require_own,
    still_against,
)
from fraud_kedro.pipelines.model_input import labelled_matrix
from fraud_kedro.pipelines.training.options import Comparison, Evaluation
from fraud_kedro.schema import ResolvedSchema

logger = logging.getLogger(__name__)


def convert(model: ScoringModel, evaluation_model: ScoringModel) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Turn the model to serve and its evaluation twin into ONNX graphs."""
    return to_onnx(model), to_onnx(evaluation_model)


def gate_parity(
    model: ScoringModel,
    graph: onnx.ModelProto,
    test: pl.DataFrame,
    thresholds: Thresholds,
    export: ExportOptions,
    seed: int,
) -> ParityReport:
    """Refuse a graph that does not score as its native model does.

    Compared on all test rows, on edge rows, on rows that are not finite and on
    drawn ones.

    Raises
    ------
    ParityError
        If a probability differs by more than ``export.parity_tolerance``, or a
        row gets another decision.
    """
    features = labelled_matrix(test, model.schema).features
    kind, drawn = drawn_rows(model.schema, features, export.drawn_rows, seed)
    report = check_parity(
        model,
        graph.SerializeToString(deterministic=True),
        {
            "test": features,
            "edge": edge_rows(model, features),
            "not finite": rows_not_finite(features),
            kind: drawn,
        },
        (thresholds.flag, thresholds.decline),
        tolerance=export.parity_tolerance,
    )
    logger.info("%s: largest difference between graph and model %.2g", model.algorithm, report.max_difference)
    return report


def assemble_bundle(
    graph: onnx.ModelProto,
    evaluation: Evaluation,
    comparison: Comparison,
    parity: ParityReport,
    validation_scores: pl.DataFrame,
    test: pl.DataFrame,
    resolved_schema: ResolvedSchema,
    data_record: DataRecord,
    export: ExportOptions,
    seed: int,
) -> BundleDraft:
    """Put together everything a service needs to know about one candidate."""
    model = graph.SerializeToString(deterministic=True)
    metadata = BundleMetadata(
        algorithm=evaluation.algorithm,
        created=datetime.now(UTC),
        schema=resolved_schema,
        thresholds=evaluation.thresholds,
        metrics=evaluation.test,
        data=data_record.model_copy(update={"refit": evaluation.refit}),
        score_histogram=score_histogram(validation_scores, resolved_schema),
        flag_rate=flag_rate(validation_scores, resolved_schema, evaluation.thresholds.flag),
        self_test=self_test(model, test, resolved_schema, seed),
        background=background(validation_scores, resolved_schema, export.background_rows, seed),
        parameters=evaluation.parameters,
        versions=package_versions(evaluation.algorithm),
        seed=seed,
        git_revision=git_revision(),
    )
    return BundleDraft(
        metadata=metadata,
        model=model,
        reference=reference_parquet(validation_scores, resolved_schema, export.reference_rows, seed),
        card=model_card(metadata, parity, comparison, Origin(run_command(), lock_digest())),
    )


def register_candidates(comparison: Comparison, *exported: Bundle | onnx.ModelProto) -> Registrations:
    """Make every candidate a version of the registered model.

    Parameters
    ----------
    comparison : Comparison
        The champion-elect is registered last, so that the newest version is the best.
    exported : Bundle and ModelProto, in turn
        Each candidate's bundle and the graph of its evaluation twin.
    """
    import mlflow

    bundles = {item.metadata.algorithm: item for item in exported if isinstance(item, Bundle)}
    graphs = dict(zip(bundles, (item for item in exported if not isinstance(item, Bundle)), strict=True))
    order = [candidate.algorithm for candidate in reversed(comparison.candidates)]
    versions = {name: register_bundle(bundles[name], graphs[name]) for name in order}
    run = mlflow.active_run()
    return Registrations(run_id=run.info.run_id if run else "", versions=versions)


def promote(
    comparison: Comparison,
    registrations: Registrations,
    test: pl.DataFrame,
    resolved_schema: ResolvedSchema,
    export: ExportOptions,
    seed: int,
    *parities: ParityReport,
) -> Promotion:
    """Let the gate judge the best candidate, and move the alias it decides on."""
    registry = current_registry()
    require_own(registrations)
    data = labelled_matrix(test, resolved_schema)
    version = registrations.versions[comparison.champion]
    bundle = _bundle(registry, version)
    metadata = bundle.metadata

    def scores(number: int) -> np.ndarray:
        return graph_scores(evaluation_graph_of(registry, number), data.features)

    candidate = Contender(version, metadata, scores(version))
    # A forced promotion must not hang on a champion that cannot be read any more.
    found = None if export.promotion.force else registry.find("champion")
    reigning = None
    if found is not None:
        reigning_metadata = _bundle(registry, found.version).metadata
        comparable = metadata.schema_.hash == reigning_metadata.schema_.hash and has_not_seen(
            reigning_metadata, metadata
        )
        reigning = Contender(found.version, reigning_metadata, scores(found.version) if comparable else None)
    promotion = decide(
        candidate,
        reigning,
        JudgedRows(data.labels, data.weights, test[resolved_schema.amount].to_numpy()),
        figure=comparison.figure,
        costs=comparison.candidates[0].costs,
        latency_ms=single_row_latency_ms(bundle.model, data.features),
        parity=next(report for report in parities if report.algorithm == comparison.champion),
        options=export.promotion,
        seed=seed,
    )
    promotion = still_against(registry, promotion, found.version if found else None)
    record_promotion(registry, promotion, bundle)
    # Last: whatever fails before leaves the champion as it was.
    apply_promotion(registry, promotion)
    logger.info("%s version %d: %s (%s)", promotion.algorithm, version, promotion.outcome, promotion.reason)
    return promotion


def publish_champion(promotion: Promotion) -> BundleDraft | KeepBundle:
    """Fetch the version that has the alias, for the local copy the service falls back to.

    Where no version has it, since the first one was not promoted, there is nothing to copy.

    Parameters
    ----------
    promotion : Promotion
        Orders this after the gate; the alias itself decides what is fetched.
    """
    registry = current_registry()
    return champion_draft(registry) if registry.find("champion") else KeepBundle()


def _bundle(registry: Registry, version: int) -> BundleDraft:
    return bundle_draft(registry, registry.version(version))
