"""Draws the values of one class: scores of its mixture, then quantiles by table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from fraud_kedro.simulation.overlap import Mixture, class_mixture
from fraud_kedro.simulation.statistics import TableStatistics

_FARTHEST_SCORE = 12.0
_GRID_POINTS = 8_192


@dataclass(frozen=True)
class ClassSampler:
    """One class's distribution, ready to draw from.

    Attributes
    ----------
    mixture : Mixture
    factors : ndarray of shape (n_components, n_columns, n_columns)
        Lower Cholesky factors of the components' covariances.
    table : ndarray of shape (n_columns, n_grid)
        Each column's value at evenly spaced scores.
    """

    mixture: Mixture
    factors: NDArray[np.float64]
    table: NDArray[np.float64]

    @classmethod
    def of(cls, statistics: TableStatistics, *, of_fraud: bool) -> Self:
        """Prepare the sampler of a class."""
        mixture = class_mixture(statistics, of_fraud=of_fraud)
        own = statistics.fraud if of_fraud else statistics.legitimate
        ranks = mixture.distribution(np.linspace(-_FARTHEST_SCORE, _FARTHEST_SCORE, _GRID_POINTS))
        # Straight lines would bend sharply where the tails begin, and a quantile there would be all noise.
        table = [
            PchipInterpolator(statistics.levels, quantiles)(column_ranks)
            for column_ranks, quantiles in zip(ranks, own.quantile_matrix, strict=True)
        ]
        covariances = np.array([component.covariance for component in mixture.components])
        return cls(mixture, np.asarray(np.linalg.cholesky(covariances), dtype=np.float64), np.array(table))

    def scores(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw scores.

        Returns
        -------
        ndarray of shape (n_columns, count)
        """
        degrees_of_freedom = self.mixture.degrees_of_freedom
        noise = rng.standard_normal((len(self.table), count))
        noise /= np.sqrt(rng.chisquare(degrees_of_freedom, count) / (degrees_of_freedom - 2))
        scores = self.factors[0] @ noise
        scores += self.mixture.components[0].mean[:, None]
        # Their numbers keep to the shares, so that tables differ no more than they must.
        shares = np.cumsum([component.share for component in self.mixture.components[1:]])
        ends = (shares * count + rng.random()).astype(int)
        unusual = np.split(rng.choice(count, size=ends[-1], replace=False), ends[:-1])
        for chosen, component, factor in zip(
            unusual, self.mixture.components[1:], self.factors[1:], strict=True
        ):
            scores[:, chosen] = factor @ noise[:, chosen] + component.mean[:, None]
        return np.asarray(scores)

    def values(self, column: int, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Look up the values of one column at given scores, in the column's unit.

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
