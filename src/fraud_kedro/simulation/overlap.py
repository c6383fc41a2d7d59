"""How much the classes look alike: a mixture on ranks that leaves every column's quantiles true.

A Gaussian copula per class separates the classes far too well, because frauds
then never look legitimate in all columns at once. Here the normal scores of a
class are a mixture: most transactions are typical, a small share disguises
itself, with the ranks that values of the *other* class have in this class and
with the other class's correlations. Typical transactions compensate: their mean
and covariance are what is left of the class's own correlation matrix, and each
column is mapped through the exact distribution function of its mixture, so its
ranks stay uniform and its values have the class's quantiles whatever the shares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from fraud_kedro.simulation.statistics import ClassStatistics, TableStatistics

# Normal scores beyond these are not known from a sample of the class's size.
_FARTHEST_LEGITIMATE_IN_FRAUD = 2.5
_FARTHEST_FRAUD_IN_LEGITIMATE = 3.3
_LEAST_SPREAD = 0.05
_LEAST_EIGENVALUE = 1e-3
_RANKS = (np.arange(400) + 0.5) / 400


@dataclass(frozen=True)
class Disguise:
    """A share of a class that looks like the other one.

    Attributes
    ----------
    share : float
        Share of the class's transactions.
    pull : float
        How far they go: 0 stays at the class's own median, 1 reaches the other's.
    spread : float
        Their spread, relative to that of the other class.
    """

    share: float
    pull: float
    spread: float = 1.0


@dataclass(frozen=True)
class Component:
    """One normal distribution of the mixture.

    Attributes
    ----------
    share : float
    mean : ndarray of shape (n_columns,)
    covariance : ndarray of shape (n_columns, n_columns)
    """

    share: float
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


# Found with `python -m fraud_kedro.simulation.fidelity`: see docs/simulator.md.
STEALTHY_FRAUDS = (Disguise(share=0.10, pull=1.0),)
FRAUD_LIKE_LEGITIMATE = (Disguise(share=0.0008, pull=1.0),)


def mixture(statistics: TableStatistics, *, of_fraud: bool) -> tuple[Component, ...]:
    """The distribution of a class's normal scores.

    Parameters
    ----------
    statistics : TableStatistics
    of_fraud : bool
        The class of frauds, else of legitimate transactions.

    Returns
    -------
    tuple of Component
        The typical transactions first, then one for each `Disguise`. Shares sum
        to 1, the mean of the whole is 0 and its covariance the class's
        normal-score correlation (up to the projection on positive matrices).
    """
    own, other = statistics.legitimate, statistics.fraud
    disguises, farthest = FRAUD_LIKE_LEGITIMATE, _FARTHEST_FRAUD_IN_LEGITIMATE
    if of_fraud:
        own, other = other, own
        disguises, farthest = STEALTHY_FRAUDS, _FARTHEST_LEGITIMATE_IN_FRAUD
    centre, spread = _scores_of_other(own, other, statistics.levels, farthest)
    disguised = [
        Component(
            disguise.share,
            disguise.pull * centre,
            other.correlation * _outer(np.maximum(disguise.spread * spread, _LEAST_SPREAD)),
        )
        for disguise in disguises
    ]
    share = 1.0 - sum(component.share for component in disguised)
    mean = -sum((c.share * c.mean for c in disguised), np.zeros_like(centre)) / share
    rest = own.correlation - share * _outer(mean)
    for component in disguised:
        rest -= component.share * (component.covariance + _outer(component.mean))
    return (Component(share, mean, _positive_definite(rest / share)), *disguised)


def distribution(components: tuple[Component, ...], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distribution function of each column of a mixture.

    Parameters
    ----------
    scores : ndarray of shape (n_scores,)

    Returns
    -------
    ndarray of shape (n_columns, n_scores)
        Probability of a score not above the given one, column by column.
    """
    total = np.zeros((len(components[0].mean), len(scores)))
    for component in components:
        deviation = np.sqrt(np.diag(component.covariance))
        total += component.share * ndtr((scores - component.mean[:, None]) / deviation[:, None])
    return total


def separation(statistics: TableStatistics) -> NDArray[np.float64]:
    """How well each column alone tells the classes apart.

    Returns
    -------
    ndarray of shape (n_columns,)
        ``|2 AUC - 1|`` of the column: 0 for none, 1 for perfect.
    """
    fraud = statistics.fraud.quantile_matrix
    above = [
        np.mean(_ranks_in(own, statistics.levels, np.interp(_RANKS, statistics.levels, values)))
        for own, values in zip(statistics.legitimate.quantile_matrix, fraud, strict=True)
    ]
    return np.abs(2 * np.array(above) - 1)


def _scores_of_other(
    own: ClassStatistics, other: ClassStatistics, levels: NDArray[np.float64], farthest: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and standard deviation of the other class's values as normal scores of this one."""
    scores = np.array(
        [
            ndtri(_ranks_in(own_values, levels, np.interp(_RANKS, levels, other_values)))
            for own_values, other_values in zip(own.quantile_matrix, other.quantile_matrix, strict=True)
        ]
    )
    scores = np.clip(scores, -farthest, farthest)
    return np.median(scores, axis=1), scores.std(axis=1)


def _ranks_in(
    quantiles: NDArray[np.float64], levels: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Ranks in [0, 1] of values in a distribution; a value with many ties has their middle rank."""
    highest = np.interp(values, quantiles, levels)
    lowest = 1.0 - np.interp(-values, -quantiles[::-1], 1.0 - levels[::-1])
    return np.asarray((highest + lowest) / 2)


def _outer(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.outer(vector, vector)


def _positive_definite(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix with its eigenvalues raised to the least one, its diagonal restored."""
    values, vectors = np.linalg.eigh(matrix)
    if values[0] >= _LEAST_EIGENVALUE:
        return matrix
    raised = (vectors * np.maximum(values, _LEAST_EIGENVALUE)) @ vectors.T
    scale = np.sqrt(np.maximum(np.diag(matrix), _LEAST_EIGENVALUE) / np.diag(raised))
    return np.asarray(raised * _outer(scale))
