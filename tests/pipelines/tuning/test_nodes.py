from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fraud_kedro.errors import TrainingError
from fraud_kedro.pipelines.data_processing.splits import SplitOptions
from fraud_kedro.pipelines.training.options import TrainingOptions
from fraud_kedro.pipelines.tuning import nodes
from fraud_kedro.pipelines.tuning.nodes import draw_search_rows, tune
from fraud_kedro.pipelines.tuning.options import SearchBudget, TuningOptions
from fraud_kedro.schema import ResolvedSchema

SCHEMA = ResolvedSchema(
    time="Time", time_use="raw", amount="Amount", label="Class", features=("Time", "V1", "Amount")
)


@pytest.fixture
def options(tmp_path):
    return TuningOptions(storage=f"sqlite:///{tmp_path / 'studies.db'}", folds=2, legitimate_rows=300)


def table(seed=0, size=800):
    generator = np.random.default_rng(seed)
    labels = (generator.random(size) < 0.1).astype(np.int8)
    return pl.DataFrame(
        {
            "Time": np.arange(size, dtype=np.float64),
            "V1": generator.normal(size=size) + 2.0 * labels,
            "Amount": generator.gamma(1, 50, size),
            "Class": labels,
        }
    )


TRAINING = TrainingOptions.model_validate({"thresholds": {"kind": "expected_cost"}})


def tuned(rows, options, algorithm, trials, *, seed=0):
    return tune(rows, options, TRAINING, algorithm, SearchBudget(trials=trials), seed)


def draw(options, split="temporal", seed=0, frame=None):
    return draw_search_rows(
        table() if frame is None else frame,
        SCHEMA,
        SplitOptions.model_validate({"kind": split}),
        options,
        seed,
    )


def test_the_folds_are_those_of_the_split(options):
    rolling, stratified = draw(options), draw(options, "stratified")
    for fold in rolling.folds:
        assert fold.fit.features[:, 0].max() < fold.judge.features[:, 0].min()
    assert any(fold.fit.features[:, 0].max() > fold.judge.features[:, 0].min() for fold in stratified.folds)


def test_at_most_so_many_legitimate_rows_take_part(options):
    rows = draw(options, "stratified")
    assert sum(int((fold.judge.labels == 0).sum()) for fold in rows.folds) == 300
    assert sum(int(fold.judge.labels.sum()) for fold in rows.folds) == table()["Class"].sum()


def test_the_fingerprint_says_whether_two_searches_worked_on_the_same_rows(options):
    base = draw(options)
    assert draw(options).fingerprint == base.fingerprint
    others = [
        draw(options, "stratified"),
        draw(options, seed=1),
        draw(options.model_copy(update={"folds": 3})),
        draw(options.model_copy(update={"legitimate_rows": 301})),
        draw(options, frame=table(seed=1)),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_a_search_of_logistic_regression_finds_parameters_and_lists_its_trials(options):
    best, trials, *_ = tuned(draw(options), options, "logistic_regression", 3, seed=0)
    assert best.algorithm == "logistic_regression"
    assert best.objective == "average_precision"
    assert set(best.parameters) == {"C", "class_weight", "fit_weights"}
    assert best.trials == len(trials) == 3
    assert best.value == trials["value"].max() == pytest.approx(np.mean(best.fold_values))
    assert len(best.fold_values) == 2
    assert best.seconds == pytest.approx(trials["seconds"].sum())
    assert trials["C"][trials["value"].argmax()] == best.parameters["C"]
    assert list(trials["trial"]) == [0, 1, 2]


def test_the_same_seed_finds_the_same_parameters(options):
    first, *_ = tuned(draw(options), options, "logistic_regression", 3, seed=5)
    second, *_ = tuned(draw(options), options, "logistic_regression", 3, seed=5)
    assert first.model_copy(update={"seconds": 0}) == second.model_copy(update={"seconds": 0})


def test_failed_trials_stay_in_the_list(options, ramp, search_rows, monkeypatch):
    monkeypatch.setattr(nodes, "get_algorithm", lambda name: ramp(refuses=lambda tilt: tilt < 0))
    best, trials, *_ = tuned(search_rows, options, "ramp", 5, seed=0)
    assert best.trials == len(trials) == 5
    failed = trials[trials["state"] == "fail"]
    assert 0 < len(failed) < 5
    assert failed["value"].isna().all()
    assert (failed["tilt"] < 0).all()
    assert failed["failure"].str.startswith("no fit for tilt -").all()
    assert trials["failure"][trials["state"] != "fail"].isna().all()


def test_an_unknown_algorithm_is_told_with_those_that_exist(options):
    with pytest.raises(TrainingError, match=r"'naive_bayes' is unknown.*lightgbm, logistic_regression"):
        tuned(draw(options), options, "naive_bayes", 1, seed=0)


def test_the_plots_are_pages_of_the_parent_run(options, active_run, real_registry):
    *_, history, importance, slices, parallel_coordinates = tuned(
        draw(options), options, "logistic_regression", 3
    )
    assert len(history.data[0].y) == 3
    assert {bar for trace in importance.data for bar in trace.y} == {"C", "class_weight", "fit_weights"}
    assert len(slices.data) == 3
    assert parallel_coordinates.data
    found = real_registry.client.list_artifacts(active_run.info.run_id, "tuning/logistic_regression")
    assert {file.path.rsplit("/", 1)[-1] for file in found} == {
        "history.html",
        "importance.html",
        "slices.html",
        "parallel_coordinates.html",
    }
