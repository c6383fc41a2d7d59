from __future__ import annotations

import time
from typing import ClassVar

import mlflow
import numpy as np
import optuna
import pytest
from pydantic import ValidationError

from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.metrics import ScoredRows, average_precision
from fraud_kedro.evaluation.thresholds import ExpectedCost, ThresholdPolicy
from fraud_kedro.pipelines.tuning import storage as storage_module
from fraud_kedro.pipelines.tuning import study as study_module
from fraud_kedro.pipelines.tuning.options import SearchBudget
from fraud_kedro.pipelines.tuning.search_rows import SearchRows
from fraud_kedro.pipelines.tuning.study import Search
from fraud_kedro.pipelines.tuning.trial import best_parameters, failure


def points(study):
    return [(trial.state.name, trial.value, trial.params) for trial in study.trials]


def test_a_study_uses_its_budget_of_trials_and_keeps_the_best(search, ramp, search_rows, options):
    study = search(ramp(), search_rows, options, 6)
    assert len(study.trials) == 6
    complete = [trial.value for trial in study.trials if trial.state.name == "COMPLETE"]
    assert study.best_value == max(complete)
    assert study.best_params["tilt"] > 0


def test_a_trials_value_is_the_mean_of_the_objective_over_the_folds(search, ramp, search_rows, options):
    algorithm = ramp()
    study = search(algorithm, search_rows, options, 3)
    parameters, fold_values = best_parameters(study)
    expected = []
    for fold in search_rows.folds:
        scores = algorithm.log_odds(parameters, fold.judge.features)
        expected.append(average_precision(ScoredRows(fold.judge.labels, scores, fold.judge.weights)))
    assert fold_values == pytest.approx(expected)
    assert study.best_value == pytest.approx(np.mean(expected))


def test_early_stopping_gets_the_judged_rows_and_its_rounds_are_the_median_over_the_folds(
    search, ramp, search_rows, options
):
    algorithm = ramp()
    parameters, _ = best_parameters(search(algorithm, search_rows, options, 1))
    assert [fit["stopping"] for fit in algorithm.fits] == [fold.judge for fold in search_rows.folds]
    sizes = [len(fold.fit) for fold in search_rows.folds]
    assert len(set(sizes)) == 3
    assert parameters["rounds"] == int(np.median(sizes))
    assert set(parameters) == {"tilt", "noise", "rounds"}


def test_a_budget_is_a_total_and_a_resumed_study_goes_on(search, ramp, search_rows, kept):
    first = points(search(ramp(), search_rows, kept, 4))
    algorithm = ramp()
    second = search(algorithm, search_rows, kept, 7)
    assert points(second)[:4] == first
    assert len(second.trials) == 7
    drawn = [trial.params["tilt"] for trial in second.trials]
    assert len(set(drawn)) == 7
    assert {fit["tilt"] for fit in algorithm.fits} == set(drawn[4:])


def test_a_finished_study_fits_nothing_again(search, ramp, search_rows, kept, caplog):
    search(ramp(), search_rows, kept, 3)
    algorithm = ramp()
    caplog.set_level("INFO")
    study = search(algorithm, search_rows, kept, 3)
    assert algorithm.fits == []
    assert len(study.trials) == 3
    assert "all 3 trials were done before" in caplog.text


def test_the_same_seed_gives_the_same_study(search, ramp, search_rows, options):
    # More than the draws at random that come before the sampler learns.
    first = points(search(ramp(), search_rows, options, 14))
    assert points(search(ramp(), search_rows, options, 14)) == first
    assert points(search(ramp(), search_rows, options, 14, seed=2)) != first


def test_a_study_belongs_to_rows_space_objective_and_seed(search, ramp, search_rows, options):
    class Wider(ramp):
        defaults: ClassVar = {**ramp.defaults, "more": 0.0}

        def suggest(self, trial):
            return {**super().suggest(trial), "noise": trial.suggest_float("more", 0, 2)}

    base = search(ramp(), search_rows, options, 1)
    others = [
        search(ramp(), SearchRows(search_rows.folds, "c3d4"), options, 1),
        search(Wider(), search_rows, options, 1),
        search(ramp(), search_rows, options.model_copy(update={"objective": "roc_auc"}), 1),
        search(ramp(), search_rows, options, 1, seed=9),
    ]
    assert len({base.study_name, *(other.study_name for other in others)}) == 5
    assert (
        search(ramp(), search_rows, options.model_copy(update={"warm_start": True}), 1).study_name
        == base.study_name
    )


