"""How sure a figure is: stratified bootstrap intervals, plain and paired."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.evaluation.metrics import ScoredRows

LEVEL = 0.95


def resamples(labels: NDArray[np.int8], repetitions: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Row numbers drawn with replacement within each class, once per repetition.

    Stratified, because with a few dozen frauds a plain draw mostly varies how
    many there are.
    """
    generator = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    for _ in range(repetitions):
        yield np.concatenate([generator.choice(rows, len(rows)) for rows in classes])


def bootstrap_interval(
    figure: Callable[[ScoredRows], float], rows: ScoredRows, *, repetitions: int, seed: int
) -> tuple[float, float]:
    """Percentile interval of a figure at `LEVEL` (Efron, Tibshirani 1993, chapter 13)."""
    values = [figure(rows.take(drawn)) for drawn in resamples(rows.labels, repetitions, seed)]
    return _percentiles(values)


def paired_difference(
    figure: Callable[[ScoredRows], float],
    candidate: ScoredRows,
    reigning: ScoredRows,
    *,
    repetitions: int,
    seed: int,
) -> tuple[float, float, float]:
    """Difference of a figure between two scores of the same rows, with its interval.

    Returns
    -------
    tuple of float
        Candidate minus reigning, lower end, upper end.
    """
    values = [
        figure(candidate.take(drawn)) - figure(reigning.take(drawn))
        for drawn in resamples(candidate.labels, repetitions, seed)
    ]
    return (figure(candidate) - figure(reigning), *_percentiles(values))


def _percentiles(values: list[float]) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
