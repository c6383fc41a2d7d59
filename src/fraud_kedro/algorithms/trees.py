"""Tree ensembles as arrays, and the one float32 that stands for a float64 threshold.

The converters of onnxmltools store the float32 nearest to a LightGBM
threshold, which sends the rows on that value to the other side. Here every
threshold becomes the float32 that sends every float32 to the same side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def floor_to_float32(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round each threshold to the largest float32 not above it.

    For every float32 ``x``: ``x <= threshold`` if and only if
    ``x <= floor_to_float32(threshold)``.

    Parameters
    ----------
    thresholds : ndarray, float64
        Not NaN.

    Returns
    -------
    ndarray of the same shape, float32
        ``-inf`` for a threshold below the lowest finite float32.
    """
    exact = np.asarray(thresholds, dtype=np.float64)
    with np.errstate(over="ignore"):
        nearest = exact.astype(np.float32)
    above = nearest.astype(np.float64) > exact
    return np.where(above, np.nextafter(nearest, np.float32(-np.inf)), nearest)


@dataclass(frozen=True)
class Tree:
    """One binary tree of numeric splits, node by node, the root first.

    Attributes
    ----------
    feature : ndarray of shape (n_nodes,), int64
        Index of the feature a node splits on; -1 for a leaf.
    threshold : ndarray of shape (n_nodes,), float32
        Rows below it (or on it, see `TreeEnsemble.inclusive`) go to `left`.
    left, right : ndarray of shape (n_nodes,), int64
        Children's positions; 0 for a leaf.
    value : ndarray of shape (n_nodes, n_scores), float64
        What a leaf adds to each score.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.feature)


@dataclass(frozen=True)
class TreeEnsemble:
    """Trees whose leaves add up to one or more scores.

    Attributes
    ----------
    trees : sequence of Tree
    base : tuple of float, of length n_scores
        The scores before any tree.
    inclusive : bool
        Whether a row on the threshold goes left (``<=``, LightGBM and
        scikit-learn) or right (``<``, XGBoost).
    """

    trees: Sequence[Tree]
    base: tuple[float, ...]
    inclusive: bool

    def split_points(self) -> dict[int, NDArray[np.float32]]:
        """Distinct thresholds of each feature that is split on, sorted."""
        if not self.trees:
            return {}
        feature = np.concatenate([tree.feature for tree in self.trees])
        threshold = np.concatenate([tree.threshold for tree in self.trees])
        return {
            int(index): np.unique(threshold[feature == index]) for index in np.unique(feature[feature >= 0])
        }

    def without_constants(self) -> TreeEnsemble:
        """Add the trees that are a single leaf to the base; the scores stay."""
        splitting = [tree for tree in self.trees if len(tree) > 1]
        constant = [tree.value[0] for tree in self.trees if len(tree) == 1]
        base = np.sum([np.array(self.base), *constant], axis=0)
        return TreeEnsemble(splitting, tuple(base.tolist()), self.inclusive)
