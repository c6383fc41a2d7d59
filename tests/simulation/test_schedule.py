from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_kedro.simulation.drift import Hours
from fraud_kedro.simulation.options import SimulationError, SimulationOptions
from fraud_kedro.simulation.schedule import BLOCK_ROWS, Schedule
from fraud_kedro.simulation.statistics import ulb_statistics

STATISTICS = ulb_statistics()


def draw(seed: int = 0, **arguments: object) -> Schedule:
    return Schedule.draw(SimulationOptions.parse(**arguments), STATISTICS, np.random.default_rng(seed))


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 200_000), rate=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_blocks_hold_every_row_once_in_order_of_time_with_the_exact_number_of_frauds(
    rows: int, rate: float, seed: int
) -> None:
    schedule = draw(seed, rows=rows, fraud_rate=rate, duplicates=0)
    blocks = list(schedule.blocks())
    seconds = np.concatenate([block.seconds for block in blocks])
    frauds = np.concatenate([block.is_fraud for block in blocks])
    assert all(len(block.seconds) == len(block.is_fraud) for block in blocks)
    assert all(len(block.seconds) == BLOCK_ROWS for block in blocks[:-1])
    assert len(seconds) == rows
    assert frauds.sum() == round(rows * rate)
    assert np.all(np.diff(seconds) >= 0)
    assert 0 <= seconds[0] <= seconds[-1] < STATISTICS.time_span_seconds
    np.testing.assert_array_equal(
        np.bincount(seconds[frauds], minlength=STATISTICS.time_span_seconds), schedule.frauds
    )


def test_a_changed_rate_holds_exactly_from_its_second_on() -> None:
    schedule = draw(rows=200_000, duplicates=0, drift={"fraud_rate": 0.05, "from": 100_000})
    late = slice(100_000, None)
    assert schedule.frauds[late].sum() == round(0.05 * schedule.transactions[late].sum())
    early = slice(0, 100_000)
    expected = schedule.transactions[early].sum() * STATISTICS.frauds / STATISTICS.rows
    assert abs(schedule.frauds[early].sum() - expected) <= 1
    assert schedule.rows == 200_000


def test_a_rate_lasts_until_the_next_one() -> None:
    changes = [{"fraud_rate": 0.0, "from": 120_000}, {"fraud_rate": 0.5, "from": 60_000}]
    schedule = draw(rows=50_000, duplicates=0, drift=changes)
    assert schedule.frauds[120_000:].sum() == 0
    middle = slice(60_000, 120_000)
    assert schedule.frauds[middle].sum() == round(0.5 * schedule.transactions[middle].sum())


def test_frauds_are_not_always_the_first_or_last_of_their_second() -> None:
    schedule = draw(rows=2_000_000, fraud_rate=0.02, duplicates=0)
    single = schedule.frauds == 1
    place = schedule.offsets[single] / schedule.transactions[single]
    assert 0.4 < place.mean() < 0.5


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 100_000),
    hours=st.lists(st.integers(0, 23), min_size=1, max_size=23, unique=True),
    share=st.floats(0, 1),
    start=st.floats(0, 86_400),
    seed=st.integers(0, 2**32),
)
def test_transactions_move_to_the_hours_in_exact_number_and_none_before_the_change_moves(
    rows: int, hours: list[int], share: float, start: float, seed: int
) -> None:
    change = Hours(hours=tuple(hours), share=share, start=start)
    options = SimulationOptions(rows=rows, duplicates=0, drift=(change,))
    plain = Schedule.draw(options, STATISTICS, np.random.default_rng(seed))
    moved = plain.retimed(options, STATISTICS, np.random.default_rng(seed))
    late = np.arange(len(plain.times)) >= start
    within = np.isin(np.arange(len(plain.times)) // 3_600 % 24, hours)
    np.testing.assert_array_equal(moved.times[~late], plain.times[~late])
    assert moved.times[late].sum() == plain.times[late].sum()
    assert moved.times[late & within].sum() == round(plain.times[late].sum() * share)
    for before, after in zip(plain.blocks(), moved.blocks(), strict=True):
        np.testing.assert_array_equal(after.is_fraud, before.is_fraud)
        assert np.all(np.diff(after.seconds) >= 0)
    seconds = np.concatenate([block.seconds for block in moved.blocks()])
    np.testing.assert_array_equal(np.bincount(seconds, minlength=len(moved.times)), moved.times)


def test_hours_last_until_the_next_change_and_keep_a_changed_fraud_rate_at_its_second() -> None:
    changes = [
        {"hours": [3, 9], "share": 0.9, "from": 10_000},
        {"fraud_rate": 0.3, "from": 86_400},
        {"hours": [20], "share": 0.5, "from": 120_000},
    ]
    options = SimulationOptions.parse(rows=100_000, duplicates=0, drift=changes)
    schedule = Schedule.draw(options, STATISTICS, np.random.default_rng(0))
    schedule = schedule.retimed(options, STATISTICS, np.random.default_rng(1))
    blocks = list(schedule.blocks())
    seconds = np.concatenate([block.seconds for block in blocks])
    is_fraud = np.concatenate([block.is_fraud for block in blocks])
    hour = seconds // 3_600 % 24
    first = (seconds >= 10_000) & (seconds < 86_400)
    second = (seconds >= 86_400) & (seconds < 120_000)
    for part in (first, second):
        assert abs(np.isin(hour[part], [3, 9]).mean() - 0.9) < 1e-4
    assert abs((hour[seconds >= 120_000] == 20).mean() - 0.5) < 1e-4
    assert abs(is_fraud[seconds >= 86_400].mean() - 0.3) < 1e-4
    assert is_fraud[seconds < 86_400].mean() < 0.003


@pytest.mark.parametrize(
    ("hours", "place"), [([3], r"in the hours \[3\]"), ([22, 23], r"outside the hours \[22, 23\]")]
)
def test_hours_that_never_come_again_are_an_error(hours: list[int], place: str) -> None:
    options = SimulationOptions.parse(
        rows=100_000, drift={"hours": hours, "share": 0.5, "from": 86_400 + 22 * 3_600}
    )
    schedule = Schedule.draw(options, STATISTICS, np.random.default_rng(0))
    with pytest.raises(SimulationError, match=f"no time {place}: let the drift begin elsewhere"):
        schedule.retimed(options, STATISTICS, np.random.default_rng(0))
