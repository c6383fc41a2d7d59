from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fraud_kedro.simulation.fidelity import simulated
from fraud_kedro.simulation.learnability import cross_validate, hold_out, labelled_matrix

LOGISTIC = "logistic regression, balanced"


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return simulated(rows=2_000, frauds=200, duplicates=0, seed=3)


def test_classes_weigh_what_they_stand_for_in_the_full_table(table: pl.DataFrame) -> None:
    data = labelled_matrix(table)
    assert data.features.shape == (2_000, 30)
    assert data.weights[data.labels == 1].sum() == pytest.approx(473)
    assert data.weights[data.labels == 0].sum() == pytest.approx(283_253)


def test_weights_of_the_table_go_before(table: pl.DataFrame) -> None:
    assert set(labelled_matrix(table.with_columns(sample_weight=2.5)).weights) == {2.5}


def test_models_see_the_second_of_the_day(table: pl.DataFrame) -> None:
    time = labelled_matrix(table).features[:, 0]
    np.testing.assert_array_equal(time, table["Time"].to_numpy() % 86_400)
    assert time.max() < 86_400


def test_labels_without_relation_to_the_features_cannot_be_learnt(table: pl.DataFrame) -> None:
    shuffled = table.with_columns(pl.col("Class").shuffle(seed=1))
    auc, _ = cross_validate(shuffled, [LOGISTIC], repeats=1, seed=0, n_jobs=1)[LOGISTIC]
    assert 0.4 < auc < 0.6


def test_frauds_can_be_learnt_and_only_the_named_models_are_fitted(table: pl.DataFrame) -> None:
    found = hold_out(table, [LOGISTIC, "`xgboost`"], seed=0, n_jobs=1)
    assert set(found) == {LOGISTIC, "`xgboost`"}
    assert all(auc > 0.9 and precision > 0.8 for auc, precision in found.values())
