"""Shapley values of a tree ensemble against a background, exactly and for one row at once.

Interventional TreeSHAP (Lundberg et al. 2020, "From local explanations to global
understanding with explainable AI for trees"), turned inside out: instead of
walking each tree with each background row, all leaves are looked at together
(Laberge, Pequignot 2022, "Understanding interventional TreeSHAP: how and why it
works"). A leaf counts for a row and a background row when each feature of its
path is satisfied by one of the two. Of the features, those that only the row
satisfies push towards the leaf's value and those that only the background row
satisfies push away; which share each has is known in closed form from how many
there are of either kind.

Background rows that miss the same features of a leaf are one pattern with a
count, found when the explainer is made.
"""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.champion.tree_paths import TreePaths

# uint32 or uint64, one bit for each condition of a leaf.
Masks = NDArray[Any]


class TreeReasons:
    """Explains one ensemble; nothing here changes after construction.

    Parameters
    ----------
    paths : TreePaths
    background : ndarray of shape (n_background, n_features), float32
        What a row is compared with, at least one row.

    Attributes
    ----------
    reference : ndarray of shape (n_scores,), float64
        Mean scores of the background.
    """

    def __init__(self, paths: TreePaths, background: NDArray[np.float32]) -> None:
        self._paths = paths
        self._n_features = background.shape[1]
        lengths = paths.lengths
        self._leaf_of_condition = np.repeat(np.arange(paths.n_leaves), lengths)
        # Half as much to read for every row, and paths are short.
        self._kind = np.uint32 if lengths.max(initial=0) <= 32 else np.uint64
        place = np.arange(len(paths.feature)) - np.repeat(paths.first[:-1], lengths)
        self._bit: Masks = np.left_shift(1, place.astype(self._kind), dtype=self._kind)
        # Score by score, each in one piece.
        self._values = np.ascontiguousarray(paths.values.T)
        self._find_patterns(background)
        self.reference = paths.base + self._share_reaching() @ paths.values
        self._toward, self._away = _shapley_weights(int(lengths.max(initial=0)))

    def contributions(self, row: NDArray[np.float32]) -> NDArray[np.float64]:
        """Split the scores less `reference` among the features.

        Parameters
        ----------
        row : ndarray of shape (n_features,), float32

        Returns
        -------
        ndarray of shape (n_features, n_scores), float64
        """
        missed = self._paths.missed(row)
        own = self._masks(missed)
        met = np.flatnonzero((np.repeat(own, self._patterns_of_leaf) & self._mask) == 0)
        leaf = self._leaf[met]
        own_missed = np.bitwise_count(own)[leaf]
        others_missed, weight = self._size[met], self._weight[met]
        toward = self._toward[others_missed, own_missed] * weight
        away = self._away[others_missed, own_missed] * weight
        return self._pushed(met, leaf, toward) - self._held(missed, leaf, away)

    def _pushed(
        self, patterns: NDArray[np.int64], leaf: NDArray[np.int64], weight: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Share of the features that only the row satisfies: those its pattern misses."""
        lengths = self._size[patterns].astype(np.int64)
        skipped = self._first_missed[patterns] - (np.cumsum(lengths) - lengths)
        at = np.arange(lengths.sum()) + np.repeat(skipped, lengths)
        feature = self._missed_feature[at].astype(np.intp)
        columns = [
            np.bincount(feature, np.repeat(weight * values[leaf], lengths), self._n_features)
            for values in self._values
        ]
        return np.stack(columns, axis=1)

    def _held(
        self, missed: NDArray[np.bool_], leaf: NDArray[np.int64], weight: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Share of the features that only the background satisfies: those the row misses."""
        of_leaf = np.bincount(leaf, weight, self._paths.n_leaves)
        conditions = np.flatnonzero(missed)
        leaves = self._leaf_of_condition[conditions]
        used = of_leaf[leaves] != 0
        feature, leaves = self._paths.feature[conditions[used]], leaves[used]
        columns = [
            np.bincount(feature, (of_leaf * values)[leaves], self._n_features) for values in self._values
        ]
        return np.stack(columns, axis=1)

    def _masks(self, missed: NDArray[np.bool_]) -> Masks:
        """One number for each leaf, its bits the conditions missed."""
        if not self._paths.n_leaves:
            return np.zeros(0, self._kind)
        return np.bitwise_or.reduceat(self._bit * missed, self._paths.first[:-1])

    def _find_patterns(self, background: NDArray[np.float32]) -> None:
        found = np.sort([self._masks(self._paths.missed(row)) for row in background], axis=0).T
        new = np.ones(found.shape, dtype=np.bool_)
        new[:, 1:] = found[:, 1:] != found[:, :-1]
        starts = np.flatnonzero(new)
        counts = np.diff(np.r_[starts, found.size])
        self._mask: Masks = found.ravel()[starts]
        self._leaf = starts // len(background)
        self._patterns_of_leaf = np.count_nonzero(new, axis=1)
        self._weight = counts / len(background)
        self._size = np.bitwise_count(self._mask)
        self._first_missed = np.cumsum(self._size, dtype=np.int64) - self._size
        self._missed_feature = self._features_of_patterns()

    def _features_of_patterns(self) -> NDArray[np.int32]:
        """The features each pattern misses, one pattern after the other."""
        paths = self._paths
        features = np.zeros(int(self._size.sum(dtype=np.int64)), dtype=np.int32)
        # Bit by bit: all conditions of all patterns at once would be the peak of the process's memory.
        for number in range(int(paths.lengths.max(initial=0))):
            bit = self._kind(1) << self._kind(number)
            missing = np.flatnonzero(self._mask & bit)
            before = np.bitwise_count(self._mask[missing] & (bit - self._kind(1)))
            condition = paths.first[self._leaf[missing]] + number
            features[self._first_missed[missing] + before] = paths.feature[condition]
        return features

    def _share_reaching(self) -> NDArray[np.float64]:
        reaching = self._mask == 0
        counted = np.bincount(self._leaf[reaching], self._weight[reaching], self._paths.n_leaves)
        return counted.astype(np.float64)


def _shapley_weights(longest: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of one feature that pushes towards a leaf, and of one that pushes away.

    By how many push towards it (first axis) and away from it (second axis).
    """
    toward, away = np.zeros((2, longest + 1, longest + 1))
    for a in range(longest + 1):
        for b in range(longest + 1 - a):
            if a:
                toward[a, b] = 1 / (a * comb(a + b, b))
            if b:
                away[a, b] = 1 / (b * comb(a + b, b))
    return toward, away
