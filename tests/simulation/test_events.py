from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fraud_kedro.datasets.simulated_transactions import SimulatedTransactionsDataset
from fraud_kedro.simulation.events import DEFAULT_ORIGIN, LabelEvent, StreamOptions, TransactionEvent, stream
from fraud_kedro.simulation.label_delay import ConstantDelay, ExponentialDelay
from fraud_kedro.simulation.options import SimulationError, SimulationOptions

DAY = 86_400

delays = st.one_of(
    st.floats(0, 10 * DAY).map(lambda seconds: ConstantDelay(seconds=seconds)),
    st.builds(ExponentialDelay, mean=st.floats(1, 10 * DAY), cap=st.floats(1, 10 * DAY)),
)
tables = st.builds(
    SimulationOptions, rows=st.integers(1, 600), fraud_rate=st.floats(0, 1), seed=st.integers(0, 2**63)
)


def events(**options: Any) -> list[TransactionEvent | LabelEvent]:
    return list(stream(StreamOptions.parse(**options)))


def transactions(found: list[TransactionEvent | LabelEvent]) -> list[TransactionEvent]:
    return [event for event in found if isinstance(event, TransactionEvent)]


def labels(found: list[TransactionEvent | LabelEvent]) -> list[LabelEvent]:
    return [event for event in found if isinstance(event, LabelEvent)]


def table_of(options: SimulationOptions) -> pl.DataFrame:
    arguments = options.model_dump(by_alias=True, exclude={"frauds"})
    return SimulatedTransactionsDataset(**{**arguments, "drift": list(arguments["drift"])}).load().collect()


@settings(max_examples=30, deadline=None)
@given(table=tables, delay=delays, reported=st.sampled_from(["fraud", "all", "none"]))
def test_every_row_is_one_transaction_and_what_is_reported_has_one_label_after_its_delay(
    table: SimulationOptions, delay: ConstantDelay | ExponentialDelay, reported: str
) -> None:
    found = events(table=table, label_delay=delay, labels=reported)
    frame = table_of(table)
    assert_frame_equal(pl.DataFrame([event.features for event in transactions(found)]), frame.drop("Class"))

    happened = {event.transaction_id: event.event_time for event in transactions(found)}
    assert len(happened) == table.rows
    classes = dict(zip(happened, frame["Class"], strict=True))
    expected = {
        name: label
        for name, label in classes.items()
        if reported == "all" or (reported == "fraud" and label == 1)
    }
    assert Counter(event.transaction_id for event in labels(found)) == Counter(expected.keys())
    longest = delay.seconds if isinstance(delay, ConstantDelay) else delay.cap
    for event in labels(found):
        assert event.label == expected[event.transaction_id]
        waited = event.event_time - happened[event.transaction_id]
        assert timedelta(0) <= waited <= timedelta(seconds=longest)
        if isinstance(delay, ConstantDelay):
            assert waited == timedelta(seconds=longest)


@settings(max_examples=30, deadline=None)
@given(table=tables, delay=delays)
def test_events_come_in_order_of_time_and_transactions_first(
    table: SimulationOptions, delay: ConstantDelay | ExponentialDelay
) -> None:
    found = events(table=table, label_delay=delay, labels="all")
    order = [(event.event_time, isinstance(event, LabelEvent)) for event in found]
    assert order == sorted(order)
    ids = [event.transaction_id for event in transactions(found)]
    assert ids == sorted(ids)


@settings(max_examples=10, deadline=None)
@given(table=tables, delay=delays)
def test_the_same_options_give_the_same_events_and_reporting_more_changes_no_delay(
    table: SimulationOptions, delay: ConstantDelay | ExponentialDelay
) -> None:
    found = events(table=table, label_delay=delay)
    assert found == events(table=table, label_delay=delay)
    more = events(table=table, label_delay=delay, labels="all")
    assert labels(found) == [event for event in labels(more) if event.label == 1]


def test_a_stream_over_several_blocks_is_the_drifted_table_of_the_dataset() -> None:
    drift = [
        {"hours": [22, 23, 0], "share": 0.6, "from": 50_000},
        {"column": "V7", "zeroed": 0.5, "from": 100_000},
    ]
    table = SimulationOptions.parse(rows=70_000, seed=5, drift=drift)
    found = events(table=table, label_delay=ExponentialDelay(mean=3_600, cap=DAY), labels="all")
    frame = pl.DataFrame([event.features for event in transactions(found)])
    assert_frame_equal(frame, table_of(table).drop("Class"))
    by_id = sorted(labels(found), key=lambda event: event.transaction_id)
    assert [event.label for event in by_id] == table_of(table)["Class"].to_list()


def test_ids_name_seed_and_row_and_no_two_streams_share_one() -> None:
    table = SimulationOptions(rows=12, seed=7)
    found = transactions(events(table=table))
    assert [event.transaction_id for event in found][::11] == ["sim-7-000000000", "sim-7-000000011"]
    others = [
        events(table=SimulationOptions(rows=12, seed=8)),
        events(table=SimulationOptions(rows=12, seed=70)),
        events(table=table, id_prefix="rehearsal"),
    ]
    ids = [event.transaction_id for other in [found, *others] for event in transactions(other)]
    assert len(set(ids)) == 4 * 12


def test_event_times_are_utc_and_start_at_the_origin() -> None:
    table = SimulationOptions(rows=50)
    paris = timezone(timedelta(hours=2))
    for event in transactions(events(table=table, origin=datetime(2026, 5, 1, 2, tzinfo=paris))):
        assert event.event_time.tzinfo is UTC
        assert event.event_time == datetime(2026, 5, 1, tzinfo=UTC) + timedelta(
            seconds=event.features["Time"]
        )
    assert transactions(events(table=table))[0].event_time.date() == DEFAULT_ORIGIN.date()


def test_the_hours_of_the_default_origin_are_the_hours_of_the_table() -> None:
    for event in transactions(events(table=SimulationOptions(rows=50))):
        assert event.event_time.hour == event.features["Time"] // 3_600 % 24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"origin": "2026-01-01T00:00:00"}, "origin: Input should have timezone info"),
        ({"origin": "9999-12-31T00:00:00Z"}, "origin: Input should be less than 2200"),
        ({"id_prefix": "a b"}, "id_prefix: String should match pattern"),
        ({"labels": "some"}, "labels: Input should be 'fraud', 'all' or 'none' .*got 'some'"),
        ({"label_delay": {"kind": "constant", "seconds": -1}}, "greater than or equal to 0"),
        ({"label_delay": {"kind": "normal"}}, "label_delay: .*'constant', 'exponential'"),
        ({"delay": 5}, "delay: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        StreamOptions.parse(**options)


@pytest.mark.slow
def test_a_long_stream_takes_no_more_memory_than_a_short_one() -> None:
    program = """
import resource
from fraud_kedro.simulation.events import StreamOptions, stream
from fraud_kedro.simulation.options import SimulationOptions

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def count(rows):
    return sum(1 for _ in stream(StreamOptions(table=SimulationOptions(rows=rows))))

count(70_000)
before = peak()
print(count(1_000_000), peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found, mebibytes = map(int, done.stdout.split())
    assert found == 1_000_000 + 1_727
    assert mebibytes < 50
