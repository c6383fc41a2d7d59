from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_kedro.champion.bundle import DataSource
from fraud_kedro.errors import DataError
from fraud_kedro.pipelines.data_processing.duplicates import DuplicateOptions
from fraud_kedro.pipelines.data_processing.nodes import (
    fingerprint,
    prepare_transactions,
    record_data,
    split_transactions,
)
from fraud_kedro.pipelines.data_processing.splits import SplitOptions
from fraud_kedro.schema import TransactionSchema
from fraud_kedro.validation.expectations import Expectations

SCHEMA = TransactionSchema.model_validate(
    {
        "time": {"column": "Time"},
        "amount": "Amount",
        "label": "Class",
        "transaction_id": "transaction_id",
        "sample_weight": "sample_weight",
        "features": ["Time", "V*", "Amount"],
    }
)
SOURCE = DataSource(kind="real", name="creditcard", location="creditcard.csv")
TEMPORAL = SplitOptions.model_validate({"kind": "temporal"})
STRATIFIED = SplitOptions.model_validate({"kind": "stratified"})


def table(size=200, seed=0, **columns):
    generator = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "Time": np.arange(size, dtype=np.float64),
            "V1": generator.normal(size=size),
            "Amount": generator.gamma(1, 50, size).round(2),
            "Class": (np.arange(size) % 5 == 0).astype(np.int8),
        }
    )
    return frame.with_columns(**{name: pl.Series(values) for name, values in columns.items()})


def prepared(frame, split=STRATIFIED, seed=0, **options):
    return prepare_transactions(
        frame.lazy(),
        SCHEMA,
        DuplicateOptions(**options),
        Expectations(),
        split,
        SOURCE,
        seed,
    )


def recorded(frame, split=TEMPORAL, seed=0):
    transactions, parts, schema, counts = prepared(frame, split, seed)
    return record_data(transactions, parts, schema, SOURCE, counts, split)


def resolved(frame):
    return SCHEMA.resolve(frame.columns)


def test_equal_rows_are_dropped_and_counted():
    frame = table(50)
    transactions, parts, _, counts = prepared(pl.concat([frame, frame[3:5], frame[:1]]))
    assert transactions.collect().equals(frame)
    assert parts.collect().height == 50
    assert counts == {"rows": 50.0, "duplicates": 3.0, "frauds": 10.0}


def test_many_duplicates_are_worth_a_warning(caplog):
    frame = table(50)
    prepared(pl.concat([frame, frame[:1]]))
    assert "creditcard.csv" not in caplog.text
    prepared(pl.concat([frame, frame[:5]]))
    assert "creditcard.csv: 5 rows (9.1 %) repeated an earlier one" in caplog.text


def test_a_part_without_a_class_is_an_error_that_names_the_table():
    with pytest.raises(DataError, match=r"creditcard\.csv: The test part of the temporal split has no fraud"):
        prepared(table(200, Class=[0, 1] * 80 + [0] * 40), TEMPORAL)


@pytest.mark.parametrize("split", [TEMPORAL, STRATIFIED])
def test_duplicates_never_straddle_the_split(split):
    generator = np.random.default_rng(1)
    # Few values, so that many rows are equal.
    frame = table(
        2000,
        Time=generator.integers(0, 60, 2000).astype(np.float64),
        V1=generator.integers(0, 3, 2000).astype(np.float64),
        Amount=generator.integers(0, 3, 2000).astype(np.float64),
    )
    transactions, parts, _, counts = prepared(frame, split, 3)
    assert counts["duplicates"] > 100
    split_rows = split_transactions(transactions, parts)
    rows = pl.concat(part.select("Time", "V1", "Amount", "Class") for part in split_rows).collect()
    assert rows.height == counts["rows"]
    assert rows.is_unique().all()


def test_each_part_keeps_every_column_and_the_tables_order():
    transactions, parts, _, _ = prepared(table())
    for part in split_transactions(transactions, parts):
        rows = part.collect()
        assert rows.columns == ["Time", "V1", "Amount", "Class"]
        assert rows["Time"].is_sorted()


