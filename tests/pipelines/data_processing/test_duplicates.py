from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_kedro.pipelines.data_processing import duplicates
from fraud_kedro.pipelines.data_processing.duplicates import (
    DuplicateOptions,
    find_duplicates,
    without_duplicates,
)
from fraud_kedro.schema import ResolvedSchema

# Few values, so that many rows are equal; both zeros are.
values = st.sampled_from([0.0, -0.0, 1.0, 1.5])
rows = st.lists(st.tuples(values, values, st.integers(0, 1), st.sampled_from([0.0, 1.0, 2.0])), max_size=60)


def schema(features=("V1", "V2"), weight=None):
    return ResolvedSchema(
        time="Time", time_use="raw", amount="V2", label="Class", sample_weight=weight, features=features
    )


def table(drawn):
    frame = pl.DataFrame(
        drawn,
        schema={"V1": pl.Float64, "V2": pl.Float64, "Class": pl.Int8, "sample_weight": pl.Float64},
        orient="row",
    )
    return frame.with_columns(Time=pl.int_range(pl.len()).cast(pl.Float64))


def kept(frame, resolved, **options):
    found = find_duplicates(frame.lazy(), resolved, DuplicateOptions(**options))
    return without_duplicates(frame.lazy(), found, resolved).collect()


@settings(max_examples=200, deadline=None)
@given(rows)
def test_the_first_of_equal_rows_stays_in_the_tables_order(drawn):
    frame, seen, expected = table(drawn), set(), []
    for position, (first, second, label, _) in enumerate(drawn):
        # Python's sets take 0.0 and -0.0 as equal, too.
        if (first, second, label) not in seen:
            expected.append(float(position))
        seen.add((first, second, label))
    assert kept(frame, schema())["Time"].to_list() == expected


@settings(max_examples=100, deadline=None)
@given(rows)
def test_the_largest_weight_of_equal_rows_stays(drawn):
    resolved = schema(weight="sample_weight")
    made = {
        row[:3]: row[3]
        for row in kept(table(drawn), resolved).select("V1", "V2", "Class", "sample_weight").rows()
    }
    largest: dict[tuple, float] = {}
    for *key, weight in drawn:
        largest[tuple(key)] = max(weight, largest.get(tuple(key), 0.0))
    assert made == largest


@settings(max_examples=50, deadline=None)
@given(rows)
def test_how_many_rows_are_compared_at_once_changes_nothing(drawn):
    whole = kept(table(drawn), schema())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_COMPARED_ROWS", 3)
        assert kept(table(drawn), schema()).equals(whole)


@pytest.mark.parametrize(("compare_time", "left"), [(False, 1), (True, 3)])
def test_rows_at_different_times_are_told_apart_if_asked(compare_time, left):
    frame = table([(1.0, 1.0, 0, 1.0)] * 3)
    assert kept(frame, schema(), compare_time=compare_time).height == left


def test_hashes_that_collide_drop_no_row(monkeypatch):
    # Every row is suspect of being a copy of every other.
    monkeypatch.setattr(pl.Expr, "hash", lambda self, seed: self.is_null().cast(pl.UInt64))
    frame = table([(1.0, 1.0, 0, 1.0), (1.5, 1.0, 0, 1.0), (1.0, 1.0, 0, 1.0), (1.0, 1.0, 1, 1.0)])
    assert kept(frame, schema())["Time"].to_list() == [0, 1, 3]


def test_a_feature_may_have_any_name():
    frame = table([(1.0, 1.0, 0, 1.0)] * 2 + [(1.5, 1.0, 0, 1.0)]).rename({"V1": "row", "V2": "part"})
    resolved = schema(features=("row", "part")).model_copy(update={"amount": "part"})
    assert kept(frame, resolved)["Time"].to_list() == [0, 2]