@pytest.mark.parametrize("error", [ValueError, ZeroDivisionError, TrainingError])
def test_a_trial_that_fails_is_recorded_and_the_others_are_kept(search, ramp, search_rows, options, error):
    study = search(ramp(refuses=lambda tilt: tilt < 0, error=error), search_rows, options, 5)
    states = [trial.state.name for trial in study.trials]
    failed = [trial for trial in study.trials if trial.params["tilt"] < 0]
    assert failed
    assert all(trial.state.name == "FAIL" for trial in failed)
    assert states.count("FAIL") == len(failed) < 5
    assert study.best_params["tilt"] >= 0


def test_failed_trials_count_as_spent(search, ramp, search_rows, kept):
    search(ramp(refuses=lambda tilt: tilt < 0), search_rows, kept, 4)
    algorithm = ramp(refuses=lambda tilt: tilt < 0)
    search(algorithm, search_rows, kept, 4)
    assert algorithm.fits == []


def test_a_defect_is_not_taken_for_a_failed_trial(search, ramp, search_rows, options):
    with pytest.raises(TypeError, match="no fit"):
        search(ramp(refuses=lambda tilt: True, error=TypeError), search_rows, options, 2)


def test_a_study_without_a_complete_trial_is_an_error_that_says_so(search, ramp, search_rows, options):
    with pytest.raises(
        TrainingError,
        match=r"ramp was completed\. All 3 failed, the last one thus: no fit for tilt.*ramp\.budget",
    ):
        search(ramp(refuses=lambda tilt: True), search_rows, options, 3)


def test_a_trial_far_below_the_others_is_pruned_before_its_last_fold(search, ramp, search_rows, options):
    study = search(ramp(), search_rows, options, 12)
    pruned = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.PRUNED]
    assert pruned
    assert all(len(trial.user_attrs["fold_values"]) < 3 for trial in pruned)
    assert max(trial.value for trial in pruned) < study.best_value


def test_a_search_stops_at_its_time(search, ramp, search_rows, options):
    study = search(ramp(), search_rows, options, 100_000, seconds=0.5)
    assert 0 < len(study.trials) < 1000


