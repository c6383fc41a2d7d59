"""Where to flag and where to decline: thresholds on the calibrated probability.

A policy is a function registered by its ``kind``; the parameters choose one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, RootModel, model_validator

from fraud_kedro.champion.bundle import Thresholds
from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.options import Options, without_other_kinds
from fraud_kedro.schema import SECONDS_PER_DAY


class Costs(Options):
    """What decisions cost, in the table's currency.

    An approved fraud costs its amount, a review `review_cost`, a declined
    legitimate transaction `false_decline_cost`.
    """

    review_cost: float = Field(default=3.0, ge=0)
    false_decline_cost: float = Field(default=20.0, ge=0)


class ExpectedCost(Costs):
    """The thresholds with the least cost on validation rows."""

    kind: Literal["expected_cost"] = "expected_cost"


class AlertBudget(Costs):
    """Flag at most a share of the legitimate transactions, decline at most a smaller one."""

    kind: Literal["alert_budget"]
    flagged_share: float = Field(default=0.001, gt=0, lt=1)
    declined_share: float = Field(default=0.0001, gt=0, lt=1)

    @model_validator(mode="after")
    def _declines_fewer(self) -> AlertBudget:
        if self.declined_share > self.flagged_share:
            raise ValueError(
                f"declined_share ({self.declined_share:g}) should not be above flagged_share "
                f"({self.flagged_share:g}): what is declined is flagged"
            )
        return self


class AlertsPerDay(Costs):
    """Flag at most so many transactions a day, decline at most so many of them."""

    kind: Literal["alerts_per_day"]
    flagged_per_day: float = Field(default=100.0, gt=0)
    declined_per_day: float = Field(default=10.0, gt=0)

    @model_validator(mode="after")
    def _declines_fewer(self) -> AlertsPerDay:
        if self.declined_per_day > self.flagged_per_day:
            raise ValueError(
                f"declined_per_day ({self.declined_per_day:g}) should not be above flagged_per_day "
                f"({self.flagged_per_day:g}): what is declined is flagged"
            )
        return self


class ThresholdPolicy(
    RootModel[Annotated[ExpectedCost | AlertBudget | AlertsPerDay, Field(discriminator="kind")]]
):
    """The ``training.thresholds`` parameters: one of the policies."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _of_one_kind(cls, value: Any) -> Any:
        return without_other_kinds(value, ExpectedCost, AlertBudget, AlertsPerDay)


class Cuts(Protocol):
    """Two thresholds on the calibrated probability, such as `Thresholds`."""

    @property
    def flag(self) -> float:
        """From here on a transaction is reviewed."""

    @property
    def decline(self) -> float:
        """From here on it is declined."""


def choose_thresholds(
    policy: ThresholdPolicy, rows: ScoredRows, amounts: NDArray[np.float64], days: float | None = None
) -> Thresholds:
    """Choose the thresholds on rows that the scoring model has not seen.

    Parameters
    ----------
    policy : ThresholdPolicy
    rows : ScoredRows
    amounts : ndarray of shape (n_transactions,)
    days : float, optional
        Whose transactions the rows' weights add up to; see `covered_days`. Needed for
        a number of alerts a day.

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
    elif isinstance(policy.root, AlertBudget):
        legitimate = weights * (labels == 0)
        limits = np.array([policy.root.flagged_share, policy.root.declined_share])
        flagged, declined = _within_budget(scores, legitimate, limits * legitimate.sum())
    elif days is None:
        raise TrainingError("A number of alerts a day needs to know how many days the rows stand for.")
    else:
        limits = np.array([policy.root.flagged_per_day, policy.root.declined_per_day])
        flagged, declined = _within_budget(scores, weights, limits * days)
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
    scores: NDArray[np.float32], spent: NDArray[np.float64], limits: NDArray[np.float64]
) -> tuple[int, int]:
    """Numbers of rows to flag and to decline, as many as the limits allow."""
    total = np.concatenate([[0.0], np.cumsum(spent)])
    possible = np.concatenate([[True], scores[1:] != scores[:-1], [True]])

    def largest(limit: float) -> int:
        return int(np.flatnonzero((total <= limit) & possible).max())

    flagged, declined = limits
    return largest(flagged), largest(min(declined, flagged))


def _cut(scores: NDArray[np.float32], count: int) -> float:
    """A threshold that `count` of the descending scores reach."""
    if count == 0:
        return 1.0
    if count == len(scores):
        return 0.0
    reached, below = scores[count - 1], scores[count]
    middle = np.float32((np.float64(reached) + np.float64(below)) / 2)
    return float(middle if middle > below else reached)


def covered_days(seconds: NDArray[np.float64], share: float = 1.0) -> float:
    """How many days' transactions rows stand for: the time they span, times their share of it.

    Parameters
    ----------
    seconds : ndarray of shape (n_transactions,)
    share : float
        Below 1 where rows were drawn from days that hold others too.
    """
    # Rows of one moment stand for a second.
    span = max(float(seconds.max() - seconds.min()), 1.0) if len(seconds) else 1.0
    return span / SECONDS_PER_DAY * share


def cost_curve(
    rows: ScoredRows, costs: Costs, flags: NDArray[np.float64], decline: float
) -> NDArray[np.float64]:
    """Mean cost of a transaction if it were flagged from each of many thresholds on.

    Parameters
    ----------
    rows : ScoredRows
        With amounts.
    costs : Costs
    flags : ndarray of shape (n_thresholds,)
    decline : float
        A higher `flag` takes it along.

    Returns
    -------
    ndarray of shape (n_thresholds,), in the table's currency
        As the weighted mean of `decision_costs`.
    """
    if rows.amounts is None:
        raise ValueError("costs need the amount of each transaction")
    order = np.argsort(rows.scores, kind="stable")
    scores = rows.scores[order].astype(np.float32)
    weights, labels = rows.weights[order], rows.labels[order]

    def below(count: NDArray[np.intp], values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([[0.0], np.cumsum(weights * values)])[count]

    everything = np.full(len(flags), len(scores))
    approved = np.searchsorted(scores, flags.astype(np.float32))
    allowed = np.searchsorted(scores, np.maximum(flags, decline).astype(np.float32))
    each, legitimate = np.ones(len(scores)), (labels == 0).astype(np.float64)
    cost = (
        below(approved, rows.amounts[order] * (labels == 1))
        + costs.review_cost * (below(allowed, each) - below(approved, each))
        + costs.false_decline_cost * (below(everything, legitimate) - below(allowed, legitimate))
    )
    return np.asarray(cost / weights.sum())


def decision_costs(rows: ScoredRows, cuts: Cuts, costs: Costs) -> NDArray[np.float64]:
    """What the decision about each transaction costs, without its weight.

    Parameters
    ----------
    rows : ScoredRows
        With amounts.
    cuts : Cuts
        For instance `Thresholds`.
    costs : Costs

    Returns
    -------
    ndarray of shape (n_transactions,), in the table's currency
    """
    if rows.amounts is None:
        raise ValueError("costs need the amount of each transaction")
    scores = rows.scores.astype(np.float32)
    declined = scores >= np.float32(cuts.decline)
    reviewed = (scores >= np.float32(cuts.flag)) & ~declined
    fraud = rows.labels == 1
    approved_fraud = np.where(fraud & ~reviewed & ~declined, rows.amounts, 0.0)
    return np.asarray(
        approved_fraud + costs.review_cost * reviewed + costs.false_decline_cost * (declined & ~fraud)
    )
