from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from fraud_kedro.errors import DataError, SchemaError
from fraud_kedro.pipelines.data_processing.splits import (
    PARTS,
    SplitOptions,
    StratifiedSplit,
    TemporalSplit,
    assign_parts,
)

shares = st.sampled_from([(0.2, 0.2), (0.1, 0.3), (0.4, 0.5), (0.01, 0.01)])


@st.composite
def tables(draw):
    """Times with many ties, in any order, and labels."""
    size = draw(st.integers(3, 120))
    times = draw(st.lists(st.integers(0, 40), min_size=size, max_size=size))
    labels = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    return np.array(times, dtype=np.float64), np.array(labels, dtype=np.int8)


def assign(split, table, seed=0):
    """The parts, for tables whose parts all have both classes."""
    try:
        return assign_parts(split, *table, seed)
    except DataError:
        assume(False)
        raise


def steady(size=1000, every=10):
    """A transaction a second, every tenth a fraud."""
    return np.arange(size, dtype=np.float64), (np.arange(size) % every == 0).astype(np.int8)


@given(tables(), shares, st.sampled_from([0.0, 3.0]))
def test_no_training_time_is_after_a_validation_or_test_time(table, share, gap):
    split = TemporalSplit(validation=share[0], test=share[1], gap_seconds=gap)
    parts = assign(split, table)
    times = table[0]
    last_train, last_validation = times[parts == 0].max(), times[parts == 1].max()
    assert last_train + gap < times[parts == 1].min() or gap == 0
    assert last_train < times[parts == 1].min()
    assert last_validation < times[parts == 2].min()


@given(tables(), shares)
def test_transactions_of_the_same_second_stay_together(table, share):
    parts = assign(TemporalSplit(validation=share[0], test=share[1]), table)
    for second in np.unique(table[0]):
        assert len(set(parts[table[0] == second])) == 1


@given(tables(), shares)
def test_without_a_gap_each_row_is_in_exactly_one_part(table, share):
    for split in (
        TemporalSplit(validation=share[0], test=share[1]),
        StratifiedSplit(kind="stratified", validation=share[0], test=share[1]),
    ):
        parts = assign(split, table)
        assert parts.shape == table[0].shape
        assert set(parts) == {0, 1, 2}


@given(tables(), shares, st.integers(0, 5))
def test_stratified_parts_have_each_classs_share_to_within_one_row(table, share, seed):
    parts = assign(StratifiedSplit(kind="stratified", validation=share[0], test=share[1]), table, seed)
    for label in (0, 1):
        of_class = parts[table[1] == label]
        for part, expected in ((1, share[0]), (2, share[1])):
            assert abs((of_class == part).sum() - expected * len(of_class)) <= 1


@given(tables(), st.integers(0, 5))
def test_the_same_seed_gives_the_same_split(table, seed):
    split = StratifiedSplit(kind="stratified")
    first = assign(split, table, seed)
    np.testing.assert_array_equal(first, assign_parts(split, *table, seed))


def test_another_seed_gives_another_stratified_split_but_the_same_temporal_one():
    table = steady()
    stratified = StratifiedSplit(kind="stratified")
    assert (assign_parts(stratified, *table, 0) != assign_parts(stratified, *table, 1)).any()
    np.testing.assert_array_equal(
        assign_parts(TemporalSplit(), *table, 0), assign_parts(TemporalSplit(), *table, 1)
    )


def test_the_order_of_rows_does_not_matter_to_time():
    times, labels = steady()
    order = np.random.default_rng(0).permutation(len(times))
    np.testing.assert_array_equal(
        assign_parts(TemporalSplit(), times[order], labels[order], 0),
        assign_parts(TemporalSplit(), times, labels, 0)[order],
    )


def test_temporal_parts_have_their_shares():
    parts = assign_parts(TemporalSplit(validation=0.1, test=0.25), *steady(), seed=0)
    assert np.bincount(parts).tolist() == [650, 100, 250]


def test_rows_after_a_cut_are_left_out_for_the_gap():
    parts = assign_parts(TemporalSplit(gap_seconds=50), *steady(), seed=0)
    assert np.flatnonzero(parts == -1).tolist() == [*range(600, 650), *range(800, 850)]
    assert np.bincount(parts[parts >= 0]).tolist() == [600, 150, 150]


