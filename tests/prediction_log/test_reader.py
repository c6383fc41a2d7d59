from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import Label, open_for_reading, open_for_writing, write_labels


def test_a_window_takes_its_start_and_leaves_its_end(writer, log_url, record):
    start = record("x").timestamp
    writer.write([record(str(i), timestamp=start + timedelta(hours=i)) for i in (3, 1, 0, 2)])
    reader = open_for_reading(log_url)
    since, until = start + timedelta(hours=1), start + timedelta(hours=3)
    assert [row["transaction_id"] for row in reader.rows(since=since, until=until)] == ["1", "2"]
    assert reader.count(since=since, until=until) == 2
    assert reader.count() == 4


def test_more_rows_than_one_fetch_are_streamed_in_order(writer, log_url, record):
    start = record("x").timestamp
    writer.write([record(f"{i:05}", timestamp=start + timedelta(seconds=i)) for i in range(11_000)])
    reader = open_for_reading(log_url)
    assert [row["transaction_id"] for row in reader.rows()] == [f"{i:05}" for i in range(11_000)]


def test_reading_goes_on_while_another_writes(writer, log_url, record):
    writer.write([record(f"{i:05}") for i in range(6_000)])
    rows = open_for_reading(log_url).rows()
    next(rows)
    writer.write([record("later")])
    assert sum(1 for _ in rows) in (5_999, 6_000)


def test_reading_does_not_create_a_log(tmp_path):
    with pytest.raises(PredictionLogError, match="The service makes it when it starts"):
        open_for_reading(f"sqlite:///{tmp_path / 'absent.db'}")
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_the_tables_is_not_migrated_by_a_reader(tmp_path):
    file = tmp_path / "other.db"
    sqlite3.connect(file).close()
    with pytest.raises(PredictionLogError, match="revision None"):
        open_for_reading(f"sqlite:///{file}")


def test_a_log_of_a_newer_release_is_an_error_for_both(log_url):
    from fraud_kedro.prediction_log.migrate import VERSION_TABLE

    writer = open_for_writing(log_url)
    with writer.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    writer.close()
    with pytest.raises(PredictionLogError, match=r"'9999'"):
        open_for_reading(log_url)
    with pytest.raises(PredictionLogError, match=r"'9999', which this release does not know"):
        open_for_writing(log_url)


def test_labels_that_were_not_known_or_had_not_come_by_then_do_not_count(writer, record, log_url):
    writer.write([record("a"), record("b"), record("c")])
    moment = datetime(2026, 6, 1, tzinfo=UTC)
    day = timedelta(days=1)
    write_labels(writer.engine, [Label("a", 0, moment - day)], received_at=moment - day)
    write_labels(writer.engine, [Label("a", 1, moment + day)], received_at=moment + day)
    # Known before, told after.
    write_labels(writer.engine, [Label("b", 1, moment - day)], received_at=moment + day)
    reader = open_for_reading(log_url)
    columns = ["transaction_id"]
    then = {r["transaction_id"]: r["label"] for r in reader.labelled(columns=columns, known_by=moment)}
    now = {r["transaction_id"]: r["label"] for r in reader.labelled(columns=columns)}
    reader.close()
    assert then == {"a": 0, "b": None, "c": None}
    assert now == {"a": 1, "b": 1, "c": None}


def test_single_features_are_read_as_numbers_and_shadow_scores_left_out(writer, record, log_url):
    writer.write(
        [
            record("a", features='{"Amount": 12.5, "an odd.name": 3}'),
            record("a", role="shadow"),
            record("b", features='{"V1": 1}'),
            record("c", features=None),
        ]
    )
    reader = open_for_reading(log_url)
    names = ["Amount", "an odd.name"]
    found = [*reader.labelled(columns=["transaction_id"], numbers=names, answers_only=True)]
    reader.close()
    assert [[row[key] for key in ("transaction_id", *names)] for row in found] == [
        ["a", 12.5, 3.0], ["b", None, None], ["c", None, None],
    ]  # fmt: skip


def test_every_label_is_read_with_whether_it_has_a_prediction(writer, record, log_url):
    moment = datetime(2026, 6, 1, tzinfo=UTC)
    writer.write([record("a")])
    write_labels(writer.engine, [Label("a", 0, None), Label("gone", 1, None)], received_at=moment)
    write_labels(writer.engine, [Label("a", 1, None)], received_at=moment)
    reader = open_for_reading(log_url)
    found = [(row["transaction_id"], row["label"], bool(row["predicted"])) for row in reader.labels()]
    waiting = reader.labels_without_prediction()
    reader.close()
    assert found == [("a", 0, True), ("gone", 1, False), ("a", 1, True)]
    assert waiting == 1