def test_a_trial_that_its_time_cuts_off_is_tried_again_by_the_next_run(search, ramp, search_rows, kept):
    class Slow(ramp):
        def fit(self, *arguments, **settings):
            # The first trial has its time, whatever it takes; the second one has one fold.
            time.sleep(0.6 if len(self.fits) == 3 else 0.0)
            return super().fit(*arguments, **settings)

    study = search(Slow(), search_rows, kept, 100, seconds=0.6)
    cut = study.trials[1]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL"]
    assert len(cut.user_attrs["fold_values"]) == 1
    assert failure(cut) is None
    study = search(ramp(), search_rows, kept, 2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert study.trials[2].params == cut.params


def test_the_first_trial_is_finished_though_its_time_is_over(search, ramp, search_rows, options):
    study = search(ramp(), search_rows, options, 100, seconds=1e-6)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"]


def test_progress_tells_trial_best_and_time_left(search, ramp, search_rows, options, caplog):
    caplog.set_level("INFO")
    search(ramp(), search_rows, options, 2)
    assert "ramp trial 1/2: 0." in caplog.text
    assert "ramp trial 2/2" in caplog.text
    assert "about 0 s left" in caplog.text


@pytest.fixture
def tracking(real_registry):
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(real_registry.uri)
    yield real_registry
    mlflow.set_tracking_uri(before)


def test_each_trial_is_a_nested_run_with_its_parameters_and_values(
    search, ramp, search_rows, options, tracking
):
    with mlflow.start_run(experiment_id=tracking.experiment) as parent:
        study = search(ramp(refuses=lambda tilt: tilt < 0), search_rows, options, 5)
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


def test_without_an_active_run_no_trial_is_logged(search, ramp, search_rows, options, tracking):
    assert mlflow.active_run() is None
    search(ramp(), search_rows, options, 2)
    assert tracking.client.search_runs([e.experiment_id for e in tracking.client.search_experiments()]) == []


def test_the_first_trial_is_the_defaults(search, ramp, search_rows, options):
    study = search(ramp(), search_rows, options, 3)

    first = study.trials[0]
    assert first.params == {name: ramp.defaults[name] for name in first.params}


def test_prices_are_part_of_a_study_of_cost_and_of_no_other(ramp, search_rows, options):
    def name(objective, review_cost):
        chosen = options.model_copy(update={"objective": objective})
        policy = ThresholdPolicy(ExpectedCost(review_cost=review_cost))
        return Search(ramp(), search_rows, chosen, policy, SearchBudget(trials=1), 0).run().study_name

    assert name("expected_cost", 3) != name("expected_cost", 4)
    assert name("roc_auc", 3) == name("roc_auc", 4)


def test_a_space_with_a_parameter_that_the_fit_does_not_know_is_told_before_any_trial(
    search, ramp, search_rows, options
):
    class Misspelt(ramp):
        def suggest(self, trial):
            return {**super().suggest(trial), "nosie": trial.suggest_float("nosie", 0, 2)}

    algorithm = Misspelt()
    with pytest.raises(
        TrainingError, match=r"search space of ramp has 'nosie'.*It knows: noise, rounds, tilt\."
    ):
        search(algorithm, search_rows, options, 2)
    assert algorithm.fits == []


def test_a_trial_whose_value_is_not_a_number_is_a_failed_trial_with_its_reason(
    search, ramp, search_rows, options, caplog, monkeypatch
):
    """The second trial only."""
    values = iter([0.5, 0.5, 0.5, 0.6, float("nan")])
    monkeypatch.setattr(study_module, "get_objective", lambda *_: lambda rows: next(values, 0.7))
    caplog.set_level("INFO")
    study = search(ramp(), search_rows, options, 4)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert failure(study.trials[1]) == "the objective is nan on fold 2"
    assert "ramp trial 2/4: failed (the objective is nan on fold 2), best 0.5000" in caplog.text
    assert study.best_value == pytest.approx(0.7)


def test_scores_that_are_not_numbers_fail_the_trial(search, ramp, search_rows, options):
    class Broken(ramp):
        def log_odds(self, estimator, features):
            scores = super().log_odds(estimator, features)
            return scores * np.nan if estimator["tilt"] < 0 else scores

    study = search(Broken(), search_rows, options, 6)
    failed = [trial for trial in study.trials if trial.params["tilt"] < 0]
    assert failed
    assert all("NaN" in str(failure(trial)) for trial in failed)
    assert study.best_params["tilt"] >= 0


class Stopped:
    """Stands for Ctrl-C during the given fit."""

    def __init__(self, algorithm, fit):
        self._algorithm, self._fit, self._count = algorithm, fit, 0

    def __getattr__(self, name):
        return getattr(self._algorithm, name)

    def fit(self, *arguments, **options):
        self._count += 1
        if self._count == self._fit:
            raise KeyboardInterrupt
        return self._algorithm.fit(*arguments, **options)


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(search, ramp, search_rows, kept):
    with pytest.raises(TrainingError, match=r"Interrupted\. ramp has 2 of 5 trials.*same command again"):
        search(Stopped(ramp(), fit=8), search_rows, kept, 5)
    algorithm = ramp()
    study = search(algorithm, search_rows, kept, 5)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert study.trials[3].params == study.trials[2].params


def test_a_point_is_tried_again_once_and_not_at_every_run(search, ramp, search_rows, kept):
    for _ in range(2):
        with pytest.raises(TrainingError, match="Interrupted"):
            search(Stopped(ramp(), fit=1), search_rows, kept, 2)
    study = search(ramp(), search_rows, kept, 2)
    tilts = [trial.params["tilt"] for trial in study.trials]
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert tilts[0] == tilts[1] == ramp.defaults["tilt"]
    assert tilts[0] not in tilts[2:]


def test_an_interrupted_trial_is_a_killed_run(search, ramp, search_rows, options, tracking):
    with mlflow.start_run(experiment_id=tracking.experiment) as parent, pytest.raises(TrainingError):
        search(Stopped(ramp(), fit=4), search_rows, options, 5)
    found = tracking.client.search_runs(
        [tracking.experiment], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )
    assert {run.info.run_name: run.info.status for run in found} == {
        "ramp trial 0": "FINISHED",
        "ramp trial 1": "KILLED",
    }


def test_what_another_process_ran_when_it_died_is_not_counted_and_is_tried_again(
    search, ramp, search_rows, kept, monkeypatch
):
    """A trial without a sign of life, as SIGKILL leaves it."""
    monkeypatch.setattr(storage_module, "DEAD_AFTER_SECONDS", 1)
    monkeypatch.setattr(storage_module, "HEARTBEAT_SECONDS", 1)
    first = search(ramp(), search_rows, kept, 1)
    dead = first.ask()
    tilt = ramp().suggest(dead)["tilt"]
    first._storage.record_heartbeat(dead._trial_id)
    time.sleep(2.1)
    study = search(ramp(), search_rows, kept, 3)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[2].params["tilt"] == tilt


@pytest.mark.parametrize("budget", [{"trials": 0}, {"trials": 3, "seconds": 0}, {"trials": -1}])
def test_a_budget_of_nothing_is_told(budget):
    with pytest.raises(ValidationError, match=r"a budget of (0|-1) buys no trial"):
        SearchBudget(**budget)