@pytest.mark.parametrize(("number", "part"), list(enumerate(PARTS)))
def test_a_part_without_fraud_is_named(number, part):
    times, labels = steady()
    labels[assign_parts(TemporalSplit(), times, labels, 0) == number] = 0
    with pytest.raises(DataError, match=rf"The {part} part of the temporal split has no fraud among its"):
        assign_parts(TemporalSplit(), times, labels, 0)


@pytest.mark.parametrize(("number", "part"), list(enumerate(PARTS)))
def test_a_part_without_legitimate_transactions_is_named(number, part):
    times, labels = steady()
    labels[assign_parts(TemporalSplit(), times, labels, 0) == number] = 1
    with pytest.raises(DataError, match=rf"The {part} part .* has no legitimate transaction.*split\.kind"):
        assign_parts(TemporalSplit(), times, labels, 0)


def test_too_few_frauds_for_three_parts_is_told():
    times, labels = steady()
    labels[:] = 0
    labels[:2] = 1
    with pytest.raises(DataError, match="part of the stratified split has no fraud"):
        assign_parts(StratifiedSplit(kind="stratified"), times, labels, 0)


def test_a_table_of_one_second_has_no_temporal_split():
    with pytest.raises(DataError, match="train part of the temporal split has no fraud among its 0 rows"):
        assign_parts(TemporalSplit(), np.zeros(10), np.tile([0, 1], 5).astype(np.int8), 0)


def test_a_gap_over_everything_leaves_a_part_empty_and_says_so():
    with pytest.raises(DataError, match="validation part"):
        assign_parts(TemporalSplit(gap_seconds=1e6), *steady(), seed=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "random"},
        {"kind": "temporal", "validation": 0.6, "test": 0.4},
        {"kind": "temporal", "test": 0},
        {"kind": "temporal", "gap_seconds": -1},
        {"kind": "stratified", "gap": 1},
    ],
)
def test_an_impossible_split_is_refused(wrong):
    with pytest.raises(ValidationError):
        SplitOptions.model_validate(wrong)


def test_the_kind_chooses_the_split():
    assert isinstance(SplitOptions.model_validate({"kind": "temporal"}).root, TemporalSplit)
    assert isinstance(SplitOptions.model_validate({"kind": "stratified"}).root, StratifiedSplit)


def cut_options(validation, test):
    return SplitOptions.model_validate(
        {"kind": "temporal", "cuts": {"validation": validation, "test": test}}
    ).root


@pytest.mark.parametrize("cuts", [(86_400, 172_800), ("2024-03-02", "2024-03-03T00:00:00+00:00")])
def test_cuts_say_where_parts_begin(cuts):
    times = np.repeat(np.array([0.0, 86_399, 86_400, 172_799, 172_800, 200_000]), 2)
    labels = np.tile([0, 1], 6)
    parts = assign_parts(cut_options(*cuts), times, labels, 0, origin=datetime(2024, 3, 1, tzinfo=UTC))
    assert parts.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


def test_a_gap_begins_at_each_cut():
    split = SplitOptions.model_validate(
        {"kind": "temporal", "cuts": {"validation": 10, "test": 20}, "gap_seconds": 2}
    ).root
    times = np.repeat(np.arange(30, dtype=np.float64), 2)
    parts = assign_parts(split, times, np.tile([0, 1], 30), 0)
    assert set(times[parts == -1]) == {10, 11, 20, 21}


def test_a_cut_by_date_needs_to_know_what_second_zero_is():
    with pytest.raises(SchemaError, match=r"Set schema\.time\.origin"):
        assign_parts(cut_options("2024-03-02", "2024-03-03"), np.arange(4.0), np.array([0, 1, 0, 1]), 0)


def test_validation_begins_before_the_test():
    with pytest.raises(DataError, match=r"split\.cuts\.validation \(20\.0\) does not lie before"):
        assign_parts(cut_options(20, 10), np.arange(4.0), np.array([0, 1, 0, 1]), 0)


def test_a_cut_beyond_the_table_leaves_a_part_without_rows():
    with pytest.raises(DataError, match="test part of the temporal split has no fraud among its 0 rows"):
        assign_parts(cut_options(2, 100), np.arange(4.0), np.array([0, 1, 0, 1]), 0)
