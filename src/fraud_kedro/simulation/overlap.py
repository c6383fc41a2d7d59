"""How alike the classes look: mixtures on ranks that leave every column's quantiles true.

A Gaussian copula per class separates the classes far too well, because frauds
then never look legitimate in all columns at once. Here the scores of a class
are a mixture: most transactions are typical, a small share disguises itself,
with the ranks that values of the *other* class have in this class and with the
other class's correlations. Typical transactions compensate: their mean and
covariance are what is left of the class's own correlation matrix. Each column
is mapped through the exact distribution function of its mixture, so its ranks
stay uniform and its values have the class's quantiles whatever the shares.

Every component is a multivariate Student distribution, scaled to its covariance:
real transactions that are extreme in one column tend to be so in others, which
normal distributions deny (Demarta and McNeil, The t Copula and Related Copulas,
International Statistical Review 73, 2005).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from fraud_kedro.simulation.statistics import ClassStatistics, TableStatistics

_LEAST_SPREAD = 0.05
_LEAST_EIGENVALUE = 1e-3
_RANKS = (np.arange(400) + 0.5) / 400


@dataclass(frozen=True)
class Disguise:
    """The share of a class that looks like the other one.

    Attributes
    ----------
    share : float
        Share of the class's transactions.
    pull : float
        How far they go: 0 stays at the class's own centre, 1 reaches the
        other's median in every column.
    spread : float
        Their spread, relative to that of the other class.
    """

    share: float
    pull: float
    spread: float


@dataclass(frozen=True)
class Outliers:
    """The share of a class whose columns are extreme without regard to each other.

    Attributes
    ----------
    share : float
        Share of the class's transactions.
    spread : float
        Their standard deviation in every column, relative to the class's own.
    """

    share: float
    spread: float


@dataclass(frozen=True)
class Component:
    """One Student distribution of the mixture.

    Attributes
    ----------
    share : float
    mean : ndarray of shape (n_columns,)
    covariance : ndarray of shape (n_columns, n_columns)
    """

    share: float
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


@dataclass(frozen=True)
class Mixture:
    """The joint distribution of a class's scores.

    Attributes
    ----------
    degrees_of_freedom : float
        Of every component's Student distribution, above 2.
    components : tuple of Component
        The typical transactions first.
    """

    degrees_of_freedom: float
    components: tuple[Component, ...]

    def distribution(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate the distribution function of each column.

        Parameters
        ----------
        scores : ndarray of shape (n_scores,)

        Returns
        -------
        ndarray of shape (n_columns, n_scores)
            Probability of a score not above the given one, column by column.
        """
        total = np.zeros((len(self.components[0].mean), len(scores)))
        for component in self.components:
            deviation = np.sqrt(np.diag(component.covariance) / variance(self.degrees_of_freedom))
            standard = (scores - component.mean[:, None]) / deviation[:, None]
            total += component.share * stdtr(self.degrees_of_freedom, standard)
        return total


# Found with `python -m fraud_kedro.simulation.fidelity`: see docs/simulator.md.
LEGITIMATE_DEGREES_OF_FREEDOM = 8.0
FRAUD_DEGREES_OF_FREEDOM = 9.0
FRAUD_LIKE_LEGITIMATE = Disguise(share=0.0008, pull=1.5, spread=1.0)
LEGITIMATE_OUTLIERS = Outliers(share=0.02, spread=2.0)
STEALTHY_FRAUDS = Disguise(share=0.10, pull=1.0, spread=0.7)


def variance(degrees_of_freedom: float) -> float:
    """Variance of a standard Student distribution with more than 2 degrees of freedom."""
    return degrees_of_freedom / (degrees_of_freedom - 2)


def class_mixture(statistics: TableStatistics, *, of_fraud: bool) -> Mixture:
    """Build the distribution of a class's scores.

    Parameters
    ----------
    statistics : TableStatistics
    of_fraud : bool
        The class of frauds, else of legitimate transactions.

    Returns
    -------
    Mixture
        Its mean is 0 and its covariance the class's normal-score correlation, up
        to the projection on positive definite matrices.
    """
    own, other, disguise = statistics.legitimate, statistics.fraud, FRAUD_LIKE_LEGITIMATE
    degrees_of_freedom, outliers = LEGITIMATE_DEGREES_OF_FREEDOM, [LEGITIMATE_OUTLIERS]
    if of_fraud:
        own, other, disguise = other, own, STEALTHY_FRAUDS
        degrees_of_freedom, outliers = FRAUD_DEGREES_OF_FREEDOM, []
    centre, spread = _scores_of_other(own, other, statistics.levels, degrees_of_freedom)
    disguised = Component(
        disguise.share,
        disguise.pull * centre,
        other.correlation * _outer(np.maximum(disguise.spread * spread, _LEAST_SPREAD)),
    )
    unusual = [
        disguised,
        *(Component(o.share, np.zeros_like(centre), o.spread**2 * np.eye(len(centre))) for o in outliers),
    ]
    share = 1.0 - sum(component.share for component in unusual)
    mean = -disguised.share * disguised.mean / share
    rest = own.correlation - share * _outer(mean)
    for component in unusual:
        rest -= component.share * (component.covariance + _outer(component.mean))
    return Mixture(degrees_of_freedom, (Component(share, mean, _positive_definite(rest / share)), *unusual))


def separation(statistics: TableStatistics) -> NDArray[np.float64]:
    """Measure how well each column alone tells the classes apart.

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
    return np.abs(2 * np.array(above, dtype=np.float64) - 1)


def _scores_of_other(
    own: ClassStatistics, other: ClassStatistics, levels: NDArray[np.float64], degrees_of_freedom: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and standard deviation of the other class's values as scores of this one."""
    ranks = np.array(
        [
            _ranks_in(own_values, levels, np.interp(_RANKS, levels, other_values))
            for own_values, other_values in zip(own.quantile_matrix, other.quantile_matrix, strict=True)
        ]
    )
    # A sample says nothing of ranks beyond its first and last row.
    farthest = 0.5 / own.sample_size
    scores = stdtrit(degrees_of_freedom, np.clip(ranks, farthest, 1 - farthest))
    scores /= np.sqrt(variance(degrees_of_freedom))
    return np.median(scores, axis=1), scores.std(axis=1)


def _ranks_in(
    quantiles: NDArray[np.float64], levels: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Ranks in [0, 1] of values in a distribution; a value with many ties has their middle rank."""
    highest = np.interp(values, quantiles, levels)
    lowest = 1.0 - np.interp(-values, -quantiles[::-1], 1.0 - levels[::-1])
    return np.asarray((highest + lowest) / 2)


def _outer(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.multiply.outer(vector, vector))


def _positive_definite(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raise the eigenvalues to the least one and restore the diagonal."""
    values, vectors = np.linalg.eigh(matrix)
    if values[0] >= _LEAST_EIGENVALUE:
        return matrix
    raised = (vectors * np.maximum(values, _LEAST_EIGENVALUE)) @ vectors.T
    scale = np.sqrt(np.maximum(np.diag(matrix), _LEAST_EIGENVALUE) / np.diag(raised))
    return np.asarray(raised * _outer(scale))
