from __future__ import annotations

import mlflow
import numpy as np
import optuna
import pytest

from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.metrics import ScoredRows, average_precision
from fraud_kedro.pipelines.tuning.options import SearchBudget, TuningOptions
from fraud_kedro.pipelines.tuning.search_rows import SearchRows
from fraud_kedro.pipelines.tuning.study import Search, best_parameters


@pytest.fixture
def options():
    """A study of one run; the disk's waits for each commit would be most of a test's time."""
    return TuningOptions(storage="sqlite:///:memory:", n_jobs=1)


@pytest.fixture
def kept(tmp_path):
    """A study that a second run finds again."""
    return TuningOptions(storage=f"sqlite:///{tmp_path / 'studies.db'}", n_jobs=1)


def run(algorithm, rows, options, trials, *, seed=0, seconds=None):
    return Search(algorithm, rows, options, SearchBudget(trials=trials, seconds=seconds), seed).run()


def points(study):
    return [(trial.state.name, trial.value, trial.params) for trial in study.trials]


def test_a_study_uses_its_budget_of_trials_and_keeps_the_best(ramp, search_rows, options):
    study = run(ramp(), search_rows, options, 6)
    assert len(study.trials) == 6
    complete = [trial.value for trial in study.trials if trial.state.name == "COMPLETE"]
    assert study.best_value == max(complete)
    assert study.best_params["tilt"] > 0


def test_a_trials_value_is_the_mean_of_the_objective_over_the_folds(ramp, search_rows, options):
    algorithm = ramp()
    study = run(algorithm, search_rows, options, 3)
    parameters, fold_values = best_parameters(study)
    expected = []
    for fold in search_rows.folds:
        scores = algorithm.log_odds(parameters, fold.judge.features)
        expected.append(average_precision(ScoredRows(fold.judge.labels, scores, fold.judge.weights)))
    assert fold_values == pytest.approx(expected)
    assert study.best_value == pytest.approx(np.mean(expected))


def test_early_stopping_gets_the_judged_rows_and_its_rounds_are_the_median_over_the_folds(
    ramp, search_rows, options
):
    algorithm = ramp()
    parameters, _ = best_parameters(run(algorithm, search_rows, options, 1))
    assert [fit["stopping"] for fit in algorithm.fits] == [fold.judge for fold in search_rows.folds]
    sizes = [len(fold.fit) for fold in search_rows.folds]
    assert len(set(sizes)) == 3
    assert parameters["rounds"] == int(np.median(sizes))
    assert set(parameters) == {"tilt", "noise", "rounds"}


def test_a_budget_is_a_total_and_a_resumed_study_goes_on(ramp, search_rows, kept):
    first = points(run(ramp(), search_rows, kept, 4))
    algorithm = ramp()
    second = run(algorithm, search_rows, kept, 7)
    assert points(second)[:4] == first
    assert len(second.trials) == 7
    drawn = [trial.params["tilt"] for trial in second.trials]
    assert len(set(drawn)) == 7
    assert {fit["tilt"] for fit in algorithm.fits} == set(drawn[4:])


def test_a_finished_study_fits_nothing_again(ramp, search_rows, kept, caplog):
    run(ramp(), search_rows, kept, 3)
    algorithm = ramp()
    caplog.set_level("INFO")
    study = run(algorithm, search_rows, kept, 3)
    assert algorithm.fits == []
    assert len(study.trials) == 3
    assert "all 3 trials were done before" in caplog.text


def test_the_same_seed_gives_the_same_study(ramp, search_rows, options):
    # More than the draws at random that come before the sampler learns.
    first = points(run(ramp(), search_rows, options, 14))
    assert points(run(ramp(), search_rows, options, 14)) == first
    assert points(run(ramp(), search_rows, options, 14, seed=2)) != first


def test_a_study_belongs_to_rows_space_objective_and_seed(ramp, search_rows, options):
    class Wider(ramp):
        def suggest(self, trial):
            return {**super().suggest(trial), "noise": trial.suggest_float("more", 0, 2)}

    base = run(ramp(), search_rows, options, 1)
    others = [
        run(ramp(), SearchRows(search_rows.folds, "c3d4"), options, 1),
        run(Wider(), search_rows, options, 1),
        run(ramp(), search_rows, options.model_copy(update={"objective": "roc_auc"}), 1),
        run(ramp(), search_rows, options, 1, seed=9),
    ]
    assert len({base.study_name, *(other.study_name for other in others)}) == 5
    assert run(ramp(), search_rows, options.model_copy(update={"n_jobs": 4}), 1).study_name == base.study_name


@pytest.mark.parametrize("error", [ValueError, ZeroDivisionError, TrainingError])
def test_a_trial_that_fails_is_recorded_and_the_others_are_kept(ramp, search_rows, options, error):
    study = run(ramp(refuses=lambda tilt: tilt < 0, error=error), search_rows, options, 5)
    states = [trial.state.name for trial in study.trials]
    failed = [trial for trial in study.trials if trial.params["tilt"] < 0]
    assert failed
    assert all(trial.state.name == "FAIL" for trial in failed)
    assert states.count("FAIL") == len(failed) < 5
    assert study.best_params["tilt"] >= 0


