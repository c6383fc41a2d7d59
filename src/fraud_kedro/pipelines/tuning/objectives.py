"""What a trial may maximise."""

from __future__ import annotations

from collections.abc import Callable

from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.metrics import OBJECTIVES, ScoredRows
from fraud_kedro.evaluation.thresholds import ExpectedCost, ThresholdPolicy, choose_thresholds, decision_costs

Objective = Callable[[ScoredRows], float]


def get_objective(name: str, policy: ThresholdPolicy) -> Objective:
    """Look up an objective; that of cost takes its prices from the threshold policy.

    Returns
    -------
    callable
        From scored rows to a figure of which more is better.
    """
    if name != "expected_cost":
        return OBJECTIVES[name]
    root = policy.root
    prices = ExpectedCost(review_cost=root.review_cost, false_decline_cost=root.false_decline_cost)
    return lambda rows: saved_share(rows, prices)


def saved_share(rows: ScoredRows, prices: ExpectedCost) -> float:
    """Share of the frauds' amounts that the least-cost thresholds save.

    The thresholds are chosen on the same rows: the figure says what the ranking
    is worth, not what a threshold chosen elsewhere would bring.

    Parameters
    ----------
    rows : ScoredRows
        With amounts.
    prices : ExpectedCost

    Returns
    -------
    float
        At most 1; 0 where it is best to flag nothing.
    """
    if rows.amounts is None:
        raise TrainingError("The objective expected_cost needs the amount of each transaction.")
    lost = rows.weights * rows.amounts * (rows.labels == 1)
    if not lost.sum() > 0:
        raise TrainingError(
            "The objective expected_cost needs frauds with an amount above 0 in every fold; one has none."
        )
    thresholds = choose_thresholds(ThresholdPolicy(prices), rows, rows.amounts)
    cost = float(rows.weights @ decision_costs(rows, thresholds, prices))
    return 1 - cost / float(lost.sum())
