from __future__ import annotations

import hashlib
import io
import subprocess

import mlflow
import numpy as np
import onnx
import polars as pl
import pytest
from kedro.pipeline import Pipeline

from fraud_kedro.algorithms.model import to_onnx
from fraud_kedro.pipelines.export.assembly import (
    SELF_TEST_ROWS,
    WEIGHT,
    WHOLE_WAY,
    background,
    flag_rate,
    git_revision,
    graph_scores,
    lock_digest,
    package_versions,
    reference_parquet,
    run_origin,
    score_histogram,
    self_test,
)
from fraud_kedro.pipelines.training.scored import SCORE
from fraud_kedro.schema import ResolvedSchema

SCHEMA = ResolvedSchema(
    time="Time", time_use="raw", amount="Amount", label="Class", features=("Time", "Amount")
)
WEIGHTED = SCHEMA.model_copy(update={"sample_weight": "w"})


def scored(scores, weights=None):
    size = len(scores)
    columns = {
        "Time": np.arange(size, dtype=np.float64),
        "Amount": np.full(size, 2.5),
        "Class": (np.arange(size) % 2).astype(np.int8),
        "w": np.ones(size) if weights is None else weights,
        SCORE: np.asarray(scores, dtype=np.float64),
    }
    return pl.DataFrame(columns)


@pytest.fixture(scope="module")
def graph(candidate):
    return to_onnx(candidate.model).SerializeToString(deterministic=True)


def test_a_graph_scores_rows_in_float32(candidate, parts, graph):
    features = parts.schema.model_matrix(parts.test.select(parts.schema.features).to_numpy())
    scores = graph_scores(graph, features)
    assert (scores.shape, scores.dtype) == ((parts.test.height,), np.float32)
    np.testing.assert_allclose(scores, candidate.model.probability(features), atol=1e-6)


def test_the_reference_holds_features_scores_and_weights(candidate, parts):
    content = reference_parquet(candidate.validation_scores, parts.schema, 10_000, 0)
    frame = pl.read_parquet(io.BytesIO(content))
    assert frame.columns == [*parts.schema.features, SCORE, WEIGHT]
    assert frame.height == parts.validation.height
    assert frame[SCORE].equals(candidate.validation_scores[SCORE])
    assert (frame[WEIGHT] == 1).all()


def test_the_background_is_drawn_by_weight_and_seed_and_is_what_the_model_reads():
    weights = np.where(np.arange(1000) < 10, 1e6, 1.0)
    frame = scored(np.zeros(1000), weights).with_columns(Time=pl.int_range(1000) + 0.1)
    first, same, other = (background(frame, WEIGHTED, 12, seed) for seed in (1, 1, 2))
    assert first == same != other
    assert len(first) == 12
    # The ten heavy rows are all there, a row at most once, as float32 has them.
    times = [row[0] for row in first]
    assert sorted(times)[:10] == [round(0.1 + i, 1) for i in range(10)]
    assert len(set(times)) == 12
    hours = WEIGHTED.model_copy(update={"time_use": "hour_of_day"})
    later = frame.with_columns(pl.col("Time") + 86_400 * 7)
    np.testing.assert_allclose(background(later, hours, 12, 1), first, atol=0.01)


def test_a_background_is_never_larger_than_the_rows_that_weigh_something():
    frame = scored(np.zeros(6), [1.0, 0.0, 2.0, 0.0, 3.0, 0.0])
    assert sorted(row[0] for row in background(frame, WEIGHTED, 100, 0)) == [0, 2, 4]


def test_a_background_of_no_transactions_is_one_row_of_weighted_medians():
    frame = scored(np.zeros(5), [1.0, 1.0, 1.0, 1.0, 9.0])
    assert background(frame, WEIGHTED, 0, 0) == ((4.0, 2.5),)
    assert background(frame, SCHEMA, 0, 0) == ((2.0, 2.5),)


def test_the_reference_is_bounded_and_drawn_by_the_seed():
    frame = scored(np.linspace(0, 1, 1000), np.arange(1000.0))
    first, same, other = (reference_parquet(frame, WEIGHTED, 100, seed) for seed in (1, 1, 2))
    drawn = pl.read_parquet(io.BytesIO(first))
    assert drawn.height == 100
    assert first == same != other
    # Each row keeps its own score and weight.
    np.testing.assert_array_equal(drawn[WEIGHT], drawn["Time"])
    np.testing.assert_allclose(drawn[SCORE], drawn["Time"] / 999)


def test_the_histogram_holds_every_score_by_weight():
    histogram = score_histogram(scored([0.0, 1e-9, 5e-5, 0.4, 1.0], [1.0, 1, 2, 4, 2]), WEIGHTED)
    assert sum(histogram.shares) == pytest.approx(1)
    shares = {edge: share for edge, share in zip(histogram.edges, histogram.shares, strict=False) if share}
    assert shares == {0.0: 0.2, 3e-5: 0.2, 0.3: 0.4, 0.9: 0.2}
    assert len(histogram.edges) == len(histogram.shares) + 1


