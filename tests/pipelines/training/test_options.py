from __future__ import annotations

import pytest
from pydantic import ValidationError

from fraud_kedro.champion.bundle import Thresholds
from fraud_kedro.pipelines.training.options import (
    Comparison,
    Difference,
    Evaluation,
    TrainingOptions,
    figure_of,
)


def candidate(name):
    return Evaluation(
        algorithm=name,
        parameters={},
        thresholds=Thresholds(flag=0.1, decline=0.5, policy="expected_cost"),
        validation={},
        test={},
    )


def difference(first, second, verdict, figure="average_precision"):
    return Difference(
        figure=figure, first=first, second=second, value=0.1, low=0.02, high=0.3, verdict=verdict
    )


COMPARISON = Comparison(
    objective="average_precision",
    champion="a",
    candidates=tuple(map(candidate, "abcd")),
    differences=(
        difference("a", "b", "noise"),
        difference("a", "c", "noise"),
        difference("a", "d", "a"),
        difference("b", "c", "c"),
        difference("a", "b", "b", figure="roc_auc"),
    ),
)


def test_differences_are_turned_so_that_the_candidate_comes_first():
    turned, other = COMPARISON.between("c", "average_precision")
    assert (turned.first, turned.second, turned.value) == ("c", "a", -0.1)
    assert (turned.low, turned.high, turned.verdict) == (-0.3, -0.02, "noise")
    assert (other.first, other.second, other.verdict) == ("c", "b", "c")
    without = difference("a", "b", "noise").model_copy(update={"low": None, "high": None}).turned()
    assert (without.low, without.high) == (None, None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "a",
            "d is worse; b and c are not told apart from it (noise)",
        ),
        (
            "b",
            "c is better; a is not told apart from it (noise)",
        ),
        ("d", "a is better"),
    ],
)
def test_the_verdict_is_a_sentence(name, said):
    assert COMPARISON.verdict(name) == f"Against {name}, by average_precision on test rows: {said}."


def test_nothing_compared_is_nothing_said():
    assert COMPARISON.model_copy(update={"differences": ()}).verdict("a") == ""


def test_the_objective_of_cost_is_followed_by_what_is_saved():
    assert figure_of("expected_cost") == "savings"
    assert COMPARISON.figure == figure_of("average_precision") == "average_precision"


@pytest.mark.parametrize(
    "wrong",
    [
        {"refit": "test"},
        {"bootstrap_repetitions": 1},
        {"n_jobs": 0},
        {"thresholds": {"kind": "x"}},
        {"alerts_per_day": 0},
        {"amount_bands": ["low"]},
        {"explanation": {"shap_rows": 0}},
        {"explanation": {"rows": 5}},
        {"calibration": "sigmoid"},
        {"amount_bands": [float("nan")]},
    ],
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        TrainingOptions.model_validate({"thresholds": {"kind": "expected_cost"}, **wrong})
