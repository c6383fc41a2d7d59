"""The tests behind the verdict, each with a size beside its significance.

What compares distributions are the functions that Evidently's `ks`, `wasserstein`,
`chisquare` and `psi` call or define. Counts are compared by an exact test, since
they are of all rows and of few frauds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# Evidently's own, so that a constant column does not divide by zero.
_LEAST_DEVIATION = 0.001
# In place of an empty bin, as is usual for the index.
_LEAST_SHARE = 1e-4
# A bin with fewer expected counts is joined with its neighbour.
_LEAST_EXPECTED = 5.0


class Distance(NamedTuple):
    """How far one distribution is from another.

    Attributes
    ----------
    statistic, p_value : float
        Of Kolmogorov-Smirnov.
    wasserstein : float
        In standard deviations of the reference.
    shift : float
        Difference of the means, in the same unit.
    """

    statistic: float
    p_value: float
    wasserstein: float
    shift: float


def distance(before: NDArray[np.float64], now: NDArray[np.float64]) -> Distance:
    """Compare a column's values before and now."""
    test = stats.ks_2samp(before, now, method="asymp")
    unit = max(float(before.std()), _LEAST_DEVIATION)
    return Distance(
        statistic=float(test.statistic),
        p_value=float(test.pvalue),
        wasserstein=float(stats.wasserstein_distance(before, now)) / unit,
        shift=float(now.mean() - before.mean()) / unit,
    )


def rate_p_value(before: float, of_before: float, now: int, of_now: int) -> float:
    """Test whether something happens as often as before, given counts of both.

    The exact conditional test of two Poisson rates: given how often it happened in
    all, how many of these are now is binomial. For shares that are not small it
    is on the safe side.

    Parameters
    ----------
    before, now : float
        How often it happened; the first is rounded.
    of_before, of_now : float
        Of how many.

    Returns
    -------
    float
        1 where nothing happened.
    """
    count = round(before) + now
    if count == 0:
        return 1.0
    return float(stats.binomtest(now, count, of_now / (of_before + of_now)).pvalue)


def risen_p_value(before: float, of_before: float, now: int, of_now: int) -> float:
    """Test whether something happens more often than before, given counts of both.

    As `rate_p_value`, but one-sided and with half of the probability of the count
    itself (Lancaster's mid-p, 1961): of a few cases, the exact test finds far fewer
    than its rate of false alarms allows.

    Parameters
    ----------
    before, now : float
        How often it happened; the first is rounded.
    of_before, of_now : float
        Of how many.

    Returns
    -------
    float
    """
    happened = stats.binom(round(before) + now, of_now / (of_before + of_now))
    return float(happened.sf(now) + happened.pmf(now) / 2)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust p-values for how many there are, by Holm's method.

    Returns
    -------
    ndarray
        To compare with the error rate of all of them together.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return adjusted


def shares_p_value(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    """Test whether counts over the same bins come from the same shares, by chi-square.

    Parameters
    ----------
    before, now : ndarray of shape (n_bins,)
        Counts. Neighbours are joined until each has enough.

    Returns
    -------
    float
        1 if fewer than two bins are left.
    """
    table = _joined(np.stack([before, now]))
    if table.shape[1] < 2:
        return 1.0
    return float(stats.chi2_contingency(table, correction=False).pvalue)


def total_variation(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    """Share of the counts that would have to move to another bin."""
    return float(np.abs(before / before.sum() - now / now.sum()).sum() / 2)


def stability_index(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    """Population stability index of counts over the same bins."""
    shares = [np.maximum(counts / counts.sum(), _LEAST_SHARE) for counts in (before, now)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _joined(table: NDArray[np.float64]) -> NDArray[np.float64]:
    share = table.sum(axis=1).min() / table.sum()
    joined: list[NDArray[np.float64]] = []
    waiting = np.zeros(2)
    for column in table.T:
        waiting = waiting + column
        if waiting.sum() * share >= _LEAST_EXPECTED:
            joined.append(waiting)
            waiting = np.zeros(2)
    if joined:
        joined[-1] = joined[-1] + waiting
    return np.array(joined).reshape(-1, 2).T
