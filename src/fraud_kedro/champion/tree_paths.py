"""The leaves of a ``TreeEnsembleRegressor``, each with what a row must satisfy to reach it.

A path asks one interval of each feature it splits on: splits on the same
feature are merged. All splits become ``<=`` on float32, so a row takes the side
that onnxruntime takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.errors import ExplanationError

# One bit of a mask for each feature of a path.
MOST_FEATURES = 64

_MODES = (b"LEAF", b"BRANCH_LEQ", b"BRANCH_LT")
_BY_NODE = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_modes",
    "nodes_featureids",
    "nodes_values",
    "nodes_truenodeids",
    "nodes_falsenodeids",
)
_PLAIN: Mapping[str, Any] = {"aggregate_function": b"SUM", "post_transform": b"NONE"}


@dataclass(frozen=True)
class TreePaths:
    """All leaves of an ensemble and the conditions on the ways there.

    Attributes
    ----------
    feature : ndarray of shape (n_conditions,), int64
        Column a condition is about. Conditions of one leaf are neighbours.
    above, up_to : ndarray of shape (n_conditions,), float32
        A row satisfies it with ``above < value <= up_to``.
    first : ndarray of shape (n_leaves + 1,), int64
        Where each leaf's conditions begin.
    values : ndarray of shape (n_leaves, n_scores), float64
        What a leaf adds to each score.
    base : ndarray of shape (n_scores,), float64
        The scores before any tree; trees of a single leaf are part of it.
    """

    feature: NDArray[np.int64]
    above: NDArray[np.float32]
    up_to: NDArray[np.float32]
    first: NDArray[np.int64]
    values: NDArray[np.float64]
    base: NDArray[np.float64]

    @property
    def n_leaves(self) -> int:
        """How many leaves lie below at least one split."""
        return len(self.values)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many conditions each leaf has."""
        return np.diff(self.first)

    def missed(self, row: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Say for each condition whether a row misses it."""
        values = row[self.feature]
        return np.asarray((values <= self.above) | (values > self.up_to))


def tree_paths(attributes: Mapping[str, Any], n_features: int) -> TreePaths:
    """Read the paths from a node's attributes.

    Parameters
    ----------
    attributes : mapping
        As `onnx.helper.get_attribute_value` gives them.
    n_features : int
        Width of what the node reads.

    Returns
    -------
    TreePaths

    Raises
    ------
    ExplanationError
        If the node holds what these rules do not cover.
    """
    nodes = _Nodes(attributes, n_features)
    leaves = np.flatnonzero(nodes.is_leaf & (nodes.parent >= 0))
    features, above, up_to, owners = [], [], [], []
    current, owner = leaves, np.arange(len(leaves))
    for _ in range(len(nodes.parent)):
        parent, left = nodes.parent[current], nodes.is_left[current]
        inner = parent >= 0
        if not inner.any():
            break
        parent, left, owner = parent[inner], left[inner], owner[inner]
        threshold = nodes.threshold[parent]
        features.append(nodes.feature[parent])
        above.append(np.where(left, np.float32(-np.inf), threshold))
        up_to.append(np.where(left, threshold, np.float32(np.inf)))
        owners.append(owner)
        current = parent
    else:
        if len(leaves):
            raise ExplanationError("a tree of the graph leads back to its own root")
    if not len(leaves):
        none, nothing = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return TreePaths(none, nothing, nothing, np.zeros(1, np.int64), nodes.values[leaves], nodes.base)
    owner, feature = np.concatenate(owners), np.concatenate(features)
    order = np.lexsort((feature, owner))
    owner, feature = owner[order], feature[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(owner) != 0) | (np.diff(feature) != 0)])
    paths = TreePaths(
        feature=feature[starts],
        above=np.maximum.reduceat(np.concatenate(above)[order], starts),
        up_to=np.minimum.reduceat(np.concatenate(up_to)[order], starts),
        first=np.r_[0, np.cumsum(np.bincount(owner[starts], minlength=len(leaves)))],
        values=nodes.values[leaves],
        base=nodes.base,
    )
    if paths.lengths.max() > MOST_FEATURES:
        raise ExplanationError(f"a path of the graph's trees asks for more than {MOST_FEATURES} features")
    return paths


class _Nodes:
    """The nodes of all trees, by position instead of by tree and number."""

    def __init__(self, attributes: Mapping[str, Any], n_features: int) -> None:
        for name, plain in _PLAIN.items():
            if attributes.get(name, plain) != plain:
                raise ExplanationError(f"trees with {name} {attributes[name]!r} are not covered")
        try:
            self._read(attributes, n_features)
        except (KeyError, IndexError, ValueError) as error:
            raise ExplanationError(f"the trees of the graph cannot be read: {error}") from error

    def _read(self, attributes: Mapping[str, Any], n_features: int) -> None:
        trees, numbers = (
            np.array(attributes[name], dtype=np.int64) for name in ("nodes_treeids", "nodes_nodeids")
        )
        if len({len(attributes[name]) for name in _BY_NODE}) != 1:
            raise ValueError("its lists differ in length")
        self._width = int(numbers.max()) + 1
        keys = trees * self._width + numbers
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        if (np.diff(self._keys) == 0).any():
            raise ValueError("two nodes have one number")
        modes = np.array(attributes["nodes_modes"])
        if unknown := set(np.unique(modes).tolist()) - set(_MODES):
            raise ValueError(f"splits of the kind {sorted(unknown)[0].decode()} are not covered")
        self.is_leaf = modes == b"LEAF"
        threshold = np.array(attributes["nodes_values"], dtype=np.float32)
        if np.isnan(threshold).any():
            raise ValueError("a threshold is no number")
        # For every float32, `x < t` is `x <= u` with u the float32 before t.
        below = np.nextafter(threshold, np.float32(-np.inf))
        self.threshold = np.where(modes == b"BRANCH_LT", below, threshold)
        self.feature = np.array(attributes["nodes_featureids"], dtype=np.int64)
        split = np.flatnonzero(~self.is_leaf)
        if len(split) and not (0 <= self.feature[split].min() <= self.feature[split].max() < n_features):
            raise ValueError("a split is on a column that does not exist")
        self.parent = np.full(len(keys), -1)
        self.is_left = np.zeros(len(keys), dtype=np.bool_)
        for name, left in (("nodes_truenodeids", True), ("nodes_falsenodeids", False)):
            children = self._positions(trees[split], np.array(attributes[name], dtype=np.int64)[split])
            if len(np.unique(children)) < len(children) or (self.parent[children] >= 0).any():
                raise ValueError("a node has two parents")
            self.parent[children] = split
            self.is_left[children] = left
        n_scores = int(attributes["n_targets"])
        self.values = np.zeros((len(keys), n_scores))
        targets = self._positions(
            np.array(attributes["target_treeids"], dtype=np.int64),
            np.array(attributes["target_nodeids"], dtype=np.int64),
        )
        if not self.is_leaf[targets].all():
            raise ValueError("a split has a value")
        scores = np.array(attributes["target_ids"], dtype=np.int64)
        np.add.at(self.values, (targets, scores), np.array(attributes["target_weights"], dtype=np.float64))
        base = np.array(attributes.get("base_values", ()), dtype=np.float64)
        base = base if len(base) else np.zeros(n_scores)
        alone = self.is_leaf & (self.parent < 0)
        self.base = base + self.values[alone].sum(axis=0)

    def _positions(self, trees: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        wanted = trees * self._width + numbers
        found = np.searchsorted(self._keys, wanted)
        if (found >= len(self._keys)).any() or (self._keys[found] != wanted).any():
            raise ValueError("a node is named that does not exist")
        return self._order[found]
