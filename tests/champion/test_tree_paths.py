from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_kedro.champion.tree_paths import MOST_FEATURES, tree_paths
from fraud_kedro.errors import ExplanationError

# Two trees, their nodes not in order: x0 <= 1 ? (x1 <= 2 ? 10 : (x0 <= 0.5 ? 20 : 30)) : 40, and a lone leaf.
SPLITS = {
    (0, 0): (0, 1.0, 1, 2),
    (0, 1): (1, 2.0, 3, 4),
    (0, 4): (0, 0.5, 5, 6),
}
LEAVES = {(0, 2): 40.0, (0, 3): 10.0, (0, 5): 20.0, (0, 6): 30.0, (7, 3): 5.0}


def attributes(splits=SPLITS, leaves=LEAVES, branch=b"BRANCH_LEQ", base=(100.0,), **others):
    nodes = [*leaves, *splits]
    split = [splits.get(node, (0, 0.0, 0, 0)) for node in nodes]
    return {
        "nodes_treeids": [tree for tree, _ in nodes],
        "nodes_nodeids": [number for _, number in nodes],
        "nodes_modes": [branch if node in splits else b"LEAF" for node in nodes],
        "nodes_featureids": [s[0] for s in split],
        "nodes_values": [s[1] for s in split],
        "nodes_truenodeids": [s[2] for s in split],
        "nodes_falsenodeids": [s[3] for s in split],
        "target_treeids": [tree for tree, _ in leaves],
        "target_nodeids": [number for _, number in leaves],
        "target_ids": [0] * len(leaves),
        "target_weights": list(leaves.values()),
        "n_targets": 1,
        "base_values": list(base),
    } | others


def walked(row, branch):
    number = 0
    while (0, number) in SPLITS:
        feature, threshold, yes, no = SPLITS[0, number]
        value = row[feature]
        goes = value <= np.float32(threshold) if branch == b"BRANCH_LEQ" else value < np.float32(threshold)
        number = yes if goes else no
    return 105.0 + LEAVES[0, number]


def reached(paths, row):
    missed = paths.missed(np.array(row, dtype=np.float32))
    open_leaves = ~np.logical_or.reduceat(missed, paths.first[:-1])
    return paths.base + open_leaves @ paths.values, open_leaves.sum()


beside = [np.nextafter(np.float32(t), np.float32(d)) for t in (0.5, 1, 2) for d in (-np.inf, np.inf)]
values = st.one_of(st.floats(-3, 3, width=32), st.sampled_from([0.5, 1.0, 2.0, *map(float, beside)]))


@pytest.mark.parametrize("branch", [b"BRANCH_LEQ", b"BRANCH_LT"])
@given(row=st.tuples(values, values))
def test_a_row_satisfies_the_path_of_the_one_leaf_it_reaches(branch, row):
    score, n_leaves = reached(tree_paths(attributes(branch=branch), 2), row)
    assert n_leaves == 1
    assert score == walked(np.array(row, dtype=np.float32), branch)


def test_splits_on_one_feature_are_one_condition_and_a_lone_leaf_is_part_of_the_base():
    paths = tree_paths(attributes(), 2)
    assert paths.n_leaves == 4
    assert sorted(paths.lengths.tolist()) == [1, 2, 2, 2]
    assert paths.base.tolist() == [105.0]


def test_trees_that_never_split_are_a_base_alone():
    paths = tree_paths(attributes(splits={}, leaves={(0, 0): 1.5}), 2)
    assert (paths.n_leaves, paths.base.tolist()) == (0, [101.5])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"aggregate_function": b"AVERAGE"}, "aggregate_function"),
        ({"post_transform": b"LOGISTIC"}, "post_transform"),
        ({"branch": b"BRANCH_GT"}, "BRANCH_GT"),
        ({"splits": {**SPLITS, (0, 4): (0, 0.5, 0, 6)}}, "own root"),
        ({"splits": {**SPLITS, (0, 4): (0, 0.5, 3, 6)}}, "two parents"),
        ({"splits": {**SPLITS, (0, 4): (0, 0.5, 9, 6)}}, "does not exist"),
        ({"splits": {**SPLITS, (0, 4): (2, 0.5, 5, 6)}}, "column that does not exist"),
        ({"target_nodeids": [0, 3, 5, 6, 3]}, "a split has a value"),
        ({"target_ids": [3] * 5}, "cannot be read"),
        ({"nodes_values": [0.0]}, "differ in length"),
        ({"nodes_values": [float("nan")] * 8}, "no number"),
        ({"nodes_modes": []}, "differ in length"),
    ],
)
def test_trees_that_are_none_are_refused(change, words):
    with pytest.raises(ExplanationError, match=words):
        tree_paths(attributes(**change), 2)


def test_a_path_of_more_features_than_a_mask_has_bits_is_refused():
    depth = MOST_FEATURES + 1
    splits = {(0, i): (i, 0.0, i + 1, 1000 + i) for i in range(depth)}
    leaves = {(0, depth): 1.0} | {(0, 1000 + i): 0.0 for i in range(depth)}
    with pytest.raises(ExplanationError, match="more than 64 features"):
        tree_paths(attributes(splits, leaves), depth)
