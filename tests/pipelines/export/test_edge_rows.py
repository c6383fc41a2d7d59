from __future__ import annotations

import numpy as np
import pytest

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.model import FraudModel
from fraud_kedro.algorithms.registry import get_algorithm
from fraud_kedro.evaluation.calibration import IdentityCalibration
from fraud_kedro.pipelines.export import edge_rows as module
from fraud_kedro.pipelines.export.edge_rows import edge_rows, split_counts
from fraud_kedro.schema import ResolvedSchema

SCHEMA = ResolvedSchema(
    time="Time", time_use="hour_of_day", amount="Amount", label="Class", features=("Time", "V1", "Amount")
)
QUICK = {
    "lightgbm": {"num_boost_round": 20},
    "random_forest": {"n_estimators": 8},
    "xgboost": {"num_boost_round": 20},
    "logistic_regression": {},
}


@pytest.fixture(scope="module")
def rows() -> LabelledMatrix:
    rng = np.random.default_rng(8)
    features = rng.normal(size=(600, 3))
    features[:, 0] = rng.uniform(0, 86_400, 600)
    labels = (features[:, 1] + 0.5 * rng.normal(size=600) > 1).astype(np.int8)
    return LabelledMatrix(features.astype(np.float32), labels, np.ones(600))


def fitted(name: str, rows: LabelledMatrix) -> FraudModel:
    estimator = get_algorithm(name).fit(rows, QUICK[name], seed=1, n_jobs=1)
    return FraudModel(name, estimator, IdentityCalibration(), SCHEMA)


def nodes_reached(ensemble, tree_index: int, row: np.ndarray) -> set[int]:
    tree, node, reached = ensemble.trees[tree_index], 0, {0}
    while tree.feature[node] >= 0:
        value, threshold = row[tree.feature[node]], tree.threshold[node]
        left = value <= threshold if ensemble.inclusive else value < threshold
        node = int(tree.left[node] if left else tree.right[node])
        reached.add(node)
    return reached


@pytest.mark.parametrize("name", ["lightgbm", "random_forest", "xgboost"])
def test_every_split_is_reached_by_a_row_on_its_threshold_and_by_both_neighbours(name, rows):
    model = fitted(name, rows)
    ensemble = get_algorithm(name).trees(model.estimator)
    made = edge_rows(model, rows.features)

    for index, tree in enumerate(ensemble.trees[:5]):
        for node in np.flatnonzero(tree.feature >= 0):
            threshold, feature = tree.threshold[node], tree.feature[node]
            for value in (
                threshold,
                np.nextafter(threshold, np.float32(np.inf)),
                np.nextafter(threshold, np.float32(-np.inf)),
            ):
                on_it = made[made[:, feature] == value]
                assert any(int(node) in nodes_reached(ensemble, index, row) for row in on_it)


@pytest.mark.parametrize("name", QUICK)
def test_the_rows_are_finite_float32_and_hold_the_extremes(name, rows):
    made = edge_rows(fitted(name, rows), rows.features)

    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    largest = np.finfo(np.float32).max
    for feature in range(3):
        column = made[:, feature]
        assert {largest, -largest, 1.0} <= set(column.tolist())
        assert (np.signbit(column) & (column == 0)).any()


def test_the_same_model_and_seed_give_the_same_rows(rows):
    model = fitted("xgboost", rows)

    np.testing.assert_array_equal(edge_rows(model, rows.features), edge_rows(model, rows.features))


def test_too_many_splits_are_sampled(rows, monkeypatch):
    model = fitted("random_forest", rows)
    extremes = len(edge_rows(fitted("logistic_regression", rows), rows.features))
    monkeypatch.setattr(module, "MAX_PROBED_SPLITS", 50)

    assert split_counts(model)[0] > 50
    assert len(edge_rows(model, rows.features)) == extremes + 3 * 50


def test_a_model_without_trees_has_no_splits(rows):
    assert split_counts(fitted("logistic_regression", rows))[0] == 0
