from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from pydantic import ValidationError

from fraud_kedro.errors import DataError
from fraud_kedro.monitoring.retraining_rows import NextTableOptions, next_table
from fraud_kedro.monitoring.settled import LabelOptions
from fraud_kedro.schema import ResolvedSchema

ORIGINAL = pl.DataFrame(
    {
        "Time": [0.0, 50_000.0, 100_000.0],
        "V1": [1.0, 2.0, 3.0],
        "Amount": [5.0, 6.0, 7.0],
        "Class": [0, 1, 0],
    },
    schema_overrides={"Class": pl.Int8},
)


def schema(**changes):
    return ResolvedSchema(
        **{
            "time": "Time", "time_use": "hour_of_day", "amount": "Amount", "label": "Class",
            "features": ("Time", "V1", "Amount"), **changes,
        }
    )  # fmt: skip


def features(time, value=0.5):
    return {"Time": time, "V1": value, "Amount": 9.0}


def made(log, now, *, original=ORIGINAL, labels=None, options=None, **changes):
    table, record = next_table(
        original.lazy(), log.reader, schema(**changes), labels=labels or LabelOptions(),
        options=options or NextTableOptions(), now=now,
    )  # fmt: skip
    return table.collect(), record


def test_settled_rows_come_behind_the_original_table_with_their_labels(any_log, record, now):
    any_log.add(
        *(
            record(f"t{n}", 0.9 if n == 2 else 0.1, days=60 - n, features=features(200_000.0 + n))
            for n in range(4)
        )
    )
    any_log.label("t1", 1)
    table, found = made(any_log, now)
    assert table["Time"].to_list() == [0, 50_000, 100_000, 200_000, 200_001, 200_003]
    assert table["Class"].to_list() == [0, 1, 0, 0, 1, 0]
    assert table.columns == ["Time", "V1", "Amount", "Class"]
    assert (found.original, found.logged, found.frauds, found.declined) == (3, 3, 1, 1)


def test_a_declined_transaction_is_used_once_it_was_reviewed(log, record, now):
    log.add(record("a", 0.9, features=features(200_000.0)), record("b", 0.9, features=features(200_001.0)))
    log.label("a", 0)
    table, found = made(log, now)
    assert (table["Class"].to_list()[3:], found.declined) == ([0], 1)


def test_nothing_that_was_not_known_at_the_cut_is_used(log, record, now):
    log.add(
        record("a", days=60, features=features(200_000.0)),
        record("b", days=59, features=features(200_001.0)),
        record("young", days=15, features=features(200_002.0)),
        record("later", days=5, features=features(200_003.0)),
    )
    log.label("a", 1, days=12)
    log.label("b", 1, days=8)
    log.label("young", 1, days=12)
    table, found = made(log, now, options=NextTableOptions(cut=now - timedelta(days=10)))
    assert table["Class"].to_list()[3:] == [1, 0]
    assert found.waiting == 1


def test_silence_that_means_nothing_leaves_a_row_out(log, record, now):
    log.add(*(record(f"t{n}", days=60 - n, features=features(200_000.0 + n)) for n in range(3)))
    log.label("t1", 1)
    with pytest.raises(DataError, match="All 1 settled transactions are frauds"):
        made(log, now, labels=LabelOptions(unlabelled="unknown"))
    log.label("t2", 0)
    table, found = made(log, now, labels=LabelOptions(unlabelled="unknown"))
    assert (table["Class"].to_list()[3:], found.unlabelled) == ([1, 0], 1)


def test_nobody_who_sends_labels_is_no_silence(log, record, now):
    log.add(*(record(f"t{n}", 0.45, features=features(200_000.0 + n)) for n in range(60)))
    with pytest.raises(DataError, match=r"Not one label of a fraud has come for 60 settled .* 27 should be"):
        made(log, now)
    log.label("t0", 1)
    assert made(log, now)[1].frauds == 1


