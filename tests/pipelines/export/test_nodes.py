from __future__ import annotations

import io
from dataclasses import replace

import mlflow
import numpy as np
import onnx
import polars as pl
import pytest
from pydantic import ValidationError

from fraud_kedro.champion.bundle import Thresholds
from fraud_kedro.champion.scorer import Scorer
from fraud_kedro.datasets.bundle import BundleDataset
from fraud_kedro.errors import ParityError, RegistryError
from fraud_kedro.pipelines.export.nodes import (
    assemble_bundle,
    convert,
    gate_parity,
    promote,
    publish_champion,
    register_candidates,
)
from fraud_kedro.pipelines.export.options import ExportOptions, PromotionOptions
from fraud_kedro.pipelines.export.registration import current_registry
from fraud_kedro.pipelines.model_input import labelled_matrix
from fraud_kedro.pipelines.training.options import Comparison

OPTIONS = ExportOptions(
    drawn_rows=500,
    reference_rows=200,
    # A thousand simulated rows say little about calibration.
    promotion=PromotionOptions(repetitions=20, max_calibration_error=0.5),
)


@pytest.fixture(scope="module")
def graphs(candidate):
    return convert(candidate.model, candidate.evaluation_model)


@pytest.fixture(scope="module")
def parity(candidate, graphs, parts):
    return gate_parity(candidate.model, graphs[0], parts.test, candidate.thresholds, OPTIONS, 0)


@pytest.fixture(scope="module")
def draft(candidate, graphs, parity, parts):
    return assemble_bundle(
        graphs[0],
        candidate.evaluation,
        comparison_of(candidate),
        parity,
        candidate.validation_scores,
        parts.test,
        parts.schema,
        parts.record,
        OPTIONS,
        5,
    )


@pytest.fixture
def bundle(draft, tmp_path):
    dataset = BundleDataset(filepath=str(tmp_path / "bundle"))
    dataset.save(draft)
    return dataset.load()


def comparison_of(candidate):
    return Comparison(
        objective="average_precision",
        champion=candidate.evaluation.algorithm,
        candidates=(candidate.evaluation,),
    )


def exported(candidate, bundle, twin):
    return register_candidates(comparison_of(candidate), bundle, twin)


@pytest.fixture(scope="module")
def decide_on(parity):
    def decide(candidate, registrations, parts, options=OPTIONS):
        return promote(
            comparison_of(candidate),
            registrations,
            parts.test,
            parts.schema,
            options,
            0,
            parity,
        )

    return decide


def test_conversion_gives_a_graph_of_the_model_and_one_of_its_twin(candidate, parts):
    from fraud_kedro.pipelines.export.assembly import graph_scores

    features = labelled_matrix(parts.test, parts.schema).features
    graphs = convert(candidate.model, candidate.selection_model)
    for graph, model in zip(graphs, (candidate.model, candidate.selection_model), strict=True):
        onnx.checker.check_model(graph)
        scores = graph_scores(graph.SerializeToString(), features)
        np.testing.assert_allclose(scores, model.probability(features), atol=1e-6)


def test_parity_is_checked_on_test_edge_unusable_and_simulated_rows(parity, parts):
    assert parity.row_sets["test"].rows == parts.test.height
    assert parity.row_sets["simulated"].rows == 500
    assert parity.row_sets["not finite"].rows == 3 * len(parts.schema.features)
    assert parity.row_sets["edge"].rows > 0
    assert 0 < parity.max_difference <= 1e-5


def test_another_models_graph_does_not_pass(candidate, parts):
    graph, _ = convert(candidate.selection_model, candidate.selection_model)
    with pytest.raises(ParityError):
        gate_parity(candidate.model, graph, parts.test, candidate.thresholds, OPTIONS, 0)


def test_a_bundle_says_everything_about_its_candidate(draft, candidate, parts):
    metadata = draft.metadata
    assert metadata.algorithm == "logistic_regression"
    assert metadata.schema_ == parts.schema
    assert metadata.thresholds == candidate.thresholds
    assert metadata.metrics == candidate.evaluation.test
    assert metadata.parameters == candidate.best.parameters
    assert metadata.data == parts.record.model_copy(update={"refit": "train_validation"})
    assert metadata.seed == 5
    assert metadata.flag_rate > 0
    assert sum(metadata.score_histogram.shares) == pytest.approx(1)
    assert pl.read_parquet(io.BytesIO(draft.reference)).height == 200
    assert draft.card.startswith("# fraud_detection: logistic_regression")
    assert draft.registration is None