def test_the_roles_that_were_found_are_logged(caplog):
    caplog.set_level("INFO")
    prepared(table(50, sample_weight=[2.0] * 50))
    assert "time = Time (used as hour_of_day)" in caplog.text
    assert "sample_weight = sample_weight" in caplog.text
    assert "transaction_id = absent" in caplog.text
    assert "3 features" in caplog.text


def test_the_record_counts_rows_and_frauds_by_part():
    record = recorded(table(200))
    assert (record.rows, record.frauds, record.split) == (200, 40, "temporal")
    assert {name: (part.rows, part.frauds) for name, part in record.parts.items()} == {
        "train": (120, 24),
        "validation": (40, 8),
        "test": (40, 8),
    }
    assert (record.time_from, record.time_to, record.test_time_from) == (0, 199, 160)
    assert record.parts["train"].time_to == 119
    assert (record.weighted_rows, record.weighted_frauds) == (200, 40)
    assert record.source == SOURCE
    assert record.refit is None


def test_the_record_adds_up_the_weights():
    weights = np.where(np.arange(200) % 5 == 0, 1.5, 60.0)
    record = recorded(table(200, sample_weight=weights))
    assert (record.rows, record.frauds) == (200, 40)
    assert record.weighted_frauds == pytest.approx(40 * 1.5)
    assert record.weighted_rows == pytest.approx(40 * 1.5 + 160 * 60)


def test_the_record_says_how_many_duplicates_were_dropped():
    frame = table(200)
    assert recorded(pl.concat([frame, frame[:7]])).duplicates_dropped == 7


def test_rows_in_a_gap_are_not_counted():
    gap = SplitOptions.model_validate({"kind": "temporal", "gap_seconds": 10})
    record = recorded(table(200), gap)
    assert record.rows == 180
    assert record.test_time_from == 170


def test_equal_tables_have_equal_fingerprints_and_the_test_part_has_its_own():
    first, second = recorded(table()), recorded(table())
    assert first == second
    assert first.fingerprint != first.test_fingerprint


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["Time", "V1", "Amount", "Class", "sample_weight", "transaction_id"]),
    st.integers(0, 9),
)
def test_the_fingerprint_changes_with_any_value(column, row):
    frame = table(10, sample_weight=[1.0] * 10, transaction_id=[f"t{i}" for i in range(10)])
    schema = resolved(frame)
    values = frame[column].to_list()
    values[row] = values[row] + "x" if isinstance(values[row], str) else values[row] + 1
    changed = frame.with_columns(pl.Series(column, values, dtype=frame.schema[column]))
    assert fingerprint(changed.lazy(), schema) != fingerprint(frame.lazy(), schema)


def test_the_fingerprint_changes_with_the_order_of_rows():
    frame = table(10)
    assert fingerprint(frame.lazy(), resolved(frame)) != fingerprint(frame.reverse().lazy(), resolved(frame))


def test_the_fingerprint_changes_with_the_place_of_the_cut():
    cuts = {"kind": "temporal", "cuts": {"validation": 100, "test": 150}}
    first = recorded(table(200), SplitOptions.model_validate(cuts))
    cuts["cuts"]["validation"] = 90
    second = recorded(table(200), SplitOptions.model_validate(cuts))
    assert first.fingerprint != second.fingerprint
    assert first.test_fingerprint == second.test_fingerprint


def test_the_fingerprint_knows_where_one_id_ends():
    frame = table(2, transaction_id=["ab", "c"])
    other = frame.with_columns(transaction_id=pl.Series(["a", "bc"]))
    assert fingerprint(frame.lazy(), resolved(frame)) != fingerprint(other.lazy(), resolved(frame))


def test_the_test_fingerprint_does_not_depend_on_the_training_rows():
    frame = table(200)
    longer = frame.with_columns(V1=pl.when(pl.col("Time") < 50).then(9.0).otherwise("V1"))
    first, second = recorded(frame), recorded(longer)
    assert first.test_fingerprint == second.test_fingerprint
    assert first.fingerprint != second.fingerprint
