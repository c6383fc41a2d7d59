from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import signal
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import open_for_reading, open_for_writing
from fraud_kedro.prediction_log.database import LogUnavailableError
from fraud_kedro.prediction_log.spill import SET_ASIDE, SPILLED, Spill, SpillError, SpillingWriter

LIMIT = 10**8


@pytest.fixture
def spill(tmp_path):
    opened = Spill(tmp_path / "spill", limit_bytes=LIMIT)
    yield opened
    opened.close()


def stored(url):
    reader = open_for_reading(url)
    try:
        return [row["transaction_id"] for row in reader.rows()]
    finally:
        reader.close()


class Outage:
    """A log that can be away."""

    def __init__(self, writer):
        self.away = False
        self.local = False
        self._writer = writer

    def write(self, records, *, wait=True):
        if self.away:
            raise LogUnavailableError("away")
        return self._writer.write(records, wait=wait)

    def close(self):
        pass


def moments(record, number, start=0):
    """Records in the order of their arrival."""
    first = datetime(2026, 5, 6, tzinfo=UTC)
    return [record(f"t{i}", timestamp=first + timedelta(seconds=i)) for i in range(start, start + number)]


def test_what_is_spilled_comes_into_the_database_once_and_in_order(spill, writer, log_url, record):
    outage = Outage(writer)
    spilling = SpillingWriter(spill, outage)
    before, during = moments(record, 3), moments(record, 1200, start=3)
    spilling.write(before)
    outage.away = True
    for first in range(0, 1200, 100):
        part = during[first : first + 100]
        assert spilling.write(part) == part
    assert spill.waiting() == 1200
    with pytest.raises(LogUnavailableError):
        spilling.replay()
    outage.away = False
    assert spilling.replay().records == 1200
    assert stored(log_url) == [r.transaction_id for r in [*before, *during]]
    assert (spill.size, spilling.replay().records) == (0, 0)
    after = moments(record, 1, start=5000)
    assert spilling.write(after, wait=False) == after
    assert stored(log_url)[-1] == "t5000"


def test_while_something_waits_in_the_file_new_predictions_join_it(spill, writer, log_url, record):
    outage = Outage(writer)
    spilling = SpillingWriter(spill, outage)
    outage.away = True
    spilling.write([record("first", probability=0.25)])
    outage.away = False
    [again] = spilling.write([record("first", probability=0.75)])
    assert again.probability == 0.25
    assert stored(log_url) == []
    spilling.replay()
    assert stored(log_url) == ["first"]


def test_a_repeated_request_gets_the_spilled_answer_and_another_one_a_conflict(spill, record):
    first = record("one", probability=0.25)
    assert spill.add([first, record("one", probability=0.5)], begin=True) == [first, first]
    same, other = spill.add(
        [record("one", probability=0.75), record("one", request_hash="b" * 32)], begin=False
    )
    assert same == first
    assert other is None
    assert spill.waiting() == 1


def test_another_process_finds_what_was_spilled(spill, tmp_path, record):
    other = Spill(tmp_path / "spill", limit_bytes=LIMIT)
    first = record("one", probability=0.25)
    spill.add([first], begin=True)
    assert other.add([record("one", probability=0.5), record("two")], begin=False)[0] == first
    assert (
        spill.add([record("two", probability=0.9)], begin=False)[0].probability == record("two").probability
    )
    other.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), number=st.integers(1, 6), noise=st.binary(max_size=40))
def test_a_crash_at_any_byte_loses_no_line_before_it(tmp_path_factory, record, cut, number, noise):
    folder = tmp_path_factory.mktemp("spill")
    first = Spill(folder, limit_bytes=LIMIT)
    records = moments(record, number)
    first.add(records, begin=True)
    first.close()
    content = (folder / SPILLED).read_bytes()
    kept = content[: round(cut * len(content))]
    (folder / SPILLED).write_bytes(kept + (noise.replace(b"\n", b"") if not kept.endswith(b"\n") else b""))
    written = []
    again = Spill(folder, limit_bytes=LIMIT)
    again.add([record("next")], begin=True)
    done = again.replay(lambda rows: written.extend(rows) or list(rows))
    again.close()
    assert written == [*records[: kept.count(b"\n")], record("next")]
    assert done.set_aside == 0