def test_the_service_scores_the_bundle_as_the_native_model_does(bundle, candidate, parts):
    rows = parts.test.select(parts.schema.features).to_numpy()
    scorer = Scorer(bundle)
    scores = scorer.probabilities(scorer.matrix(rows))
    expected = candidate.model.probability(parts.schema.model_matrix(rows))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_every_candidate_becomes_a_version_and_the_best_is_the_newest(
    active_run, make_bundle, graphs, candidate, tmp_path
):
    names = ("lightgbm", "logistic_regression", "random_forest")
    bundles = [make_bundle(tmp_path / name, version=None, algorithm=name) for name in names]
    ranked = tuple(
        candidate.evaluation.model_copy(update={"algorithm": name})
        for name in ("random_forest", "lightgbm", "logistic_regression")
    )
    comparison = Comparison(objective="average_precision", champion="random_forest", candidates=ranked)
    # As the pipeline gives them: bundle and twin of each algorithm in turn.
    given = [item for made in bundles for item in (made, graphs[1])]
    registrations = register_candidates(comparison, *given)
    assert registrations.run_id == active_run.info.run_id
    assert registrations.versions == {"logistic_regression": 1, "lightgbm": 2, "random_forest": 3}
    for name, number in registrations.versions.items():
        assert current_registry().version(number).tags["algorithm"] == name


def test_each_bundle_keeps_its_own_twin(active_run, make_bundle, logistic_graph, candidate, tmp_path):
    from fraud_kedro.pipelines.export.registration import evaluation_graph_of

    twins = {
        name: onnx.load_from_string(logistic_graph([0.01] * 30, intercept))
        for name, intercept in (("lightgbm", -1.0), ("xgboost", -2.0))
    }
    given = []
    for name, twin in twins.items():
        given += [make_bundle(tmp_path / name, version=None, algorithm=name), twin]
    ranked = tuple(
        candidate.evaluation.model_copy(update={"algorithm": name}) for name in ("xgboost", "lightgbm")
    )
    registrations = register_candidates(
        Comparison(objective="roc_auc", champion="xgboost", candidates=ranked), *given
    )
    for name, twin in twins.items():
        graph = evaluation_graph_of(current_registry(), registrations.versions[name])
        assert graph == twin.SerializeToString(deterministic=True)


def test_the_first_candidate_becomes_champion_and_the_next_equal_one_too(
    active_run, candidate, bundle, graphs, parts, decide_on
):
    first = decide_on(candidate, exported(candidate, bundle, graphs[1]), parts)
    assert (first.outcome, first.version, first.reason) == ("promoted", 1, "the first version")
    second = decide_on(candidate, exported(candidate, bundle, graphs[1]), parts)
    assert (second.outcome, second.version, second.reigning_version) == ("promoted", 2, 1)
    assert second.difference is not None
    assert second.difference.value == 0
    assert current_registry().resolve("champion").version == 2


def test_a_worse_candidate_becomes_challenger_by_its_twins_scores(
    active_run, candidate, bundle, graphs, parts, logistic_graph, decide_on
):
    decide_on(candidate, exported(candidate, bundle, graphs[1]), parts)
    constant = onnx.load_from_string(logistic_graph([0.0] * 30, -3.0))
    found = decide_on(candidate, exported(candidate, bundle, constant), parts)
    assert found.outcome == "challenger"
    assert found.difference is not None
    assert found.difference.value < 0
    assert current_registry().resolve("champion").version == 1
    assert current_registry().resolve("challenger").version == 2


def test_a_champion_that_may_have_seen_the_test_rows_is_not_compared(
    active_run, candidate, draft, graphs, parts, tmp_path, decide_on
):
    dataset = BundleDataset(filepath=str(tmp_path / "seen"))
    record = draft.metadata.data.model_copy(
        update={"test_fingerprint": "other", "parts": {"train": draft.metadata.data.parts["test"]}}
    )
    dataset.save(replace(draft, metadata=draft.metadata.model_copy(update={"data": record})))
    decide_on(candidate, exported(candidate, dataset.load(), graphs[1]), parts)
    dataset.save(draft)
    found = decide_on(candidate, exported(candidate, dataset.load(), graphs[1]), parts)
    assert found.outcome == "challenger"
    assert "cannot be compared" in found.reason