def test_rows_of_the_original_table_are_not_taken_twice(log, record, now):
    log.add(
        record("a", features={"Time": 50_000.0, "V1": 2.0, "Amount": 6.0}),
        record("b", features=features(7.0)),
    )
    table, found = made(log, now)
    assert (table.height, found.repeated, found.logged) == (4, 1, 1)


def test_a_clock_that_begins_anew_is_moved_by_whole_days(log, record, now):
    log.add(*(record(f"t{n}", days=60 - n, features=features(30_000.0 * n)) for n in range(4)))
    table, found = made(log, now)
    assert found.moved_days == 2
    assert table["Time"].to_list()[3:] == [172_800, 202_800, 232_800, 262_800]
    with pytest.raises(DataError, match="their clocks are not one"):
        made(log, now, time_use="raw")
    known = made(log, now, time_origin=datetime(2013, 9, 1, tzinfo=UTC))
    assert (known[1].moved_days, known[0]["Time"].to_list()[3:]) == (0, [0, 30_000, 60_000, 90_000])


def test_time_that_requests_do_not_have_is_the_arrival(log, record, now):
    log.add(record("a", days=60, features={"V1": 1.5, "Amount": 2.0}))
    table, _ = made(log, now, features=("V1", "Amount"), time_origin=now - timedelta(days=100))
    assert table["Time"].to_list()[3:] == [pytest.approx(40 * 86_400)]


def test_rows_that_cannot_be_used_are_counted(log, record, now):
    log.add(
        record("other", features={"V9": 1.0}),
        record("text", features={"Time": "2026", "V1": 1.0, "Amount": 1.0}),
        record("good", features=features(200_000.0)),
        record("shadow", role="shadow", features=features(200_000.0)),
    )
    log.add(record("pruned")._replace(features=None))
    _, found = made(log, now)
    assert (found.logged, found.other_schema, found.without_features) == (1, 2, 1)


def test_why_a_log_has_nothing_to_learn_from_is_one_line(log, record, now):
    with pytest.raises(DataError, match="no transaction to learn from: it is empty"):
        made(log, now)
    log.add(record("a", days=1), record("b", 0.9), record("c", features={"x": 1.0}))
    with pytest.raises(DataError) as caught:
        made(log, now)
    assert str(caught.value) == (
        "The prediction log has no transaction to learn from: 1 are younger than labels.maturity_days (30); "
        "1 were declined and not reviewed; 1 were scored by a model of other features."
    )


def test_ids_and_weights_are_filled_where_the_table_has_them(log, record, now):
    log.add(record("a", features=features(200_000.0)))
    original = ORIGINAL.with_columns(transaction_id=pl.lit("x"), weight=pl.lit(3.0))
    table, _ = made(log, now, original=original, transaction_id="transaction_id", sample_weight="weight")
    assert table.row(3, named=True)["transaction_id"] == "a"
    assert table.row(3, named=True)["weight"] == 1.0
    numbered = original.with_columns(transaction_id=pl.lit(5))
    with pytest.raises(DataError, match="do not have the original table's types"):
        made(log, now, original=numbered, transaction_id="transaction_id", sample_weight="weight")


def test_a_cut_without_a_zone_is_utc_and_one_of_the_future_is_refused(log, record, now):
    log.add(record("a", features=features(200_000.0)))
    assert NextTableOptions(cut="2026-06-01 00:00:00").cut == datetime(2026, 6, 1, tzinfo=UTC)
    with pytest.raises(DataError, match=r"retraining\.table\.cut, .* UTC, lies in the future"):
        made(log, now, options=NextTableOptions(cut=now + timedelta(days=1)))


@pytest.mark.parametrize("rows", [0, -5])
def test_a_table_of_no_original_rows_cannot_be_asked_for(rows):
    with pytest.raises(ValidationError):
        NextTableOptions(original_rows=rows)


def test_fewer_of_the_original_rows_are_its_newest(log, record, now):
    log.add(record("a", features=features(200_000.0)))
    table, found = made(log, now, options=NextTableOptions(original_rows=1))
    assert (table["Time"].to_list(), found.original) == ([100_000, 200_000], 1)
