from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.errors import TrainingError
from fraud_kedro.pipelines.tuning.search_rows import draw_rows, make_folds
from fraud_kedro.schema import ResolvedSchema

SCHEMA = ResolvedSchema(
    time="Time",
    time_use="raw",
    amount="Amount",
    label="Class",
    sample_weight="w",
    features=("Time", "Amount"),
)


def table(size=1000, every=20, seed=0):
    """Weighted rows a second apart; time is a feature, so that a row can be told from its matrix."""
    generator = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "Time": np.arange(size, dtype=np.float64),
            "Amount": generator.gamma(1, 50, size),
            "Class": (np.arange(size) % every == 0).astype(np.int8),
            "w": generator.choice([1.0, 2.0, 60.0], size),
        }
    )


def matrix(times, labels):
    features = np.column_stack([times, np.arange(len(times))]).astype(np.float32)
    return LabelledMatrix(features, np.asarray(labels, dtype=np.int8), np.ones(len(times)))


@st.composite
def timed_rows(draw):
    size = draw(st.integers(10, 80))
    times = np.array(draw(st.lists(st.integers(0, 60), min_size=size, max_size=size)), dtype=np.float64)
    labels = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    return matrix(times, labels), times


def folds_of(rows, *, kind, folds, seed=0):
    try:
        return make_folds(*rows, kind=kind, folds=folds, seed=seed)
    except TrainingError:
        assume(False)
        raise


def numbers(part):
    """Which rows of `matrix` a part has."""
    return part.features[:, 1].astype(int)


@pytest.mark.parametrize("legitimate_rows", [100, 500, 949, 950, 5000])
def test_weights_after_down_sampling_add_up_to_the_tables(legitimate_rows):
    frame = table()
    data, _ = draw_rows(frame, SCHEMA, legitimate_rows, seed=3)
    for label in (0, 1):
        expected = frame.filter(pl.col("Class") == label)["w"].sum()
        assert data.weights[data.labels == label].sum() == pytest.approx(expected)


def test_all_frauds_take_part_with_their_own_weights():
    frame = table()
    data, times = draw_rows(frame, SCHEMA, 100, seed=3)
    frauds = frame.filter(pl.col("Class") == 1)
    assert len(data) == 100 + frauds.height
    np.testing.assert_array_equal(times[data.labels == 1], frauds["Time"])
    np.testing.assert_array_equal(data.weights[data.labels == 1], frauds["w"])


def test_drawn_rows_keep_their_values_and_the_tables_order():
    data, times = draw_rows(table(), SCHEMA, 200, seed=3)
    assert (np.diff(times) > 0).all()
    np.testing.assert_array_equal(data.features[:, 0], times.astype(np.float32))


def test_a_small_table_is_taken_whole():
    frame = table()
    data, times = draw_rows(frame, SCHEMA, 950, seed=3)
    np.testing.assert_array_equal(times, frame["Time"])
    np.testing.assert_array_equal(data.weights, frame["w"])


def test_the_draw_follows_the_seed():
    first, same, other = (draw_rows(table(), SCHEMA, 100, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


@given(timed_rows(), st.integers(2, 4))
def test_no_row_of_a_rolling_fold_is_fitted_after_one_that_is_judged(rows, folds):
    for fold in folds_of(rows, kind="temporal", folds=folds):
        assert fold.fit.features[:, 0].max() < fold.judge.features[:, 0].min()


@given(timed_rows(), st.integers(2, 4))
def test_rolling_folds_judge_each_later_row_once_and_fit_on_all_before(rows, folds):
    made = folds_of(rows, kind="temporal", folds=folds)
    judged = np.concatenate([numbers(fold.judge) for fold in made])
    assert len(set(judged)) == len(judged)
    assert set(judged) | set(numbers(made[0].fit)) == set(range(len(rows[1])))
    for earlier, later in pairwise(made):
        assert set(numbers(later.fit)) == set(numbers(earlier.fit)) | set(numbers(earlier.judge))


@given(timed_rows(), st.integers(2, 4), st.integers(0, 3))
def test_stratified_folds_judge_each_row_once_and_fit_on_all_others(rows, folds, seed):
    made = folds_of(rows, kind="stratified", folds=folds, seed=seed)
    everything = set(range(len(rows[1])))
    judged = [number for fold in made for number in numbers(fold.judge)]
    assert sorted(judged) == sorted(everything)
    for fold in made:
        assert set(numbers(fold.fit)) == everything - set(numbers(fold.judge))
    frauds = [int(fold.judge.labels.sum()) for fold in made]
    assert max(frauds) - min(frauds) <= 1


def test_a_fold_keeps_features_labels_and_weights_together():
    data, times = draw_rows(table(), SCHEMA, 500, seed=0)
    for kind in ("temporal", "stratified"):
        for fold in make_folds(data, times, kind=kind, folds=3, seed=0):
            for part in (fold.fit, fold.judge):
                rows = np.searchsorted(times, part.features[:, 0])
                np.testing.assert_array_equal(part.labels, data.labels[rows])
                np.testing.assert_array_equal(part.weights, data.weights[rows])


def test_a_fold_without_fraud_is_named():
    times = np.arange(100.0)
    labels = np.zeros(100)
    labels[[5, 90, 95]] = 1
    with pytest.raises(
        TrainingError, match=r"Fold 1 of 3 has 0 frauds among its 20 rows to judge on.*tuning\.folds"
    ):
        make_folds(matrix(times, labels), times, kind="temporal", folds=3, seed=0)


def test_fewer_frauds_than_folds_is_told():
    times = np.arange(100.0)
    labels = np.zeros(100)
    labels[:2] = 1
    with pytest.raises(TrainingError, match=r"2 frauds are too few for 3 folds"):
        make_folds(matrix(times, labels), times, kind="stratified", folds=3, seed=0)


def test_fewer_legitimate_rows_than_folds_is_told_of_them():
    times = np.arange(100.0)
    labels = np.ones(100)
    labels[:2] = 0
    with pytest.raises(TrainingError, match="2 legitimate transactions are too few for 3 folds"):
        make_folds(matrix(times, labels), times, kind="stratified", folds=3, seed=0)


def test_rows_to_judge_on_begin_after_the_gap():
    times = np.arange(1000.0)
    labels = (np.arange(1000) % 5 == 0).astype(np.int8)
    data = matrix(times, labels)

    for fold in make_folds(data, times, kind="temporal", folds=3, seed=0, gap_seconds=30):
        assert fold.judge.features[:, 0].min() >= fold.fit.features[:, 0].max() + 30