def test_the_published_champion_is_the_aliass_bundle(
    active_run, candidate, bundle, graphs, parts, tmp_path, decide_on
):
    promotion = decide_on(candidate, exported(candidate, bundle, graphs[1]), parts)
    dataset = BundleDataset(filepath=str(tmp_path / "champion"))
    dataset.save(publish_champion(promotion))
    local = dataset.load()
    assert local.metadata == bundle.metadata
    assert local.registration is not None
    assert (local.registration.version, local.registration.run_id) == (1, active_run.info.run_id)


def test_a_rejected_first_candidate_leaves_no_champion(
    active_run, candidate, bundle, graphs, parts, decide_on
):
    strict = OPTIONS.model_copy(update={"promotion": PromotionOptions(max_calibration_error=1e-9)})
    found = decide_on(candidate, exported(candidate, bundle, graphs[1]), parts, strict)
    assert found.outcome == "rejected"
    assert current_registry().find("champion") is None


def test_the_decision_is_written_with_its_numbers_where_people_look(
    active_run, candidate, bundle, graphs, parts, decide_on, real_registry
):
    decide_on(candidate, exported(candidate, bundle, graphs[1]), parts)
    found = decide_on(candidate, exported(candidate, bundle, graphs[1]), parts)

    described = real_registry.client.get_model_version("fraud_detection", "2").description
    card = mlflow.artifacts.load_text(f"runs:/{active_run.info.run_id}/model_card.md")
    for text in (described, card):
        assert f"**Promoted**: {found.reason}. Judged against version 1." in text
        assert "| calibration error |" in text
        assert "| more legitimate transactions flagged | 0 | 0.005 |" in text
    assert card.startswith("# fraud_detection: logistic_regression")


def test_another_champion_meanwhile_makes_the_candidate_wait(
    active_run, candidate, bundle, graphs, parts, decide_on, monkeypatch
):
    decide_on(candidate, exported(candidate, bundle, graphs[1]), parts)
    registrations = exported(candidate, bundle, graphs[1])
    other = exported(candidate, bundle, graphs[1]).versions["logistic_regression"]

    def slow(graph, features):
        current_registry().set_alias("champion", other, by="ann", why="by hand")
        return 0.01

    monkeypatch.setattr("fraud_kedro.pipelines.export.nodes.single_row_latency_ms", slow)
    found = decide_on(candidate, registrations, parts)

    assert found.outcome == "challenger"
    assert found.reason.startswith(f"version {other} became champion while this one was judged")
    assert current_registry().resolve("champion").version == other


def test_registrations_of_another_run_are_refused(active_run, candidate, bundle, graphs, parts, decide_on):
    registrations = exported(candidate, bundle, graphs[1]).model_copy(update={"run_id": "another"})
    with pytest.raises(RegistryError, match="Another export in the same root"):
        decide_on(candidate, registrations, parts)
    assert current_registry().find("champion") is None


def test_without_a_run_nothing_is_registered(candidate, bundle, graphs):
    assert mlflow.active_run() is None
    with pytest.raises(RegistryError, match="needs an MLflow run"):
        exported(candidate, bundle, graphs[1])


def test_a_decision_that_differs_stops_the_export(candidate, graphs, parts):
    # A threshold between a native probability and the graph's, which differs in its last digits.
    features = labelled_matrix(parts.test, parts.schema).features
    from fraud_kedro.pipelines.export.assembly import graph_scores

    native = candidate.model.probability(features).astype(np.float32)
    scores = graph_scores(graphs[0].SerializeToString(), features)
    differing = np.flatnonzero(native != scores)
    assert len(differing)
    between = float(max(native[differing[0]], scores[differing[0]]))
    thresholds = Thresholds(flag=between, decline=1.0, policy="expected_cost")
    with pytest.raises(ParityError):
        gate_parity(candidate.model, graphs[0], parts.test, thresholds, OPTIONS, 0)


@pytest.mark.parametrize(
    "wrong", [{"parity_tolerance": 0}, {"reference_rows": 1}, {"promotion": {"mode": "no"}}]
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        ExportOptions.model_validate(wrong)
