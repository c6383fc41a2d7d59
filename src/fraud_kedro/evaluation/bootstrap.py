"""How sure a figure is: stratified bootstrap intervals, plain and paired."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.evaluation.measures import Measure
from fraud_kedro.evaluation.metrics import ScoredRows

Key = TypeVar("Key", bound=Hashable)

LEVEL = 0.95
# Weights of so many draws and rows are held at a time: 32 MB.
CELLS = 4_000_000


def resamples(labels: NDArray[np.int8], repetitions: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Row numbers drawn with replacement within each class, once per repetition.

    Stratified, because with a few dozen frauds a plain draw mostly varies how
    many there are.
    """
    generator = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    for _ in range(repetitions):
        yield np.concatenate([generator.choice(rows, len(rows)) for rows in classes])


def bootstrap(
    rows: ScoredRows, measures: Sequence[Measure], *, repetitions: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Every figure on the same resamples of the rows.

    Candidates that are judged on the same rows with one seed share the resamples,
    so their figures can be subtracted draw by draw.

    Parameters
    ----------
    rows : ScoredRows
    measures : sequence of Measure
        Made for the rows.

    Returns
    -------
    dict of str to ndarray of shape (repetitions,)
    """
    drawn = draws(rows, dict(enumerate(measures)), repetitions=repetitions, seed=seed)
    return {name: values for found in drawn.values() for name, values in found.items()}


def draws(
    rows: ScoredRows, measures: Mapping[Key, Measure], *, repetitions: int, seed: int
) -> dict[Key, dict[str, NDArray[np.float64]]]:
    """The figures of several measures, each for itself, on the same resamples of the rows.

    Parameters
    ----------
    rows : ScoredRows
        Whose labels and weights are drawn; their scores are the measures' matter.
    measures : mapping of key to Measure
    repetitions, seed : int

    Returns
    -------
    dict of key to dict of str to ndarray of shape (repetitions,)
    """
    found: dict[Key, dict[str, list[NDArray[np.float64]]]] = {key: {} for key in measures}
    for weights in resampled_weights(rows, repetitions, seed):
        for key, measured in measures.items():
            for name, values in measured(weights).items():
                found[key].setdefault(name, []).append(values)
    return {
        key: {name: np.concatenate(values) for name, values in of_key.items()}
        for key, of_key in found.items()
    }


def resampled_weights(
    rows: ScoredRows, repetitions: int, seed: int, cells: int = CELLS
) -> Iterator[NDArray[np.float64]]:
    """The rows' weights times how often each row is drawn.

    Yields
    ------
    ndarray of shape (n_transactions, n_draws)
        As many draws as fit into `cells` numbers, `repetitions` in all.
    """
    size = len(rows.labels)
    draws = resamples(rows.labels, repetitions, seed)
    while batch := list(islice(draws, max(1, cells // size))):
        counts = np.stack([np.bincount(drawn, minlength=size) for drawn in batch], axis=1)
        yield counts * rows.weights[:, None]


def interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Percentile interval at `LEVEL` (Efron, Tibshirani 1993, chapter 13).

    Parameters
    ----------
    values : ndarray of shape (repetitions,)

    Returns
    -------
    tuple of float, or None
        None if the figure is not defined in more than one draw of twenty.
    """
    defined = values[np.isfinite(values)]
    return _percentiles(defined) if len(defined) >= LEVEL * len(values) else None


def _percentiles(values: list[float] | NDArray[np.float64]) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
