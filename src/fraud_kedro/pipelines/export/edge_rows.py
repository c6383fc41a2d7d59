"""Rows on which a graph and its native model are likeliest to part.

A converted threshold that is off by one float32 shows only on a row that
reaches its node with exactly that value, so the rows are made node by node.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.algorithms.model import ScoringModel, reduce_time
from fraud_kedro.algorithms.trees import Tree, TreeEnsemble

# Three rows are made for each split. The models of the default search space have fewer than this; a
# forest grown without a bound on depth or leaves can have more, and then they are drawn.
MAX_PROBED_SPLITS = 250_000

_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
_EXTREMES = (0.0, -0.0, 1.0, _SMALLEST, -_SMALLEST, 1e30, -1e30, _LARGEST, -_LARGEST)


def split_counts(model: ScoringModel) -> tuple[int, int]:
    """Count the splits of the model's trees, and those that `edge_rows` probes; 0 without trees."""
    ensembles = _with_trees(model)
    counts = [sum(int((tree.feature >= 0).sum()) for tree in ensemble.trees) for ensemble in ensembles]
    return sum(counts), sum(min(count, MAX_PROBED_SPLITS // len(ensembles)) for count in counts)


def edge_rows(model: ScoringModel, base_rows: NDArray[np.float32], *, seed: int = 0) -> NDArray[np.float32]:
    """Make rows at every split of the model, and rows of extreme values.

    For each split a base row is moved into the region of its node, then its
    feature is set to the threshold and to the float32 below and above it. At
    most `MAX_PROBED_SPLITS` splits are probed, drawn by `seed`, the same number
    for each member of an ensemble.

    Parameters
    ----------
    model : ScoringModel
    base_rows : ndarray of shape (n_rows, n_features), float32
        Real rows, at least one.

    Returns
    -------
    ndarray of shape (n_edge_rows, n_features), float32
        Finite.
    """
    rng = np.random.default_rng(seed)
    base_rows = reduce_time(base_rows, model.schema)
    ensembles = _with_trees(model)
    probed = MAX_PROBED_SPLITS // max(1, len(ensembles))
    parts = [_extreme_rows(base_rows)]
    parts += [_split_rows(ensemble, base_rows, probed, rng) for ensemble in ensembles]
    # Beyond the last finite number there is no neighbour to try.
    return np.nan_to_num(np.concatenate(parts), nan=0.0, posinf=_LARGEST, neginf=-_LARGEST)


def rows_not_finite(base_rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make rows with one value that is NaN or infinite, for each feature in turn."""
    n_features = base_rows.shape[1]
    values = np.array([np.nan, np.inf, -np.inf], dtype=np.float32)
    rows = np.tile(base_rows[np.arange(n_features) % len(base_rows)], (len(values), 1, 1))
    for index, value in enumerate(values):
        rows[index, np.arange(n_features), np.arange(n_features)] = value
    return np.asarray(rows.reshape(-1, n_features))


def _with_trees(model: ScoringModel) -> list[TreeEnsemble]:
    return [ensemble for ensemble in model.tree_ensembles() if ensemble.trees]


def _extreme_rows(base_rows: NDArray[np.float32]) -> NDArray[np.float32]:
    n_features = base_rows.shape[1]
    rows = [np.full((1, n_features), value, dtype=np.float32) for value in _EXTREMES]
    observed = [base_rows.min(axis=0), base_rows.max(axis=0)]
    for feature in range(n_features):
        for value in (*_EXTREMES, *(bound[feature] for bound in observed)):
            row = base_rows[[feature % len(base_rows)]].copy()
            row[0, feature] = value
            rows.append(row)
    return np.concatenate(rows)


def _split_rows(
    ensemble: TreeEnsemble, base_rows: NDArray[np.float32], probed: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    sizes = [len(tree) for tree in ensemble.trees]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    splits = np.flatnonzero(np.concatenate([tree.feature for tree in ensemble.trees]) >= 0)
    if len(splits) > probed:
        splits = np.sort(rng.choice(splits, probed, replace=False))
    owner = np.searchsorted(starts, splits, side="right") - 1
    rows = [
        _rows_at(tree, splits[owner == index] - starts[index], ensemble.inclusive, base_rows, rng)
        for index, tree in enumerate(ensemble.trees)
    ]
    return np.concatenate(rows)


def _rows_at(
    tree: Tree,
    nodes: NDArray[np.intp],
    inclusive: bool,
    base_rows: NDArray[np.float32],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Three rows for each of the given split nodes of a tree."""
    low, high = _regions(tree, inclusive, base_rows.shape[1])
    base = base_rows[rng.integers(len(base_rows), size=len(nodes))]
    inside = np.minimum(np.maximum(base, low[nodes]), high[nodes])
    threshold, feature = tree.threshold[nodes], tree.feature[nodes]
    neighbours = (
        threshold,
        np.nextafter(threshold, np.float32(-np.inf)),
        np.nextafter(threshold, np.float32(np.inf)),
    )
    rows = np.repeat(inside[None], len(neighbours), axis=0)
    for index, value in enumerate(neighbours):
        rows[index, np.arange(len(nodes)), feature] = value
    return rows.reshape(-1, base_rows.shape[1])


def _regions(tree: Tree, inclusive: bool, n_features: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lowest and highest value of each feature with which a row reaches a node."""
    low = np.full((len(tree), n_features), -np.inf, dtype=np.float32)
    high = np.full((len(tree), n_features), np.inf, dtype=np.float32)
    reached = [0]
    for node in reached:
        feature = tree.feature[node]
        if feature < 0:
            continue
        left, right, threshold = tree.left[node], tree.right[node], tree.threshold[node]
        low[[left, right]], high[[left, right]] = low[node], high[node]
        below = threshold if inclusive else np.nextafter(threshold, np.float32(-np.inf))
        above = np.nextafter(threshold, np.float32(np.inf)) if inclusive else threshold
        high[left, feature] = min(high[left, feature], below)
        low[right, feature] = max(low[right, feature], above)
        reached += [left, right]
    return low, high
