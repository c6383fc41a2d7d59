from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import Label, open_for_reading, open_for_writing, write_labels
from fraud_kedro.prediction_log.tables import labels

NOON = datetime(2026, 5, 7, 12, tzinfo=UTC)


def history(writer):
    with writer.engine.connect() as connection:
        rows = connection.execute(sa.select(labels).order_by(labels.c.sequence))
        return [(row.transaction_id, row.label, row.labelled_at, row.received_at) for row in rows]


def joined(log_url, **options):
    reader = open_for_reading(log_url)
    try:
        return {row["transaction_id"]: row["label"] for row in reader.labelled(**options)}
    finally:
        reader.close()


def give(writer, *given, at=NOON):
    return write_labels(writer.engine, [Label(*label) for label in given], received_at=at)


def test_a_label_is_stored_once_however_often_it_is_given(writer):
    first = give(writer, ("a", 1, None), ("b", 0, None))
    again = give(writer, ("a", 1, None), ("b", 0, None), at=NOON + timedelta(hours=1))
    assert (first.stored, first.unchanged, first.corrections) == (2, 0, 0)
    assert (again.stored, again.unchanged, again.corrections) == (0, 2, 0)
    assert history(writer) == [("a", 1, NOON, NOON), ("b", 0, NOON, NOON)]


def test_a_correction_is_added_and_the_latest_counts(writer, log_url, record):
    writer.write([record("a"), record("b")])
    give(writer, ("a", 1, None))
    corrected = give(writer, ("a", 0, None), at=NOON + timedelta(hours=1))
    assert (corrected.stored, corrected.corrections) == (1, 1)
    assert [row[1] for row in history(writer)] == [1, 0]
    assert joined(log_url) == {"a": 0, "b": None}


def test_an_older_label_that_comes_later_does_not_count_and_does_not_come_twice(writer, log_url, record):
    writer.write([record("a")])
    old, new = NOON - timedelta(days=2), NOON - timedelta(days=1)
    give(writer, ("a", 0, new))
    for _ in range(2):
        give(writer, ("a", 1, old))
        give(writer, ("a", 0, new))
    assert [row[1:3] for row in history(writer)] == [(0, new), (1, old)]
    assert joined(log_url) == {"a": 0}


def test_labels_may_come_before_their_predictions(writer, log_url, record):
    assert give(writer, ("early", 1, None), ("known", 0, None)).unknown == ["early", "known"]
    writer.write([record("known"), record("early")])
    assert give(writer, ("early", 1, None)).unknown == []
    assert joined(log_url) == {"early": 1, "known": 0}


def test_many_labels_are_stored_whole(writer):
    found = give(writer, *((f"{number:05}", number % 2, None) for number in range(2_500)))
    assert (found.stored, len(found.unknown)) == (2_500, 2_500)
    assert len(history(writer)) == 2_500


def test_writers_at_once_store_a_label_once(writer, log_url):
    others = [open_for_writing(log_url) for _ in range(4)]
    given = [(str(number), 1, None) for number in range(200)]
    threads = [threading.Thread(target=give, args=(other, *given)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    assert len(history(writer)) == 200


def test_the_reader_gives_what_is_asked_for_newest_first(writer, log_url, record):
    start = record("x").timestamp
    writer.write([record(str(i), timestamp=start + timedelta(hours=i)) for i in range(4)])
    writer.write([record("3", role="shadow", timestamp=start + timedelta(hours=3), probability=0.9)])
    give(writer, ("3", 1, None), ("1", 0, NOON))
    reader = open_for_reading(log_url)
    rows = list(reader.labelled(columns=("transaction_id", "role"), limit=3))
    assert [(row["transaction_id"], row["role"], row["label"]) for row in rows] == [
        ("3", "champion", 1),
        ("3", "shadow", 1),
        ("2", "champion", None),
    ]
    assert set(rows[0]) == {"transaction_id", "role", "label", "labelled_at"}
    window = reader.labelled(
        role="champion", since=start + timedelta(hours=1), until=start + timedelta(hours=3)
    )
    found = list(window)
    reader.close()
    assert [(row["transaction_id"], row["labelled_at"]) for row in found] == [("2", None), ("1", NOON)]
    assert found[0]["features"] == {"V1": 1.5, "Amount": 10.0}


def test_a_log_without_the_table_is_an_error_in_words(tmp_path):
    writer = open_for_writing(f"sqlite:///{tmp_path / 'log.db'}")
    with writer.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE labels")
    with pytest.raises(PredictionLogError, match="does not work: no such table: labels"):
        give(writer, ("a", 1, None))
    writer.close()


MOMENTS = [NOON - timedelta(days=days) for days in range(3)]


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.sampled_from(MOMENTS)), min_size=1, max_size=12
    )
)
def test_whatever_comes_the_latest_moment_counts_and_nothing_is_kept_twice(tmp_path_factory, given):
    url = f"sqlite:///{tmp_path_factory.mktemp('log') / 'log.db'}"
    writer = open_for_writing(url)
    for label in [*given, *given]:
        give(writer, label)
    rows = history(writer)
    writer.close()
    assert {row[:3] for row in rows} == set(given)
    assert len(rows) == len(set(given))


def test_a_label_known_before_the_latest_one_is_kept_and_corrects_nothing(writer):
    give(writer, ("a", 1, NOON - timedelta(days=1)))
    earlier = give(writer, ("a", 0, NOON - timedelta(days=2)))
    assert (earlier.stored, earlier.corrections) == (1, 0)
    assert len(history(writer)) == 2
    later = give(writer, ("a", 0, NOON))
    assert (later.stored, later.corrections) == (1, 1)
