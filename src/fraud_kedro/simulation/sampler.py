"""Draws the values of one class: mixture of normal scores, then quantiles by table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.simulation.overlap import distribution, mixture
from fraud_kedro.simulation.statistics import TableStatistics

_FARTHEST_SCORE = 9.0
_GRID_POINTS = 8_192


@dataclass(frozen=True)
class ClassSampler:
    """One class's distribution, ready to draw from.

    Attributes
    ----------
    shares : ndarray of shape (n_components,)
    means : ndarray of shape (n_components, n_columns)
    factors : ndarray of shape (n_components, n_columns, n_columns)
        Lower Cholesky factors of the covariances.
    table : ndarray of shape (n_columns, n_grid)
        Each column's value at evenly spaced normal scores.
    """

    shares: NDArray[np.float64]
    means: NDArray[np.float64]
    factors: NDArray[np.float64]
    table: NDArray[np.float64]

    @classmethod
    def of(cls, statistics: TableStatistics, *, of_fraud: bool) -> Self:
        """The sampler of a class."""
        components = mixture(statistics, of_fraud=of_fraud)
        own = statistics.fraud if of_fraud else statistics.legitimate
        ranks = distribution(components, np.linspace(-_FARTHEST_SCORE, _FARTHEST_SCORE, _GRID_POINTS))
        table = np.array(
            [
                np.interp(column_ranks, statistics.levels, quantiles)
                for column_ranks, quantiles in zip(ranks, own.quantile_matrix, strict=True)
            ]
        )
        return cls(
            shares=np.array([component.share for component in components]),
            means=np.array([component.mean for component in components]),
            factors=np.array([np.linalg.cholesky(component.covariance) for component in components]),
            table=table,
        )

    def scores(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw normal scores.

        Returns
        -------
        ndarray of shape (n_columns, count)
        """
        component = np.searchsorted(np.cumsum(self.shares)[:-1], rng.random(count), side="right")
        noise = rng.standard_normal((len(self.table), count))
        scores = self.factors[0] @ noise
        scores += self.means[0][:, None]
        for number in range(1, len(self.shares)):
            rows = np.flatnonzero(component == number)
            scores[:, rows] = self.factors[number] @ noise[:, rows] + self.means[number][:, None]
        return scores

    def values(self, column: int, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values of one column at given scores, in the column's unit.

        Parameters
        ----------
        column : int
            Position of the column in the statistics.
        scores : ndarray of shape (n_rows,)
        """
        table = self.table[column]
        place = (scores + _FARTHEST_SCORE) * ((_GRID_POINTS - 1) / (2 * _FARTHEST_SCORE))
        np.clip(place, 0, _GRID_POINTS - 1 - 1e-9, out=place)
        lower = place.astype(np.int32)
        place -= lower
        start = table[lower]
        return np.asarray(start + place * (table[lower + 1] - start))
