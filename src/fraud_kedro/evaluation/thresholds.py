"""Where to flag and where to decline: thresholds on the calibrated probability.

A policy is a function registered by its ``kind``; the parameters choose one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, RootModel, model_validator

from fraud_kedro.champion.bundle import Thresholds
from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.options import Options, without_other_kinds


class ExpectedCost(Options):
    """The thresholds with the least cost on validation rows.

    An approved fraud costs its amount, a review `review_cost`, a declined
    legitimate transaction `false_decline_cost`; all in the table's currency.
    """

    kind: Literal["expected_cost"] = "expected_cost"
    review_cost: float = Field(default=3.0, ge=0)
    false_decline_cost: float = Field(default=20.0, ge=0)


class AlertBudget(Options):
    """Flag at most a share of the legitimate transactions, decline at most a smaller one."""

    kind: Literal["alert_budget"]
    flagged_share: float = Field(default=0.001, gt=0, lt=1)
    declined_share: float = Field(default=0.0001, gt=0, lt=1)


class ThresholdPolicy(RootModel[Annotated[ExpectedCost | AlertBudget, Field(discriminator="kind")]]):
    """The ``training.thresholds`` parameters: one of the policies."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _of_one_kind(cls, value: Any) -> Any:
        return without_other_kinds(value, ExpectedCost, AlertBudget)


def choose_thresholds(policy: ThresholdPolicy, rows: ScoredRows, amounts: NDArray[np.float64]) -> Thresholds:
    """Choose the thresholds on rows that the scoring model has not seen.

    Parameters
    ----------
    policy : ThresholdPolicy
    rows : ScoredRows
    amounts : ndarray of shape (n_transactions,)

    Returns
    -------
    Thresholds
        Halfway between neighbouring scores, `flag` <= `decline`.
    """
    order = np.argsort(-rows.scores, kind="stable")
    # As the service compares them: scores that differ only beyond float32 are equal.
    scores, labels = rows.scores[order].astype(np.float32), rows.labels[order]
    weights, amounts = rows.weights[order], amounts[order]
    if isinstance(policy.root, ExpectedCost):
        flagged, declined = _least_cost(policy.root, scores, labels, weights, amounts)
    else:
        flagged, declined = _within_budget(policy.root, scores, labels, weights)
    flag, decline = _cut(scores, flagged), _cut(scores, declined)
    return Thresholds(flag=flag, decline=max(flag, decline), policy=policy.root.kind)


def _least_cost(
    policy: ExpectedCost,
    scores: NDArray[np.float32],
    labels: NDArray[np.int8],
    weights: NDArray[np.float64],
    amounts: NDArray[np.float64],
) -> tuple[int, int]:
    """Numbers of rows to flag and to decline, counted from the highest score.

    The cost is a sum over rows, so what flagging saves and what declining saves
    on top are two running sums; the best pair with declined <= flagged follows
    from one pass over the running minimum.
    """
    missed = weights * amounts * (labels == 1)
    review = weights * policy.review_cost
    decline = weights * policy.false_decline_cost * (labels == 0)
    after_flag = np.concatenate([[0.0], np.cumsum(review - missed)])
    after_decline = np.concatenate([[0.0], np.cumsum(decline - review)])
    # A threshold cannot separate equal scores.
    possible = np.concatenate([[True], scores[1:] != scores[:-1], [True]])
    after_flag[~possible] = np.inf
    after_decline[~possible] = np.inf
    best_decline = np.minimum.accumulate(after_decline)
    flagged = int(np.argmin(after_flag + best_decline))
    declined = int(np.argmin(after_decline[: flagged + 1]))
    return flagged, declined


def _within_budget(
    policy: AlertBudget,
    scores: NDArray[np.float32],
    labels: NDArray[np.int8],
    weights: NDArray[np.float64],
) -> tuple[int, int]:
    legitimate = np.concatenate([[0.0], np.cumsum(weights * (labels == 0))])
    share = legitimate / legitimate[-1]
    possible = np.concatenate([[True], scores[1:] != scores[:-1], [True]])

    def largest(limit: float) -> int:
        return int(np.flatnonzero((share <= limit) & possible).max())

    return largest(policy.flagged_share), largest(min(policy.declined_share, policy.flagged_share))


def _cut(scores: NDArray[np.float32], count: int) -> float:
    """A threshold that `count` of the descending scores reach."""
    if count == 0:
        return 1.0
    if count == len(scores):
        return 0.0
    reached, below = scores[count - 1], scores[count]
    middle = np.float32((np.float64(reached) + np.float64(below)) / 2)
    return float(middle if middle > below else reached)
