from __future__ import annotations

import mlflow
import psutil
import pytest

from fraud_kedro.algorithms.registry import get_algorithm
from fraud_kedro.errors import TrainingError
from fraud_kedro.pipelines.tuning import study as study_module
from fraud_kedro.pipelines.tuning.options import TuningOptions


@pytest.fixture
def shared(kept):
    return kept.model_copy(update={"n_jobs": 2})


def points(study):
    return [(trial.state.name, trial.value, trial.params) for trial in study.trials]


def workers():
    """This process' children that run trials; the other one cleans up after them."""
    return [child for child in psutil.Process().children() if "popen_loky" in " ".join(child.cmdline())]


def test_processes_share_one_study_and_the_parent_logs_its_trials(
    search, search_rows, shared, active_run, real_registry, caplog
):
    caplog.set_level("INFO")
    study = search(get_algorithm("logistic_regression"), search_rows, shared, 5)
    assert [trial.state.name for trial in study.trials].count("COMPLETE") >= 3
    assert len(study.trials) == 5
    assert len({str(trial.params) for trial in study.trials}) == 5
    assert study.trials[0].params["C"] == get_algorithm("logistic_regression").defaults["C"]
    assert caplog.text.count("logistic_regression trial ") == 5
    children = real_registry.client.search_runs(
        [real_registry.experiment], f"tags.mlflow.parentRunId = '{active_run.info.run_id}'"
    )
    assert {run.info.run_name for run in children} == {f"logistic_regression trial {n}" for n in range(5)}


@pytest.mark.parametrize("name", ["lightgbm", "random_forest", "xgboost"])
def test_each_algorithm_fits_on_the_rows_a_process_maps(search, search_rows, shared, name):
    alone = search(
        get_algorithm(name), search_rows, shared.model_copy(update={"n_jobs": 1, "storage": "sqlite://"}), 1
    )
    study = search(get_algorithm(name), search_rows, shared, 2)
    (found,) = (trial.value for trial in study.trials if trial.params == alone.best_params)
    assert found == alone.best_value


def test_a_second_run_goes_on_with_what_processes_did(search, search_rows, shared):
    algorithm = get_algorithm("logistic_regression")
    first = points(search(algorithm, search_rows, shared, 3))
    second = points(search(algorithm, search_rows, shared, 6))
    assert second[:3] == first
    assert len(second) == 6


def test_time_ends_a_search_in_processes(search, search_rows, shared):
    study = search(get_algorithm("logistic_regression"), search_rows, shared, 10_000, seconds=0.01)
    assert 1 <= len(study.trials) <= 4
    assert all(trial.state.is_finished() for trial in study.trials)


def test_processes_share_a_study_in_postgresql(search, search_rows, postgres):
    options = TuningOptions(storage=postgres.database("shared_studies"), n_jobs=2)
    study = search(get_algorithm("logistic_regression"), search_rows, options, 4)
    assert len(study.trials) == 4
    assert mlflow.active_run() is None


# Those that end processes come last: starting new ones takes seconds.
def test_a_process_that_dies_is_told_and_finished_trials_are_kept(search, search_rows, shared, monkeypatch):
    told = []

    def kill_after_two(algorithm, trial):
        told.append(trial.number)
        if len(told) == 2:
            workers()[0].kill()

    monkeypatch.setattr(study_module, "log_trial", kill_after_two)
    algorithm = get_algorithm("xgboost")
    with pytest.raises(TrainingError, match=r"process of the search for xgboost died.*lower tuning\.n_jobs"):
        search(algorithm, search_rows, shared, 50)
    monkeypatch.setattr(study_module, "log_trial", lambda *_: None)
    study = search(algorithm, search_rows, shared, 4)
    # One that died before its first parameter was drawn stays open, counts for nothing and is no one's.
    assert all(trial.state.is_finished() for trial in study.trials if trial.params)
    spent = [str(trial.params) for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
    assert len(set(spent)) == len(spent) == 4


def test_ctrl_c_ends_the_processes_and_keeps_what_they_did(search, search_rows, shared, monkeypatch):
    def stop(algorithm, trial):
        monkeypatch.setattr(study_module, "log_trial", lambda *_: None)
        raise KeyboardInterrupt

    monkeypatch.setattr(study_module, "log_trial", stop)
    algorithm = get_algorithm("xgboost")
    with pytest.raises(TrainingError, match=r"Interrupted\. xgboost has \d of 50 trials"):
        search(algorithm, search_rows, shared, 50)
    assert workers() == []
    study = search(algorithm, search_rows, shared, 2)
    assert all(trial.state.is_finished() for trial in study.trials if trial.params)


def test_processes_cannot_share_a_study_in_memory(search, ramp, search_rows):
    options = TuningOptions(storage="sqlite://", n_jobs=2)
    with pytest.raises(
        TrainingError, match=r"2 processes cannot share a study in memory.*tuning\.n_jobs to 1"
    ):
        search(ramp(), search_rows, options, 2)
