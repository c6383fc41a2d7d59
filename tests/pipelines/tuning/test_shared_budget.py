from __future__ import annotations

import optuna
import pytest

from fraud_kedro.errors import TrainingError
from fraud_kedro.pipelines.tuning import shared_budget
from fraud_kedro.pipelines.tuning.options import SearchBudget, TotalBudget
from fraud_kedro.pipelines.tuning.shared_budget import share, write_down

OWN = SearchBudget(trials=100, seconds=1000)


@pytest.fixture(autouse=True)
def _four_algorithms(monkeypatch):
    monkeypatch.setattr(shared_budget, "ALGORITHM_NAMES", ("a", "b", "c", "d"))


@pytest.fixture
def studies():
    storage = optuna.storages.InMemoryStorage()
    return [optuna.create_study(storage=storage, study_name=name) for name in "abcd"]


def test_without_a_budget_in_all_each_study_has_its_own(studies):
    assert share(studies[0], OWN, TotalBudget(), "run") == OWN


def test_each_study_gets_an_equal_part(studies):
    total = TotalBudget(trials=40, seconds=80)
    for study in studies:
        part = share(study, OWN, total, "run")
        assert part == SearchBudget(trials=10, seconds=20)
        write_down(study, trials=10, seconds=20, run="run")


def test_what_an_early_study_leaves_goes_to_the_later_ones(studies):
    total = TotalBudget(trials=43, seconds=80)
    write_down(studies[0], trials=4, seconds=5, run="run")
    assert share(studies[1], OWN, total, "run") == SearchBudget(trials=13, seconds=25)
    write_down(studies[1], trials=13, seconds=25, run="run")
    write_down(studies[2], trials=13, seconds=25, run="run")
    assert share(studies[3], OWN, total, "run") == SearchBudget(trials=13, seconds=25)


def test_a_study_never_gets_more_than_its_own_budget(studies):
    small = SearchBudget(trials=3)
    assert share(studies[0], small, TotalBudget(trials=400), "run") == small
    assert share(studies[0], small, TotalBudget(seconds=40), "run").seconds == 10


def test_what_another_run_used_does_not_count(studies):
    write_down(studies[0], trials=40, seconds=80, run="before")
    assert share(studies[1], OWN, TotalBudget(trials=40, seconds=80), "run").seconds == 20


def test_a_study_whose_turn_comes_when_all_is_spent_has_one_trial(studies):
    for study in studies[:3]:
        write_down(study, trials=30, seconds=30, run="run")
    part = share(studies[3], OWN, TotalBudget(trials=40, seconds=80), "run")
    assert part.trials == 1
    assert 0 < part.seconds < 0.01


def test_fewer_trials_than_algorithms_are_told(studies):
    with pytest.raises(TrainingError, match=r"tuning\.budget\.trials is 3, but 4 algorithms need one each"):
        share(studies[0], OWN, TotalBudget(trials=3), "run")


def test_searches_of_one_run_keep_to_it(search, ramp, search_rows, kept, monkeypatch):
    monkeypatch.setattr(shared_budget, "ALGORITHM_NAMES", ("ramp", "other"))

    class Other(ramp):
        name = "other"

    options = kept.model_copy(update={"budget": TotalBudget(trials=8)})
    assert len(search(ramp(), search_rows, options, 2).trials) == 2
    assert len(search(Other(), search_rows, options, 50).trials) == 6
