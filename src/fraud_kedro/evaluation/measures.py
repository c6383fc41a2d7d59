"""Figures of scored rows under many weightings at once: all bootstrap draws in one pass.

A measure is made for some rows, and sorts them once. It is called with weights of
shape (n_transactions, n_draws), and gives each of its figures as an array of shape
(n_draws,); the figure of the rows themselves is the draw with their own weights.
A figure that is not defined, such as recall without a fraud, is NaN.

Formulas are scikit-learn's where it has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.evaluation.thresholds import Costs, Cuts, decision_costs, reaches
from fraud_kedro.schema import SECONDS_PER_DAY

Draws = NDArray[np.float64]
Measured = dict[str, NDArray[np.float64]]
Measure = Callable[[Draws], Measured]

CALIBRATION_BINS = 10
FALSE_POSITIVE_RATES = {"recall_at_1_percent_fpr": 0.01, "recall_at_0.1_percent_fpr": 0.001}


# Why a figure may not be defined; others need a fraud and a legitimate transaction.
_NEEDS = {"savings": "frauds with an amount above 0"}


def measure(rows: ScoredRows, measures: Iterable[Measure]) -> dict[str, float]:
    """The figures of the rows as they are; those that are not defined are left out.

    Parameters
    ----------
    rows : ScoredRows
    measures : iterable of Measure
        Made for the same rows.
    """
    return {name: value for name, value in _all(rows, measures).items() if np.isfinite(value)}


def left_out(rows: ScoredRows, measures: Iterable[Measure]) -> dict[str, str]:
    """What rows lack for the figures that `measure` leaves out.

    Parameters
    ----------
    rows, measures
        As for `measure`.

    Returns
    -------
    dict of str to str
        A reason by the name of the figure.
    """
    lacking = {name for name, value in _all(rows, measures).items() if not np.isfinite(value)}
    return {name: f"needs {_NEEDS.get(name, 'both classes')}" for name in sorted(lacking)}


def _all(rows: ScoredRows, measures: Iterable[Measure]) -> dict[str, float]:
    found = {}
    for each in measures:
        found.update({name: float(value[0]) for name, value in each(rows.weights[:, None]).items()})
    return found


def ranking(rows: ScoredRows) -> Measure:
    """Average precision, AUC-ROC, and recall at fixed false-positive rates.

    As `sklearn.metrics.average_precision_score`, `roc_auc_score`, and the largest
    recall of `roc_curve` (all points) whose false-positive rate is within the limit.

    All three change at the scores of frauds alone, so legitimate rows are summed up
    between them: what remains to be sorted is as long as the list of frauds.
    """
    fraud = rows.labels == 1
    distinct, group = np.unique(rows.scores[fraud], return_inverse=True)
    below = np.searchsorted(distinct, rows.scores[~fraud], side="left")
    tied = np.searchsorted(distinct, rows.scores[~fraud], side="right") > below
    frauds_at = _summing(np.flatnonzero(fraud), group, (len(distinct), len(rows.labels)))
    # Even cells lie between two scores of frauds, odd ones at a score.
    cells = (2 * len(distinct) + 1, len(rows.labels))
    legitimate_in = _summing(np.flatnonzero(~fraud), 2 * below + tied, cells)

    def measured(weights: Draws) -> Measured:
        frauds, legitimate = frauds_at @ weights, legitimate_in @ weights
        all_frauds, all_legitimate = frauds.sum(axis=0), legitimate.sum(axis=0)
        caught = _from_above(frauds)
        alarms = _from_above(legitimate)[1::2]
        beneath = np.cumsum(legitimate, axis=0)[:-1:2]
        precision = _ratio(caught, caught + alarms)
        recall = _ratio(caught, all_frauds)
        rate = _ratio(alarms, all_legitimate)
        found = {
            "average_precision": _ratio((frauds * precision).sum(axis=0, where=frauds > 0), all_frauds),
            "roc_auc": _ratio(
                (frauds * (beneath + legitimate[1::2] / 2)).sum(axis=0), all_frauds * all_legitimate
            ),
        }
        for name, limit in FALSE_POSITIVE_RATES.items():
            best = np.where(rate <= limit, recall, 0.0).max(axis=0, initial=0.0)
            found[name] = np.where((all_frauds > 0) & (all_legitimate > 0), best, np.nan)
        return found

    return measured


def decisions(rows: ScoredRows, cuts: Cuts) -> Measure:
    """Precision, recall, F1 and false-positive rate at `flag`.

    As `sklearn.metrics.precision_recall_fscore_support` with ``zero_division=0``:
    where nothing is flagged, precision is 0.
    """
    flagged = reaches(rows.scores, cuts.flag)
    fraud = rows.labels == 1
    sums = _sums(flagged & fraud, flagged & ~fraud, fraud, ~fraud)

    def measured(weights: Draws) -> Measured:
        caught, alarms, frauds, legitimate = sums @ weights
        precision = np.where(caught > 0, _ratio(caught, caught + alarms), 0.0)
        f1 = np.where(caught > 0, _ratio(2 * caught, caught + alarms + frauds), 0.0)
        return {
            "precision": np.where(frauds > 0, precision, np.nan),
            "recall": _ratio(caught, frauds),
            "f1": np.where(frauds > 0, f1, np.nan),
            "false_positive_rate": _ratio(alarms, legitimate),
        }

    return measured


def costs_of_decisions(rows: ScoredRows, cuts: Cuts, costs: Costs) -> Measure:
    """Mean cost of a transaction, and the share saved against flagging nothing.

    Savings after Bahnsen, Stojanovic, Aouada, Ottersten (2013), "Cost Sensitive Credit
    Card Fraud Detection Using Bayes Minimum Risk", with the costs of a review and of a
    false decline apart.
    """
    if rows.amounts is None:
        raise ValueError("costs need the amount of each transaction")
    lost = rows.amounts * (rows.labels == 1)
    sums = _sums(decision_costs(rows, cuts, costs), lost, np.ones(len(lost)))

    def measured(weights: Draws) -> Measured:
        cost, nothing, total = sums @ weights
        return {"expected_cost": _ratio(cost, total), "savings": 1 - _ratio(cost, nothing)}

    return measured


def selection_measure(figure: str, rows: ScoredRows, cuts: Cuts, costs: Costs) -> Measure:
    """The measure that gives a figure candidates are chosen by: of the ranking, or `savings`."""
    return costs_of_decisions(rows, cuts, costs) if figure == "savings" else ranking(rows)


def probabilities(rows: ScoredRows, bins: int = CALIBRATION_BINS) -> Measure:
    """Brier score, log loss and expected calibration error.

    The first two as `sklearn.metrics.brier_score_loss` and `log_loss`. The calibration
    error is the weighted mean distance of predicted and observed share of fraud over
    score bins, after Naeini, Cooper, Hauskrecht (2015), "Obtaining Well Calibrated
    Probabilities Using Bayesian Binning", with bins of equal weight, since almost all
    scores of so rare a class lie near 0. The bins are those of the rows as they are,
    whatever weights they are measured under.
    """
    smallest = np.finfo(np.float64).eps
    bounded = np.clip(rows.scores, smallest, 1 - smallest)
    error = rows.scores - rows.labels
    loss = -np.where(rows.labels == 1, np.log(bounded), np.log1p(-bounded))
    gaps = np.where(_bins_of_equal_weight(rows, bins) == np.arange(bins)[:, None], error, 0.0)
    sums = _sums(error**2, loss, np.ones(len(error)), *gaps)

    def measured(weights: Draws) -> Measured:
        squares, losses, total, *distances = sums @ weights
        return {
            "brier_score": _ratio(squares, total),
            "log_loss": _ratio(losses, total),
            "expected_calibration_error": _ratio(np.abs(distances).sum(axis=0), total),
        }

    return measured


def _bins_of_equal_weight(rows: ScoredRows, bins: int) -> NDArray[np.int64]:
    order = np.argsort(rows.scores, kind="stable")
    weights = rows.weights[order]
    # A row belongs to the bin its middle lies in.
    position = (np.cumsum(weights) - weights / 2) / max(weights.sum(), np.finfo(np.float64).tiny)
    bin_of = np.empty(len(order), dtype=np.int64)
    bin_of[order] = np.minimum((position * bins).astype(int), bins - 1)
    return bin_of


def alert_precision(rows: ScoredRows, per_day: int, share: float = 1.0) -> Measure:
    """Precision of the `per_day` highest scores of each day.

    The precision top-k of Le Borgne, Siblini, Lebichot, Bontempi (2022), "Reproducible
    Machine Learning for Credit Card Fraud Detection - Practical Handbook", chapter 4,
    by transaction, over all days together. Days are counted from the first row; what
    is left of a day at the end has its part of the alerts. Among equal scores the
    frauds come last.

    Parameters
    ----------
    rows : ScoredRows
    per_day : int
        Alerts a day, in units of weight.
    share : float
        Of the days' transactions that the rows stand for: below 1 where rows were
        drawn from days that hold others too.
    """
    if rows.seconds is None:
        raise ValueError("alerts a day need the time of each transaction")
    since = rows.seconds - rows.seconds.min()
    day = (since // SECONDS_PER_DAY).astype(np.int64)
    order = np.lexsort((rows.labels, -rows.scores, day))
    starts = np.searchsorted(day[order], np.arange(day.max() + 2))
    # Of the last day a part; of rows that share one moment, a second.
    last = max(float(since.max()) - day.max() * SECONDS_PER_DAY, 1.0) / SECONDS_PER_DAY
    budgets = per_day * share * np.where(np.arange(day.max() + 1) < day.max(), 1.0, last)
    labels = rows.labels[order].astype(np.float64)

    def measured(weights: Draws) -> Measured:
        caught, taken = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
        for budget, start, end in zip(budgets, starts[:-1], starts[1:], strict=True):
            highest = _reaching(weights, order[start:end], budget)
            before = np.cumsum(highest, axis=0) - highest
            alerts = np.clip(budget - before, 0.0, highest)
            caught += labels[start : start + len(highest)] @ alerts
            taken += alerts.sum(axis=0)
        return {f"precision_at_{per_day}_per_day": _ratio(caught, taken)}

    return measured


def _reaching(weights: Draws, order: NDArray[np.intp], budget: float) -> Draws:
    """Weights of the first rows in order, as many as add up to the budget in every draw."""
    count = 256
    while True:
        first = weights[order[:count]]
        if count >= len(order) or first.sum(axis=0).min() >= budget:
            return first
        count *= 2


def _sums(*values: NDArray[Any]) -> csr_array:
    """A matrix that adds up each of the values under the weights.

    Sparse, since most are 0 and a dense product waits for BLAS's threads.
    """
    return csr_array(np.stack(values).astype(np.float64))


def _summing(columns: NDArray[np.intp], into: NDArray[np.intp], shape: tuple[int, int]) -> csr_array:
    """A matrix that adds up the weights of each group of rows."""
    return csr_array((np.ones(len(columns)), (into, columns)), shape=shape)


def _from_above(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.cumsum(values[::-1], axis=0)[::-1])


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    part, whole = np.broadcast_arrays(part, whole)
    ratio: NDArray[np.float64] = np.full(part.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