def test_failed_trials_count_as_spent(ramp, search_rows, kept):
    run(ramp(refuses=lambda tilt: tilt < 0), search_rows, kept, 4)
    algorithm = ramp(refuses=lambda tilt: tilt < 0)
    run(algorithm, search_rows, kept, 4)
    assert algorithm.fits == []


def test_a_defect_is_not_taken_for_a_failed_trial(ramp, search_rows, options):
    with pytest.raises(TypeError, match="no fit"):
        run(ramp(refuses=lambda tilt: True, error=TypeError), search_rows, options, 2)


def test_a_study_without_a_complete_trial_is_an_error_that_says_so(ramp, search_rows, options):
    with pytest.raises(TrainingError, match=r"No trial of ramp was completed.*ramp\.budget"):
        run(ramp(refuses=lambda tilt: True), search_rows, options, 3)


def test_a_trial_far_below_the_others_is_pruned_before_its_last_fold(ramp, search_rows, options):
    study = run(ramp(), search_rows, options, 12)
    pruned = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.PRUNED]
    assert pruned
    assert all(len(trial.user_attrs["fold_values"]) < 3 for trial in pruned)
    assert max(trial.value for trial in pruned) < study.best_value


def test_a_search_stops_at_its_time(ramp, search_rows, options):
    study = run(ramp(), search_rows, options, 100_000, seconds=0.5)
    assert 0 < len(study.trials) < 1000


def test_progress_tells_trial_best_and_time_left(ramp, search_rows, options, caplog):
    caplog.set_level("INFO")
    run(ramp(), search_rows, options, 2)
    assert "ramp trial 1/2: 0." in caplog.text
    assert "ramp trial 2/2" in caplog.text
    assert "at most 0 s left" in caplog.text


def test_the_folder_of_a_sqlite_storage_is_made(ramp, search_rows, tmp_path):
    options = TuningOptions(storage=f"sqlite:///{tmp_path / 'new' / 'folder' / 'studies.db'}")
    run(ramp(), search_rows, options, 1)
    assert (tmp_path / "new" / "folder" / "studies.db").is_file()


@pytest.mark.parametrize(
    "storage",
    [
        "postgresql+psycopg://ann:s3cret@127.0.0.1:1/studies",
        "nosuch://ann:s3cret@127.0.0.1/studies",
        "mysql+pymysql://ann:s3cret@127.0.0.1/studies",
        "ann:s3cret@127.0.0.1",
    ],
)
def test_a_storage_that_cannot_be_reached_is_told_without_its_password(ramp, search_rows, storage):
    with pytest.raises(TrainingError, match=r"127\.0\.0\.1.*cannot be opened.*tuning\.storage") as caught:
        run(ramp(), search_rows, TuningOptions(storage=storage), 1)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_told(ramp, search_rows, tmp_path):
    file = tmp_path / "studies.db"
    file.write_text("no database" * 1000)
    with pytest.raises(TrainingError, match=r"studies\.db cannot be opened.*not a database"):
        run(ramp(), search_rows, TuningOptions(storage=f"sqlite:///{file}"), 1)


def test_a_folder_that_cannot_be_made_is_told(ramp, search_rows, tmp_path):
    (tmp_path / "file").write_text("in the way")
    options = TuningOptions(storage=f"sqlite:///{tmp_path / 'file' / 'below' / 'studies.db'}")
    with pytest.raises(TrainingError, match="cannot be opened"):
        run(ramp(), search_rows, options, 1)


@pytest.fixture
def tracking(real_registry):
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(real_registry.uri)
    yield real_registry
    mlflow.set_tracking_uri(before)


def test_each_trial_is_a_nested_run_with_its_parameters_and_values(ramp, search_rows, options, tracking):
    with mlflow.start_run(experiment_id=tracking.experiment) as parent:
        study = run(ramp(refuses=lambda tilt: tilt < 0), search_rows, options, 5)
    found = tracking.client.search_runs(
        [tracking.experiment], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )
    by_name = {child.info.run_name: child for child in found}
    assert set(by_name) == {f"ramp trial {number}" for number in range(5)}
    states = set()
    for trial in study.trials:
        child = by_name[f"ramp trial {trial.number}"]
        states.add(trial.state.name)
        assert child.data.params == {name: str(value) for name, value in trial.params.items()}
        assert child.data.tags["algorithm"] == "ramp"
        assert child.data.tags["state"] == trial.state.name
        assert child.info.status == ("FAILED" if trial.state.name == "FAIL" else "FINISHED")
        assert child.data.metrics.get("value") == trial.value
        values = trial.user_attrs.get("fold_values", [])
        assert [child.data.metrics[f"fold_{n}"] for n in range(1, len(values) + 1)] == values
    assert {"COMPLETE", "FAIL"} <= states


def test_without_an_active_run_no_trial_is_logged(ramp, search_rows, options, tracking):
    assert mlflow.active_run() is None
    run(ramp(), search_rows, options, 2)
    assert tracking.client.search_runs([e.experiment_id for e in tracking.client.search_experiments()]) == []


def test_the_first_trial_is_the_defaults(ramp, search_rows, options):
    study = run(ramp(), search_rows, options, 3)

    first = study.trials[0]
    assert first.params == {name: ramp.defaults[name] for name in first.params}
