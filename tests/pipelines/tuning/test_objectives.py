from __future__ import annotations

import numpy as np
import pytest

from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.metrics import ScoredRows, average_precision
from fraud_kedro.evaluation.thresholds import ExpectedCost, ThresholdPolicy
from fraud_kedro.pipelines.tuning.objectives import get_objective, saved_share


def rows(labels, scores, amounts, weights=None):
    return ScoredRows(
        np.array(labels, dtype=np.int8),
        np.array(scores, dtype=np.float64),
        np.ones(len(labels)) if weights is None else np.array(weights, dtype=np.float64),
        None if amounts is None else np.array(amounts, dtype=np.float64),
    )


def least_cost(judged, prices):
    """Every pair of thresholds, one after the other."""
    cuts = [*np.unique(judged.scores), 2.0]
    fraud, weights = judged.labels == 1, judged.weights
    costs = []
    for flag in cuts:
        for decline in (cut for cut in cuts if cut >= flag):
            declined = judged.scores >= decline
            reviewed = (judged.scores >= flag) & ~declined
            missed = fraud & ~declined & ~reviewed
            costs.append(
                (weights * judged.amounts)[missed].sum()
                + prices.review_cost * weights[reviewed].sum()
                + prices.false_decline_cost * weights[declined & ~fraud].sum()
            )
    return min(costs)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_saved_is_what_the_best_of_all_thresholds_saves(seed):
    generator = np.random.default_rng(seed)
    labels = generator.random(60) < 0.2
    judged = rows(
        labels,
        np.round(generator.random(60) * 0.7 + 0.3 * labels, 1),
        generator.gamma(1, 30, 60),
        generator.choice([1.0, 5.0], 60),
    )
    prices = ExpectedCost(review_cost=4, false_decline_cost=15)
    lost = (judged.weights * judged.amounts)[judged.labels == 1].sum()
    assert saved_share(judged, prices) == pytest.approx(1 - least_cost(judged, prices) / lost)


def test_a_perfect_ranking_saves_everything_and_a_useless_one_nothing():
    perfect = rows([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1], [100, 50, 10, 10])
    assert saved_share(perfect, ExpectedCost()) == 1
    upside_down = rows([1, 0, 0, 0], [0.1, 0.7, 0.8, 0.9], [2, 10, 10, 10])
    assert saved_share(upside_down, ExpectedCost()) == 0


def test_large_frauds_count_more_than_small_ones():
    def saved(first, second):
        return saved_share(rows([1, 0, 1, 0], [0.9, 0.8, 0.1, 0.1], [first, 1, second, 1]), ExpectedCost())

    assert saved(500, 5) > saved(5, 500)


def test_prices_come_from_the_threshold_policy_where_it_has_any():
    judged = rows([1, 0, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.1], [40, 1, 1, 40, 1])
    dear = ThresholdPolicy(ExpectedCost(review_cost=30, false_decline_cost=100))
    budget = ThresholdPolicy.model_validate({"kind": "alert_budget"})
    expected = saved_share(judged, ExpectedCost())
    assert get_objective("expected_cost", budget)(judged) == expected
    assert get_objective("expected_cost", dear)(judged) < expected


def test_other_objectives_are_those_of_the_evaluation(policy):
    judged = rows([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1], None)
    assert get_objective("average_precision", policy)(judged) == average_precision(judged)


def test_rows_without_amounts_or_with_worthless_frauds_are_told():
    with pytest.raises(TrainingError, match="needs the amount of each transaction"):
        saved_share(rows([1, 0], [0.9, 0.1], None), ExpectedCost())
    with pytest.raises(TrainingError, match="amount above 0 in every fold"):
        saved_share(rows([1, 0], [0.9, 0.1], [0, 5]), ExpectedCost())


def test_a_study_can_maximise_what_is_saved(search, ramp, search_rows, options):
    study = search(ramp(), search_rows, options.model_copy(update={"objective": "expected_cost"}), 5)
    assert 0 < study.best_value < 1
    assert study.best_params["tilt"] > 0
