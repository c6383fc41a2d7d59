from __future__ import annotations

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from fraud_kedro.pipelines.tuning.figures import history, importance, parallel_coordinates, slices

PLOTS = [history, importance, slices, parallel_coordinates]


@pytest.fixture
def study():
    return optuna.create_study(study_name="ramp-1", direction="maximize")


def add(study, *values, state=TrialState.COMPLETE):
    for number, value in enumerate(values):
        study.add_trial(
            create_trial(
                state=state,
                value=value if state == TrialState.COMPLETE else None,
                params={"tilt": number / 10},
                distributions={"tilt": FloatDistribution(0, 1)},
                intermediate_values={0: value},
            )
        )


@pytest.mark.parametrize("plot", PLOTS)
def test_a_study_is_drawn_with_its_name(study, plot):
    add(study, 0.1, 0.3, 0.2, 0.4)
    figure = plot(study)
    assert study.study_name in figure.layout.title.text
    assert figure.data


@pytest.mark.parametrize("plot", PLOTS)
def test_a_study_of_pruned_trials_is_an_empty_figure_that_says_why(study, plot):
    add(study, 0.1, 0.3, state=TrialState.PRUNED)
    figure = plot(study)
    assert not figure.data
    assert figure.layout.annotations[0].text.startswith("0 complete trials of 2; this plot needs ")


def test_one_trial_has_a_history_and_no_importance(study):
    add(study, 0.1)
    assert all(plot(study).data for plot in (history, slices, parallel_coordinates))
    assert importance(study).layout.annotations[0].text == "1 complete trial of 1; this plot needs 2"


def test_equal_values_have_no_importance(study):
    add(study, 0.1, 0.1, 0.1)
    assert "all of the same value" in importance(study).layout.annotations[0].text


@pytest.mark.parametrize("values", [(0.1, 0.2), (0.2, 0.1, 0.3)])
def test_few_trials_break_no_plot(study, values, recwarn):
    add(study, *values)
    for plot in PLOTS:
        assert plot(study).to_json()