def test_a_damaged_line_is_set_aside_and_the_others_replayed(spill, writer, log_url, record):
    spill.add(moments(record, 3), begin=True)
    spill.close()
    path = spill.folder / SPILLED
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"approve", b"decline")
    path.write_bytes(b"".join(lines))
    done = spill.replay(writer.write)
    assert (done.records, done.set_aside) == (2, 1)
    assert stored(log_url) == ["t0", "t2"]
    [aside] = (spill.folder / SET_ASIDE).read_text().splitlines()
    assert json.loads(aside)["reason"] == "damaged"


def test_an_answer_that_the_database_has_otherwise_is_set_aside(spill, writer, log_url, record):
    first = moments(record, 2)
    writer.write([first[0], first[1]._replace(request_hash="b" * 32)])
    later = first[0].timestamp + timedelta(days=1)
    spill.add([first[0]._replace(timestamp=later), first[1], record("new")], begin=True)
    done = spill.replay(writer.write)
    assert (done.records, done.set_aside) == (1, 2)
    reasons = [json.loads(line)["reason"] for line in (spill.folder / SET_ASIDE).read_text().splitlines()]
    assert reasons == [
        "the log has an earlier answer to the same request",
        "the log has this transaction_id for another request",
    ]
    assert sorted(stored(log_url)) == ["new", "t0", "t1"]


def test_a_row_the_database_never_takes_does_not_hold_up_the_others(spill, writer, log_url, record):
    good = moments(record, 9)
    spill.add([*good[:4], record("bad", decision="x" * 17)._replace(policy=None), *good[4:]], begin=True)

    def strict(records):
        if any(r.transaction_id == "bad" for r in records):
            raise PredictionLogError("policy is null")
        return writer.write(records)

    # The file refuses what is no record as well; so does the database.
    done = spill.replay(strict)
    assert (done.records, done.set_aside) == (9, 1)
    assert stored(log_url) == [r.transaction_id for r in good]


def test_a_replay_that_was_interrupted_goes_on_and_stores_nothing_twice(
    spill, tmp_path, writer, log_url, record
):
    records = moments(record, 1100)
    spill.add(records, begin=True)
    asked = iter([False, True])
    assert spill.replay(writer.write, stopping=lambda: next(asked)).records == 500
    # As the next start would: from the beginning.
    fresh = Spill(tmp_path / "spill", limit_bytes=LIMIT)
    assert fresh.replay(writer.write).set_aside == 0
    fresh.close()
    assert stored(log_url) == [r.transaction_id for r in records]


def test_a_full_file_refuses(tmp_path, record):
    small = Spill(tmp_path / "spill", limit_bytes=1000)
    small.add([record("one")], begin=True)
    with pytest.raises(SpillError, match="FRAUD_LOG_SPILL_BYTES"):
        small.add([record(f"{i}") for i in range(5)], begin=True)
    assert small.waiting() == 1
    small.close()


def test_a_full_disk_leaves_no_half_line(tmp_path, record):
    def fill(results):
        # What a disk without room answers, half-way through the second write.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
        own = Spill(tmp_path / "spill", limit_bytes=LIMIT)
        own.add([record("one")], begin=True)
        try:
            own.add([record("two"), record("three")], begin=True)
        except SpillError as error:
            results.put((str(error), (tmp_path / "spill" / SPILLED).read_bytes().count(b"\n")))

    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=fill, args=(results,))
    process.start()
    message, lines = results.get(timeout=20)
    process.join()
    assert os.strerror(errno.EFBIG) in message
    assert lines == 1
    assert (tmp_path / "spill" / SPILLED).read_bytes().endswith(b"\n")


def test_where_a_file_may_not_be_begun_the_outage_is_the_requests_answer(spill, writer, record):
    outage = Outage(writer)
    spilling = SpillingWriter(spill, outage, may_begin=False)
    outage.away = True
    with pytest.raises(LogUnavailableError):
        spilling.write([record("one")])
    assert spill.size == 0


def test_a_database_that_was_never_open_does_not_keep_predictions_from_being_spilled(spill, log_url, record):
    spilling = SpillingWriter(spill, None)
    assert spilling.local is False
    spilling.write([record("one")])
    assert spilling.replay().records == 0
    spilling.database = open_for_writing(log_url)
    assert spilling.replay().records == 1
    assert stored(log_url) == ["one"]
    spilling.close()
