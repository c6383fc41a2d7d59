from __future__ import annotations

from typing import ClassVar

import pytest

from fraud_kedro.pipelines.tuning.search_rows import SearchRows


@pytest.fixture
def warm(kept):
    return kept.model_copy(update={"warm_start": True})


def other_rows(search_rows):
    return SearchRows(search_rows.folds, "other rows")


def test_a_new_study_starts_with_the_defaults_and_the_best_of_the_latest_study(
    search, ramp, search_rows, warm, caplog
):
    caplog.set_level("INFO")
    earlier = search(ramp(), search_rows, warm, 8)
    study = search(ramp(), other_rows(search_rows), warm, 3)
    defaults = {"tilt": 1.0, "noise": 0.0}
    assert [trial.params for trial in study.trials[:2]] == [defaults, earlier.best_params]
    assert earlier.best_params != defaults
    assert f"starts with the best parameters of {earlier.study_name}" in caplog.text
    latest = search(ramp(), search_rows, warm, 2, seed=7)
    assert latest.trials[1].params == study.best_params


def test_without_the_option_only_the_defaults_are_known(search, ramp, search_rows, kept):
    alone = search(ramp(), other_rows(search_rows), kept, 2)
    search(ramp(), search_rows, kept, 8)
    again = search(ramp(), other_rows(search_rows), kept.model_copy(update={"storage": "sqlite://"}), 2)
    assert [t.params for t in alone.trials] == [t.params for t in again.trials]


def test_of_an_earlier_point_only_what_the_space_still_contains_is_taken(search, ramp, search_rows, warm):
    class Narrow(ramp):
        defaults: ClassVar = {**ramp.defaults, "noise": "none"}

        def suggest(self, trial):
            tilt = trial.suggest_float("tilt", -1, 1)
            return {
                "tilt": tilt,
                "noise": {"none": 0, "some": 1}[trial.suggest_categorical("noise", ["none", "some"])],
            }

    earlier = search(ramp(), search_rows, warm, 8)
    study = search(Narrow(), search_rows, warm, 2)
    assert study.trials[1].params == {"tilt": earlier.best_params["tilt"], "noise": "none"}


def test_studies_of_other_algorithms_and_without_a_result_are_passed_over(search, ramp, search_rows, warm):
    class Other(ramp):
        name = "other"

    search(Other(), search_rows, warm, 6)
    with pytest.raises(Exception, match="No trial"):
        search(ramp(refuses=lambda tilt: True), other_rows(search_rows), warm, 2)
    study = search(ramp(), search_rows, warm, 2)
    alone = search(ramp(), search_rows, warm.model_copy(update={"storage": "sqlite://"}), 2)
    assert [t.params for t in study.trials] == [t.params for t in alone.trials]
