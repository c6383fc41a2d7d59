from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_kedro.simulation.options import SimulationOptions
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
