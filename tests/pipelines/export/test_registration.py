from __future__ import annotations

import hashlib
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest

from fraud_kedro.champion.bundle import Registration
from fraud_kedro.champion.registry import BUNDLE_TAG, CHECKSUM_TAG, MODEL_NAME, Registry
from fraud_kedro.errors import BundleError, RegistryError
from fraud_kedro.pipelines.export.options import Promotion
from fraud_kedro.pipelines.export.registration import (
    EVALUATION_CHECKSUM_TAG,
    EVALUATION_TAG,
    PIPELINE,
    apply_promotion,
    champion_draft,
    current_registry,
    evaluation_graph_of,
    evaluation_scores,
    register_bundle,
)


@pytest.fixture
def registry(active_run):
    return current_registry()


def decided(outcome, version, reason="because"):
    return Promotion(
        outcome=outcome,
        algorithm="logistic_regression",
        version=version,
        reigning_version=None,
        reason=reason,
    )


def test_a_candidate_becomes_a_version_with_everything_that_tells_what_it_is(
    registry, active_run, bundle, twin, real_registry
):
    number = register_bundle(bundle, twin)
    found = registry.version(number)
    run_id = active_run.info.run_id
    assert (number, found.run_id) == (1, run_id)
    assert (
        found.tags.items()
        >= {
            "algorithm": "logistic_regression",
            "data_source": "simulated",
            "data_location": "drawn, seed 1",
            "data_fingerprint": "0" * 64,
            "schema_hash": bundle.metadata.schema_.hash,
            CHECKSUM_TAG: bundle.metadata.checksum,
            "git_revision": "unknown",
            "test_average_precision": "0.8",
        }.items()
    )
    assert found.tags[BUNDLE_TAG].startswith(f"runs:/{run_id}/bundle/logistic_regression/")
    assert found.tags[EVALUATION_TAG].startswith(f"runs:/{run_id}/evaluation/logistic_regression/")
    registered = real_registry.client.get_model_version(MODEL_NAME, "1")
    assert registered.description == "logistic_regression, trained on simulated data"
    assert found.aliases == ()


def test_the_registered_bundle_downloads_verified(registry, bundle, twin, tmp_path):
    number = register_bundle(bundle, twin)
    downloaded = registry.download(registry.version(number), tmp_path / "downloaded")
    assert downloaded.metadata == bundle.metadata
    assert downloaded.model == bundle.model
    assert downloaded.registration is None


def test_mlflow_loads_the_version_and_gives_the_graphs_probabilities(
    registry, bundle, twin, logistic_probability
):
    number = register_bundle(bundle, twin)
    model = mlflow.pyfunc.load_model(f"models:/{MODEL_NAME}/{number}")
    raw = np.random.default_rng(0).normal(size=(20, 30))
    matrix = bundle.metadata.schema_.model_matrix(raw)
    (scores,) = model.predict({"features": matrix}).values()
    np.testing.assert_allclose(np.ravel(scores), logistic_probability(matrix), atol=1e-6)
    (column,) = model.metadata.get_input_schema().inputs
    assert (column.name, column.shape) == ("features", (-1, 30))
    assert model.metadata.flavors["onnx"]["providers"] == ["CPUExecutionProvider"]
    rows = np.array(bundle.metadata.self_test.rows)
    expected = bundle.metadata.schema_.model_matrix(rows)
    assert (model.input_example["features"] == expected).all()


@pytest.mark.parametrize("algorithm", ["lightgbm", "logistic_regression"])
def test_another_candidate_of_the_same_run_leaves_a_versions_files_alone(
    registry, make_bundle, twin, logistic_graph, tmp_path, algorithm
):
    first = make_bundle(tmp_path / "a", version=None)
    second = make_bundle(tmp_path / "b", version=None, algorithm=algorithm, intercept=-1.0)
    other_twin = onnx.load_from_string(logistic_graph([0.02] * 30, -2.0))
    assert [register_bundle(first, twin), register_bundle(second, other_twin)] == [1, 2]
    for number, bundle, graph in ((1, first, twin), (2, second, other_twin)):
        downloaded = registry.download(registry.version(number), tmp_path / f"version{number}")
        assert downloaded.model == bundle.model
        assert evaluation_graph_of(registry, number) == graph.SerializeToString(deterministic=True)


def test_a_first_registration_makes_the_model(registry, bundle, twin, real_registry):
    real_registry.client.delete_registered_model(MODEL_NAME)
    assert register_bundle(bundle, twin) == 1


def test_the_evaluation_graph_comes_back_as_it_was(registry, bundle, twin):
    number = register_bundle(bundle, twin)
    assert evaluation_graph_of(registry, number) == twin.SerializeToString(deterministic=True)


@pytest.fixture
def twin_file(real_registry):
    """Where the evaluation graph of a version lies."""

    def find(number):
        found = Registry(real_registry.uri).version(number)
        path = found.tags[EVALUATION_TAG].removeprefix(f"runs:/{found.run_id}/")
        return Path(real_registry.artifacts / found.run_id / "artifacts" / path)

    return find


