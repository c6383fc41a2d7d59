from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from fraud_kedro.algorithms.model import to_onnx
from fraud_kedro.champion.tree_paths import tree_paths
from fraud_kedro.champion.tree_reasons import TreeReasons

WIDTH = 4


def grown(rng, n_trees, depth, n_scores):
    """Random trees, as the attributes of a node."""
    nodes = {
        key: []
        for key in ("treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids")
    }
    targets = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}

    def grow(tree, number, left):
        split = left > 0 and rng.random() < 0.85
        children = (2 * number + 1, 2 * number + 2) if split else (0, 0)
        row = (
            tree,
            number,
            b"BRANCH_LEQ" if split else b"LEAF",
            int(rng.integers(WIDTH)),
            float(rng.integers(-2, 3)),
        )
        for key, value in zip(nodes, (*row, *children), strict=True):
            nodes[key].append(value)
        if split:
            for child in children:
                grow(tree, child, left - 1)
            return
        for score in range(n_scores):
            for key, value in zip(targets, (tree, number, score, float(rng.normal())), strict=True):
                targets[key].append(value)

    for tree in range(n_trees):
        grow(tree, 0, depth)
    found = {f"nodes_{key}": value for key, value in nodes.items()}
    return found | {f"target_{key}": value for key, value in targets.items()} | {"n_targets": n_scores}


def scores_of(paths, rows):
    found = []
    for row in rows:
        missed = paths.missed(row)
        open_leaves = (
            ~np.logical_or.reduceat(missed, paths.first[:-1]) if paths.n_leaves else np.zeros(0, bool)
        )
        found.append(paths.base + open_leaves @ paths.values)
    return np.array(found)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000), n_trees=st.integers(1, 4), depth=st.integers(0, 6), size=st.integers(1, 6)
)
def test_contributions_are_shapley_values_by_definition(shapley, seed, n_trees, depth, size):
    rng = np.random.default_rng(seed)
    paths = tree_paths(grown(rng, n_trees, depth, 2), WIDTH)
    # Whole numbers lie on the thresholds.
    background, row = (rng.integers(-3, 4, (n, WIDTH)).astype(np.float32) for n in (size, 1))
    reasons = TreeReasons(paths, background)
    ours = reasons.contributions(row[0])
    for score in range(2):
        theirs = shapley(lambda mixed, s=score: scores_of(paths, mixed)[:, s], row, background)
        np.testing.assert_allclose(ours[:, score], theirs[0], atol=1e-12)
    np.testing.assert_allclose(reasons.reference, scores_of(paths, background).mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(reasons.reference + ours.sum(axis=0), scores_of(paths, row)[0], atol=1e-12)


def test_paths_of_more_than_thirty_two_features_are_explained():
    depth = 50
    chain = {
        "nodes_treeids": [0] * (2 * depth + 1),
        "nodes_nodeids": list(range(2 * depth + 1)),
        "nodes_modes": [b"BRANCH_LEQ"] * depth + [b"LEAF"] * (depth + 1),
        "nodes_featureids": [*range(depth), *[0] * (depth + 1)],
        "nodes_values": [0.0] * (2 * depth + 1),
        "nodes_truenodeids": [*range(1, depth), 2 * depth, *[0] * (depth + 1)],
        "nodes_falsenodeids": [*range(depth, 2 * depth), *[0] * (depth + 1)],
        "target_treeids": [0],
        "target_nodeids": [2 * depth],
        "target_ids": [0],
        "target_weights": [1.0],
        "n_targets": 1,
    }
    # Every feature must be at most zero: the row's are, the background's are not.
    reasons = TreeReasons(tree_paths(chain, depth), np.ones((3, depth), np.float32))
    np.testing.assert_allclose(reasons.contributions(np.zeros(depth, np.float32)), 1 / depth, atol=1e-15)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "random_forest"])
def test_contributions_are_those_of_shap_on_the_native_model(small_models, transactions_of, name):
    import shap

    model = small_models[name]
    (node,) = [n for n in to_onnx(model).graph.node if n.op_type == "TreeEnsembleRegressor"]
    # Off the thresholds: shap rounds those of scikit-learn to float32.
    background, rows = (
        transactions_of(n, seed) + np.float32(0.00314) * np.arange(1, n + 1, dtype=np.float32)[:, None]
        for n, seed in ((30, 21), (60, 22))
    )
    paths = tree_paths({a.name: helper.get_attribute_value(a) for a in node.attribute}, rows.shape[1])
    reasons = TreeReasons(paths, background)
    ours = np.array([reasons.contributions(row)[:, -1] for row in rows])
    explainer = shap.TreeExplainer(model.estimator, background, feature_perturbation="interventional")
    theirs = np.asarray(explainer.shap_values(rows, check_additivity=False))
    # The forest's unit is the share of trees that say fraud.
    theirs = theirs[:, :, 1] if theirs.ndim == 3 else theirs
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert np.abs(theirs).max() > 0.1
