from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import open_for_reading, open_for_writing


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