def test_another_evaluation_graph_in_its_place_is_noticed(registry, bundle, twin, logistic_graph, twin_file):
    number = register_bundle(bundle, twin)
    twin_file(number).write_bytes(logistic_graph([0.0] * 30, -2.0))
    with pytest.raises(
        BundleError, match=rf"graph of version {number} is not the one.*champion set.*promotion\.force"
    ):
        evaluation_graph_of(registry, number)


def test_an_evaluation_graph_that_is_gone_is_one_line(registry, bundle, twin, twin_file):
    number = register_bundle(bundle, twin)
    twin_file(number).unlink()
    with pytest.raises(
        RegistryError, match=rf"graph of version {number} cannot be fetched.*promotion\.force"
    ) as caught:
        evaluation_graph_of(registry, number)
    assert "\n" not in str(caught.value)


def test_an_evaluation_graph_that_does_not_run_is_one_line(registry, bundle, twin, twin_file):
    number = register_bundle(bundle, twin)
    twin_file(number).write_bytes(b"no graph")
    registry.annotate(number, tags={EVALUATION_CHECKSUM_TAG: hashlib.sha256(b"no graph").hexdigest()})
    with pytest.raises(BundleError, match=rf"graph of version {number} does not run") as caught:
        evaluation_scores(registry, number, np.zeros((1, 30), np.float32))
    assert "\n" not in str(caught.value)


def test_a_version_without_an_evaluation_graph_says_how_to_go_on(registry, real_registry, bundle):
    number = real_registry.register(bundle)
    with pytest.raises(RegistryError, match=r"no tag 'evaluation_graph'.*promotion\.force"):
        evaluation_graph_of(registry, number)


def test_registering_without_a_run_is_refused(bundle, twin):
    assert mlflow.active_run() is None
    with pytest.raises(RegistryError, match="needs an MLflow run"):
        register_bundle(bundle, twin)


@pytest.fixture
def two_versions(registry, real_registry, make_bundle, tmp_path):
    for name, algorithm in (("a", "logistic_regression"), ("b", "lightgbm")):
        real_registry.register(make_bundle(tmp_path / name, version=None, algorithm=algorithm))
    return registry


def test_a_promotion_moves_the_champion_and_is_recorded(two_versions):
    apply_promotion(two_versions, decided("promoted", 1, "the first version"))
    apply_promotion(two_versions, decided("promoted", 2, "better"))
    assert two_versions.resolve("champion").version == 2
    assert two_versions.version(1).aliases == ()
    assert two_versions.version(1).tags["promotion"] == "promoted: the first version"
    assert two_versions.version(2).tags["promotion"] == "promoted: better"
    moves = [(move["alias"], move["version"], move["by"], move["why"]) for move in two_versions.history()]
    assert moves == [("champion", 1, PIPELINE, "the first version"), ("champion", 2, PIPELINE, "better")]


def test_a_challenger_leaves_the_champion_alone(two_versions):
    apply_promotion(two_versions, decided("promoted", 1))
    apply_promotion(two_versions, decided("challenger", 2, "worse"))
    assert two_versions.resolve("champion").version == 1
    assert two_versions.resolve("challenger").version == 2


def test_a_rejected_version_gets_a_tag_and_no_alias(two_versions):
    apply_promotion(two_versions, decided("rejected", 2, "badly calibrated"))
    assert two_versions.version(2).tags["promotion"] == "rejected: badly calibrated"
    assert two_versions.find("champion") is None
    assert two_versions.find("challenger") is None
    assert two_versions.history() == []


def test_a_challenger_that_becomes_champion_is_challenger_no_more(two_versions):
    apply_promotion(two_versions, decided("challenger", 1))
    apply_promotion(two_versions, decided("promoted", 1))
    assert two_versions.resolve("champion").version == 1
    assert two_versions.find("challenger") is None


def test_another_challenger_keeps_its_alias_when_a_champion_is_made(two_versions):
    apply_promotion(two_versions, decided("challenger", 1))
    apply_promotion(two_versions, decided("promoted", 2))
    assert two_versions.resolve("challenger").version == 1


def test_the_draft_of_the_champion_is_its_bundle_with_its_number(two_versions, tmp_path):
    two_versions.set_alias("champion", 2, by="ann", why="better")
    draft = champion_draft(two_versions)
    assert draft.metadata.algorithm == "lightgbm"
    assert draft.model == (tmp_path / "b" / "model.onnx").read_bytes()
    assert draft.reference == (tmp_path / "b" / "reference.parquet").read_bytes()
    assert draft.card == "# lightgbm\n"
    found = two_versions.version(2)
    assert draft.registration == Registration(version=2, run_id=found.run_id)


def test_without_a_champion_there_is_no_draft(two_versions):
    with pytest.raises(RegistryError, match="alias 'champion'"):
        champion_draft(two_versions)


def test_the_registry_is_that_of_the_active_store(active_run, real_registry):
    assert isinstance(current_registry(), Registry)
    assert current_registry().tracking_uri == real_registry.uri