def test_the_flag_rate_is_weighted_and_compared_as_float32():
    flag = float(np.float32(0.3))
    just_below = flag - 1e-12
    frame = scored([0.1, just_below, 0.9, 0.2], [5.0, 1.0, 2.0, 2.0])
    assert flag_rate(frame, SCHEMA, flag) == 0.5
    assert flag_rate(frame, WEIGHTED, flag) == pytest.approx(0.3)
    assert flag_rate(frame, WEIGHTED, 0.0) == 1.0


def test_the_self_test_has_rows_of_both_classes_and_the_graphs_answers(parts, graph):
    made = self_test(graph, parts.test, parts.schema, seed=0)
    assert len(made.rows) == len(made.probabilities) == SELF_TEST_ROWS
    table = {
        row: label
        for *row, label in parts.test.select(*parts.schema.features, "Class").rows()
        for row in [tuple(row)]
    }
    assert sorted(table[row] for row in made.rows) == [0] * 8 + [1] * 8
    again = graph_scores(graph, parts.schema.model_matrix(np.array(made.rows)))
    assert again.astype(np.float64).tolist() == list(made.probabilities)
    assert self_test(graph, parts.test, parts.schema, seed=0) == made


def test_a_self_test_takes_the_few_frauds_there_are(parts, graph):
    few = pl.concat([parts.test.filter(pl.col("Class") == 1)[:3], parts.test.filter(pl.col("Class") == 0)])
    assert len(self_test(graph, few, parts.schema, seed=0).rows) == 3 + SELF_TEST_ROWS // 2


@pytest.mark.parametrize("algorithm", ["logistic_regression", "xgboost"])
def test_the_versions_are_those_of_what_made_the_model(algorithm):
    found = package_versions(algorithm)
    assert found["onnx"] == onnx.__version__
    assert {"fraud_kedro", "numpy", "onnxruntime", "optuna", "scikit-learn"} <= set(found)
    assert any(name.startswith("xgboost") for name in found) == (algorithm == "xgboost")
    assert list(found) == sorted(found)


def test_the_revision_is_the_checked_out_commit_or_none(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert git_revision() is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *command], check=True)
    revision = git_revision()
    assert revision is not None
    assert len(revision) == 40
    assert subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip() == revision
    (tmp_path / "code.py").touch()
    assert git_revision() == f"{revision}+changes"


def test_without_git_there_is_no_revision(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_revision() is None


def test_the_command_has_the_runs_environment_and_parameters(active_run):
    assert run_origin().command == "kedro run"
    mlflow.set_tags({"env": "quick", "runtime_params": "{'seed': 7, 'training': {'refit': 'all'}}"})
    assert run_origin().command == "kedro run --env=quick --params=seed=7,training.refit=all"


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ("{'export': {'promotion': {'force': True, 'why': 'broken'}}}", "kedro run"),
        (
            "{'export': {'promotion': {'force': True}, 'drawn_rows': 9}}",
            "kedro run --params=export.drawn_rows=9",
        ),
    ],
)
def test_the_command_forces_no_promotion(active_run, given, command):
    mlflow.set_tag("runtime_params", given)
    assert run_origin().command == command


@pytest.mark.parametrize(
    ("tags", "partial"),
    [
        ({"env": "quick", "to_nodes": "['promote']"}, ""),
        ({"pipeline_names": "['__default__']"}, ""),
        ({"pipeline_names": "['data_processing', 'tuning', 'training', 'export']"}, ""),
        ({"pipeline_names": "['export']"}, "--pipelines=export"),
        ({"pipeline_names": "['training', 'export']"}, "--pipelines=training,export"),
        ({"from_nodes": "['a', 'b']", "tags": "('x',)"}, "--tags=x --from-nodes=a,b"),
        ({"load_versions": "{'train': '1'}"}, "--load-versions=train"),
        ({"only_missing_outputs": "True"}, "--only-missing-outputs"),
    ],
)
def test_a_run_that_began_with_what_was_there_is_partial(active_run, tags, partial):
    mlflow.set_tags(tags)
    assert run_origin().partial == partial


def test_the_whole_way_is_what_runs_by_default():
    from fraud_kedro.pipeline_registry import register_pipelines

    pipelines = register_pipelines()
    ways = sum((pipelines[name] for name in WHOLE_WAY), Pipeline([]))
    assert {node.name for node in ways.nodes} == {node.name for node in pipelines["__default__"].nodes}


def test_outside_a_run_the_command_is_the_plain_one():
    assert (run_origin().command, run_origin().partial) == ("kedro run", "")


def test_the_lock_is_named_by_its_content_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lock_digest() is None
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "all.txt").write_bytes(b"numpy==2.4.6\n")
    assert lock_digest() == hashlib.sha256(b"numpy==2.4.6\n").hexdigest()
