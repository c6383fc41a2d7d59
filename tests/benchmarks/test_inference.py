"""`benchmarks/inference.py`: its contenders, what ends it, its tables."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import inference
from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.model import FraudModel
from fraud_kedro.algorithms.registry import get_algorithm

FEW = {
    "lightgbm": {"num_boost_round": 20},
    "xgboost": {"num_boost_round": 20},
    "random_forest": {"n_estimators": 10},
    "logistic_regression": {},
}


@pytest.fixture(scope="module")
def drawn():
    schema, features, labels = inference.drawn_table(4000)
    return schema, LabelledMatrix(features, labels, np.ones(len(labels)))


def fitted(name, drawn):
    schema, data = drawn
    estimator = get_algorithm(name).fit(data, FEW[name], seed=1, n_jobs=1)
    return FraudModel(name, estimator, inference.CALIBRATION, schema)


@pytest.mark.parametrize("name", FEW)
def test_every_contender_scores_as_the_native_model_does(name, drawn, tmp_path, monkeypatch):
    # Compiling takes too long for a test, and needs packages that the project does not.
    monkeypatch.setattr(inference, "has_compiler", lambda: False)
    ways = list(inference.contenders(fitted(name, drawn), drawn[1], 2, tmp_path))

    assert {inference.LIBRARY, inference.EXPORTED, inference.SHIPPED} <= {way.name for way in ways}
    for way in ways:
        inference.check(name, way, drawn[1].features)


def test_a_contender_that_scores_otherwise_ends_the_program(drawn):
    model = fitted("logistic_regression", drawn)
    wrong = inference.Contender("wrong", lambda rows: model.probability(rows) + 1e-4, model.probability, 1)

    with pytest.raises(SystemExit, match=r"logistic_regression: wrong is 0.0001 away"):
        inference.check("logistic_regression", wrong, drawn[1].features)


def result(contender, rows, seconds, processor=None):
    return {
        "algorithm": "xgboost",
        "contender": contender,
        "threads": 1,
        "rows": rows,
        "seconds": seconds,
        "processor_seconds": processor or seconds,
    }


def test_the_ratios_are_of_the_same_rows_and_threads():
    results = [
        result(inference.SHIPPED, 1, 1e-5),
        result(inference.LIBRARY, 1, 3e-4),
        result(inference.SHIPPED, 5000, 2.0),
        result(inference.LIBRARY, 5000, 3.0, processor=5.0),
    ]

    found = [
        (r["rows"], r["times_faster"], r["times_less_processor_time"]) for r in inference.ratios(results)
    ]

    assert found == [(1, pytest.approx(30), pytest.approx(30)), (5000, 1.5, 2.5)]


def test_the_table_has_a_line_for_each_contender(drawn):
    results = [result(inference.SHIPPED, 1, 1.55e-5), result(inference.SHIPPED, 5000, 2.0)]

    lines = inference.tables(results, [{"options": "plain", "seconds": 1e-5, "processor_seconds": 2e-5}])

    assert f"| xgboost | {inference.SHIPPED} | 1 | 15.5 |  | 2.00 | 2.00 |" in lines
    assert "| plain | 10.0 | 20.0 |" in lines
