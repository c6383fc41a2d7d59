"""How closely simulated columns follow the statistics they were drawn from."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from fraud_kedro.simulation.schedule import SECONDS_PER_HOUR
from fraud_kedro.simulation.statistics import HOURS_PER_DAY, ClassStatistics, ulb_statistics

INNER_LEVELS = (0.01, 0.99)


def quantile_deviations(table: pl.DataFrame, *, of_fraud: bool) -> dict[str, float]:
    """Measure the largest deviation of each column's quantiles from the statistics, within a class.

    Parameters
    ----------
    table : polars.DataFrame
        Simulated transactions.

    Returns
    -------
    dict of str to float
        By column, the largest difference over the levels from 1 % to 99 %, as a
        share of the range between these two quantiles.
    """
    statistics = ulb_statistics()
    own = _statistics_of_class(of_fraud=of_fraud)
    rows = _of_class(table, of_fraud=of_fraud)
    levels = statistics.levels
    inner = (levels >= INNER_LEVELS[0]) & (levels <= INNER_LEVELS[1])
    deviations = {}
    for column, quantiles in own.quantiles.items():
        expected = np.array(quantiles)[inner]
        found = np.quantile(rows[column].to_numpy(), levels[inner])
        deviations[column] = float(np.abs(found - expected).max() / (expected[-1] - expected[0]))
    return deviations


def hour_shares(table: pl.DataFrame, *, of_fraud: bool) -> NDArray[np.float64]:
    """Count the share of a class's transactions in each hour of the day, shape (24,)."""
    time = _of_class(table, of_fraud=of_fraud)[ulb_statistics().time_column].to_numpy()
    hours = (time // SECONDS_PER_HOUR % HOURS_PER_DAY).astype(np.int64)
    return np.bincount(hours, minlength=HOURS_PER_DAY) / len(hours)


def normal_scores(table: pl.DataFrame, *, of_fraud: bool) -> NDArray[np.float64]:
    """Turn a class's values into normal quantiles of their ranks, shape (n_rows, n_columns)."""
    values = _of_class(table, of_fraud=of_fraud).select(ulb_statistics().columns).to_numpy()
    return np.asarray(ndtri((rankdata(values, axis=0) - 0.5) / len(values)), dtype=np.float64)


def correlation_deviation(table: pl.DataFrame, *, of_fraud: bool) -> float:
    """Measure the mean absolute deviation of the normal-score correlations from the statistics."""
    own = _statistics_of_class(of_fraud=of_fraud)
    found = np.asarray(np.corrcoef(normal_scores(table, of_fraud=of_fraud), rowvar=False))
    above = np.triu_indices(len(found), k=1)
    return float(np.abs(found - own.correlation)[above].mean())


def joint_distances(table: pl.DataFrame, *, of_fraud: bool) -> NDArray[np.float64]:
    """Compute each row's squared Mahalanobis distance in normal scores, shape (n_rows,).

    Its upper quantiles tell how far columns are extreme together.
    """
    scores = normal_scores(table, of_fraud=of_fraud)
    precision = np.linalg.inv(np.corrcoef(scores, rowvar=False))
    return np.asarray(np.einsum("ij,jk,ik->i", scores, precision, scores), dtype=np.float64)


def _statistics_of_class(*, of_fraud: bool) -> ClassStatistics:
    return ulb_statistics().fraud if of_fraud else ulb_statistics().legitimate


def _of_class(table: pl.DataFrame, *, of_fraud: bool) -> pl.DataFrame:
    return table.filter(pl.col(ulb_statistics().label_column) == int(of_fraud))
