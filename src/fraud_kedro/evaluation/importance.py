"""How much worse a ranking is without a feature."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.evaluation.metrics import ScoredRows, average_precision

# Values that are scored in one call: 32 MB.
CELLS = 8_000_000


def class_sample(
    labels: NDArray[np.int8], weights: NDArray[np.float64], rows: int, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Draw rows, half of them frauds where there are so many, and weigh them for the rest.

    Parameters
    ----------
    labels, weights : ndarray of shape (n_transactions,)
    rows : int
        To draw at most.
    seed : int

    Returns
    -------
    chosen : ndarray
        Row numbers, increasing.
    weights : ndarray
        Of the rows that were chosen: they add up to those of all rows, class by class.
    """
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in (0, 1)]
    frauds = min(len(members[1]), max(rows // 2, rows - len(members[0])))
    drawn, weighed = [], []
    for numbers, count in zip(members, (rows - frauds, frauds), strict=True):
        taken = numbers if count >= len(numbers) else generator.choice(numbers, count, replace=False)
        share = weights[taken].sum() / max(weights[numbers].sum(), np.finfo(float).tiny)
        drawn.append(taken)
        weighed.append(weights[taken] / share if share > 0 else weights[taken])
    chosen = np.concatenate(drawn)
    order = np.argsort(chosen, kind="stable")
    return chosen[order], np.concatenate(weighed)[order]


def permutation_importance(
    score: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    data: LabelledMatrix,
    *,
    repeats: int,
    seed: int,
) -> NDArray[np.float64]:
    """Fall of average precision when a feature's values are drawn anew.

    As `sklearn.inspection.permutation_importance` (Breiman 2001; Fisher, Rudin,
    Dominici 2019), but the new values are drawn by weight: rows that were sampled by
    class stand for all, and a shuffled column must look like that of all.

    Parameters
    ----------
    score : callable
        From features to any score that ranks.
    data : LabelledMatrix
    repeats : int
        Draws for each feature.
    seed : int

    Returns
    -------
    ndarray of shape (repeats, n_features)
        0 where the ranking does not depend on the feature.
    """
    generator = np.random.default_rng(seed)
    rows, features = data.features.shape
    chances = data.weights / data.weights.sum()
    # Many features' copies in one call: a forest's threads take longer to start than to score.
    together = max(1, CELLS // data.features.size)
    whole = average_precision(ScoredRows(data.labels, score(data.features), data.weights))
    falls = np.empty((repeats, features))
    for repeat in range(repeats):
        for first in range(0, features, together):
            block = range(first, min(first + together, features))
            copies = np.tile(data.features, (len(block), 1))
            for number, feature in enumerate(block):
                drawn = generator.choice(rows, rows, p=chances)
                copies[number * rows : (number + 1) * rows, feature] = data.features[drawn, feature]
            falls[repeat, block] = [
                whole - average_precision(ScoredRows(data.labels, each, data.weights))
                for each in score(copies).reshape(len(block), rows)
            ]
    return falls
