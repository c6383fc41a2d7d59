from __future__ import annotations

import multiprocessing
import sqlite3
import stat
import threading
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import open_for_reading, open_for_writing
from fraud_kedro.prediction_log.writer import LogBusyError


def stored(url):
    reader = open_for_reading(url)
    rows = {row["transaction_id"]: row for row in reader.rows()}
    reader.close()
    return rows


def test_what_is_written_is_read_back_whole(writer, log_url, record):
    one = record("one", request_id="r-1", features='{"V1": 1.5, "naïve \\"name\\"": -0.1}')
    two = record("two", event_time=None, timestamp=one.timestamp + timedelta(microseconds=1))
    assert writer.write([one, two]) == [one, two]
    rows = stored(log_url)
    assert list(rows) == ["one", "two"]
    expected = one._asdict() | {"features": {"V1": 1.5, 'naïve "name"': -0.1}}
    assert rows["one"] == expected
    assert rows["two"]["event_time"] is None


def test_a_moment_in_another_zone_is_stored_in_utc(writer, log_url, record):
    local = datetime(2026, 5, 6, 9, 0, tzinfo=timezone(timedelta(hours=2)))
    writer.write([record("one", timestamp=local, event_time=local)])
    row = stored(log_url)["one"]
    assert row["timestamp"] == row["event_time"] == datetime(2026, 5, 6, 7, 0, tzinfo=UTC)


def test_a_repeated_request_gets_the_first_answer(writer, log_url, record):
    first = record("one")
    writer.write([first])
    again = record("one", probability=0.9, decision="decline", model_version="another")
    [answer] = writer.write([again])
    assert answer is not None
    assert answer._replace(features="") == first._replace(features="")
    assert stored(log_url)["one"]["probability"] == first.probability


def test_another_request_under_the_same_id_is_a_conflict(writer, log_url, record):
    writer.write([record("one")])
    other, new = writer.write([record("one", request_hash="b" * 32), record("two")])
    assert other is None
    assert new is not None
    assert set(stored(log_url)) == {"one", "two"}


def test_the_same_id_twice_in_one_batch_is_stored_once(writer, log_url, record):
    first, same, other = writer.write(
        [record("one"), record("one", probability=0.5), record("one", request_hash="b" * 32)]
    )
    assert (first is None, same is None, other is None).count(True) == 1
    assert len(stored(log_url)) == 1


@pytest.mark.parametrize("order", [1, -1])
def test_of_the_same_id_at_the_same_moment_the_first_counts_whatever_else_it_has(writer, record, order):
    first, second = [
        record("one", event_time=None, request_hash="b" * 32),
        record("one", request_id="r-1"),
    ][::order]
    assert writer.write([first, second]) == [first, None]


def test_an_id_has_one_row_per_role(writer, log_url, record):
    writer.write([record("one")])
    [shadow] = writer.write([record("one", role="shadow", request_hash="b" * 32)])
    assert shadow is not None
    reader = open_for_reading(log_url)
    assert (reader.count(), reader.count(role="shadow")) == (2, 1)


def test_writing_nothing_opens_no_transaction(writer):
    assert writer.write([]) == []


def test_a_batch_that_fails_leaves_nothing_behind(writer, log_url, record):
    with pytest.raises(PredictionLogError):
        writer.write([record("one"), record("two", probability=None)])
    writer.write([record("three")])
    assert set(stored(log_url)) == {"three"}


def _write_many(url, first, make, barrier):
    writer = open_for_writing(url)
    barrier.wait(timeout=60)
    for number in range(first, first + 60):
        # Every id is written by both processes, in opposite orders within a batch.
        ids = [f"{number}-{i}" for i in range(5)]
        writer.write([make(i) for i in (ids if first else reversed(ids))])
    writer.close()


def test_two_processes_share_one_log(log_url, record):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    # Neither has made the tables yet: both try at once.
    workers = [
        context.Process(target=_write_many, args=(log_url, first, record, barrier)) for first in (0, 30)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(stored(log_url)) == 90 * 5


def test_threads_share_one_writer(writer, log_url, record):
    def write(name):
        for number in range(20):
            writer.write([record(f"{name}-{number}")])

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored(log_url)) == 80


class TestSqlite:
    @pytest.fixture
    def log_url(self, tmp_path):
        return f"sqlite:///{tmp_path / 'new' / 'folder' / 'log.db'}"

    def test_commits_survive_a_power_cut(self, writer):
        connection = writer._connection
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL

    def test_a_writer_that_will_not_wait_says_the_log_is_busy(self, writer, log_url, record):
        other = sqlite3.connect(
            log_url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
        )
        other.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        with pytest.raises(LogBusyError):
            writer.write([record("one")], wait=False)
        assert time.monotonic() - start < 0.5
        release = threading.Timer(0.3, other.close)
        release.start()
        assert writer.write([record("one")]) == [record("one")]
        release.join()

    def test_a_log_that_cannot_be_written_is_an_error_and_the_writer_lives(self, writer, log_url, record):
        connection = writer._connection
        # A full disk, as SQLite meets it.
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(PredictionLogError, match=r"full.*disk has room"):
            writer.write([record(str(i), features='{"V1": %s}' % ("1" * 5000)) for i in range(50)])
        connection.execute("PRAGMA max_page_count = 1000000")
        writer.write([record("after")])
        assert set(stored(log_url)) == {"after"}

    def test_a_folder_that_cannot_be_made_is_an_error(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(PredictionLogError, match="Check that the file and its folder"):
            open_for_writing(f"sqlite:///{tmp_path / 'file' / 'log.db'}")

    def test_a_file_that_is_no_database_is_an_error(self, tmp_path):
        file = tmp_path / "log.db"
        file.write_text("not a database " * 100)
        with pytest.raises(PredictionLogError, match="not a database"):
            open_for_writing(f"sqlite:///{file}")

    def test_no_one_else_needs_to_execute_the_file(self, writer, log_url):
        from pathlib import Path

        mode = Path(log_url.removeprefix("sqlite:///")).stat().st_mode
        assert not mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


class TestPostgres:
    @pytest.fixture
    def log_url(self, postgres):
        return postgres.database(f"server{time.monotonic_ns()}")

    def test_a_lost_connection_is_made_again(self, postgres, writer, log_url, record):
        writer.write([record("before")])
        postgres.stop()
        with pytest.raises(PredictionLogError, match="Check that the server runs"):
            writer.write([record("during")])
        postgres.start()
        writer.write([record("after")])
        assert set(stored(log_url)) == {"before", "after"}

    def test_a_restart_between_two_writes_is_not_noticed(self, postgres, writer, log_url, record):
        writer.write([record("before")])
        postgres.stop()
        postgres.start()
        writer.write([record("after")])
        assert set(stored(log_url)) == {"before", "after"}

    def test_a_password_is_not_shown(self):
        with pytest.raises(PredictionLogError) as caught:
            open_for_writing("postgresql://ann:secret@127.0.0.1:9/log")
        assert "secret" not in str(caught.value)


def test_a_log_that_was_removed_is_begun_anew(tmp_path, record):
    file = tmp_path / "log.db"
    writer = open_for_writing(f"sqlite:///{file}")
    writer.write([record("one")])
    for part in tmp_path.glob("log.db*"):
        part.unlink()

    writer.write([record("two")])
    writer.close()

    assert list(stored(f"sqlite:///{file}")) == ["two"]
