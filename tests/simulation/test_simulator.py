from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy.stats import chisquare

from fraud_kedro.simulation.distributions import (
    correlation_deviation,
    hour_shares,
    joint_distances,
    quantile_deviations,
)
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.simulator import column_types, simulate
from fraud_kedro.simulation.statistics import ulb_statistics

STATISTICS = ulb_statistics()


def table(columns: list[str] | None = None, **arguments: Any) -> pl.DataFrame:
    return pl.concat(simulate(SimulationOptions.parse(**arguments), columns))


@pytest.fixture(scope="module")
def default_table() -> pl.DataFrame:
    return table(seed=42)


@pytest.fixture(scope="module", params=range(5), ids="seed {}".format)
def balanced_table(request: pytest.FixtureRequest) -> pl.DataFrame:
    return table(rows=100_000, frauds=50_000, duplicates=0, seed=request.param)


def test_the_default_table_has_the_counts_and_columns_of_the_real_one(default_table: pl.DataFrame) -> None:
    assert default_table.schema == pl.Schema(column_types())
    assert default_table.height == 284_807
    assert default_table["Class"].sum() == 492
    distinct = default_table.unique()
    assert distinct.height == 283_726
    assert distinct["Class"].sum() == 473
    assert sum(default_table.null_count().row(0)) == 0


def test_time_rises_in_whole_seconds_over_two_days(default_table: pl.DataFrame) -> None:
    time = default_table["Time"]
    assert time.is_sorted()
    assert (time == time.floor()).all()
    assert 0 <= time.min() < 60
    assert 172_700 < time.max() < 172_792


def test_amounts_are_cents_and_never_negative(default_table: pl.DataFrame) -> None:
    amount = default_table["Amount"].to_numpy()
    assert amount.min() == 0
    np.testing.assert_array_equal(amount, np.round(amount, 2))


def test_the_same_seed_gives_the_same_table_and_another_seed_another() -> None:
    first, again, other = (table(rows=70_000, seed=seed) for seed in (5, 5, 6))
    assert_frame_equal(first, again)
    assert not first.equals(other)
    assert first.select("V1", "Time").join(other.select("V1", "Time"), on=["V1", "Time"]).height == 0


def test_no_two_blocks_repeat_each_other(default_table: pl.DataFrame) -> None:
    repeated = default_table.filter(pl.col("V1").is_duplicated(), pl.col("V2").is_duplicated())
    assert repeated.height == 2 * 1_081


def test_values_do_not_depend_on_the_columns_asked_for() -> None:
    whole = table(rows=40_000, seed=3)
    assert_frame_equal(table(["Class", "V17"], rows=40_000, seed=3), whole.select("Class", "V17"))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 4_000), rate=st.floats(0, 1), seed=st.integers(0, 2**63), data=st.data())
def test_rows_frauds_and_duplicates_are_exact(rows: int, rate: float, seed: int, data: st.DataObject) -> None:
    frauds = round(rows * rate)
    duplicates = data.draw(st.integers(0, frauds // 2 + (rows - frauds) // 2))
    drawn = table(rows=rows, frauds=frauds, duplicates=duplicates, seed=seed)
    assert drawn.height == rows
    assert drawn["Class"].sum() == frauds
    assert drawn.unique().height == rows - duplicates
    assert drawn["Time"].is_sorted()


@pytest.mark.parametrize("of_fraud", [False, True])
def test_quantiles_follow_the_statistics_within_5_percent(
    balanced_table: pl.DataFrame, of_fraud: bool
) -> None:
    deviations = quantile_deviations(balanced_table, of_fraud=of_fraud)
    assert set(deviations) == set(STATISTICS.columns)
    assert max(deviations.values()) < 0.05
    assert np.mean(list(deviations.values())) < 0.02


@pytest.mark.parametrize("of_fraud", [False, True])
def test_hours_of_the_day_follow_the_statistics(balanced_table: pl.DataFrame, of_fraud: bool) -> None:
    own = STATISTICS.fraud if of_fraud else STATISTICS.legitimate
    expected = np.array(own.hour_of_day_share)
    # The second day ends 8 seconds before midnight.
    expected[-1] *= 1 - 8 / 7_200
    expected /= expected.sum()
    found = hour_shares(balanced_table, of_fraud=of_fraud)
    assert chisquare(found * 50_000, expected * 50_000).pvalue > 1e-4


@pytest.mark.parametrize("of_fraud", [False, True])
def test_columns_correlate_as_the_statistics_say(balanced_table: pl.DataFrame, of_fraud: bool) -> None:
    assert correlation_deviation(balanced_table, of_fraud=of_fraud) < 0.02


def test_columns_are_extreme_together_more_often_than_in_a_gaussian_copula(
    balanced_table: pl.DataFrame,
) -> None:
    # 49.6 is the 99 % quantile of the chi-squared distribution with 29 degrees of freedom.
    for of_fraud in (False, True):
        assert np.quantile(joint_distances(balanced_table, of_fraud=of_fraud), 0.99) > 1.3 * 49.6


def test_a_shift_moves_one_column_from_its_second_on() -> None:
    plain = table(rows=50_000, seed=9)
    drifted = table(rows=50_000, seed=9, drift={"column": "V14", "shift": -2.5, "from": 86_400})
    late = plain["Time"] >= 86_400
    moved = pl.when(late).then(pl.col("V14") - 2.5).otherwise(pl.col("V14"))
    assert_frame_equal(drifted, plain.with_columns(moved.alias("V14")))


def test_amounts_stay_cents_and_not_negative_under_drift() -> None:
    drift = [{"column": "Amount", "shift": -20.005}, {"column": "Amount", "scale": 1.017}]
    amount = table(rows=50_000, drift=drift)["Amount"].to_numpy()
    assert amount.min() == 0
    np.testing.assert_array_equal(amount, np.round(amount, 2))


def test_a_scale_multiplies_one_column_from_the_first_second_by_default() -> None:
    plain, drifted = table(rows=20_000), table(rows=20_000, drift={"column": "V3", "scale": 3})
    np.testing.assert_allclose(drifted["V3"], 3 * plain["V3"].to_numpy())
    assert_frame_equal(drifted.drop("V3"), plain.drop("V3"))


def test_changes_of_one_column_apply_in_the_order_given() -> None:
    plain = table(rows=1_000)["V3"].to_numpy()
    changes = [{"column": "V3", "shift": 1}, {"column": "V3", "scale": 2}]
    np.testing.assert_allclose(table(rows=1_000, drift=changes)["V3"], 2 * (plain + 1))
    np.testing.assert_allclose(table(rows=1_000, drift=changes[::-1])["V3"], 2 * plain + 1)


def test_a_changed_fraud_rate_holds_from_its_second_on() -> None:
    drifted = table(rows=200_000, drift={"fraud_rate": 0.03, "from": 86_400})
    late = drifted.filter(pl.col("Time") >= 86_400)
    assert late["Class"].mean() == pytest.approx(0.03, rel=0.01)
    assert drifted.filter(pl.col("Time") < 86_400)["Class"].mean() == pytest.approx(492 / 284_807, rel=0.1)
    assert drifted.height == 200_000


@pytest.mark.parametrize("rate", [0, 1])
def test_a_table_can_end_up_with_one_class_alone(rate: int) -> None:
    drifted = table(rows=10_000, fraud_rate=1 - rate, drift={"fraud_rate": rate})
    assert drifted.height == 10_000
    assert drifted["Class"].mean() == rate


def test_a_new_pattern_hides_in_old_columns_and_shows_in_new_ones() -> None:
    size = {"rows": 40_000, "frauds": 20_000, "duplicates": 0, "seed": 2}
    plain = table(**size)
    drifted = table(**size, drift={"new_pattern": 1.0, "from": 86_400})
    early, is_fraud = pl.col("Time") < 86_400, pl.col("Class") == 1
    assert_frame_equal(drifted.filter(early), plain.filter(early))
    assert_frame_equal(drifted.filter(~is_fraud), plain.filter(~is_fraud))
    legitimate = plain.filter(~is_fraud).median().row(0, named=True)
    old = plain.filter(is_fraud, ~early).median().row(0, named=True)
    new = drifted.filter(is_fraud, ~early).median().row(0, named=True)
    for column in ("V14", "V12", "V4", "V10"):
        assert abs(new[column] - legitimate[column]) < 0.1 * abs(old[column] - legitimate[column])
    shown = [c for c in STATISTICS.columns if abs(new[c] - old[c]) > 1 and abs(old[c] - legitimate[c]) < 0.2]
    assert {"V13", "V15"} <= set(shown)


def test_a_new_pattern_takes_its_share_of_the_frauds() -> None:
    size = {"rows": 40_000, "frauds": 20_000, "duplicates": 0}
    plain, drifted = table(**size), table(**size, drift={"new_pattern": 0.3})
    changed = plain["V14"] != drifted["V14"]
    assert changed.sum() / 20_000 == pytest.approx(0.3, abs=0.02)
    assert plain.filter(changed)["Class"].min() == 1


def test_changed_hours_move_transactions_in_time_and_leave_all_else_as_it_is() -> None:
    hours = [22, 23, 0, 1, 2]
    plain = table(rows=100_000, seed=4)
    drifted = table(rows=100_000, seed=4, drift={"hours": hours, "share": 0.5, "from": 86_400})
    assert_frame_equal(drifted.drop("Time"), plain.drop("Time"))
    early = plain["Time"] < 86_400
    assert_frame_equal(drifted.filter(early), plain.filter(early))
    late = drifted.filter(~early)["Time"]
    assert late.min() >= 86_400
    assert late.is_sorted()
    assert np.isin(late // 3_600 % 24, hours).mean() == pytest.approx(0.5, abs=0.005)
    assert np.isin(plain.filter(~early)["Time"] // 3_600 % 24, hours).mean() < 0.2


def test_a_share_of_a_column_becomes_zero_until_the_next_change_of_it() -> None:
    lost = [{"column": "V7", "zeroed": 0.3, "from": 50_000}, {"column": "V7", "zeroed": 0, "from": 100_000}]
    plain, drifted = table(rows=60_000, seed=4), table(rows=60_000, seed=4, drift=lost)
    assert_frame_equal(drifted.drop("V7"), plain.drop("V7"))
    zeroed = drifted["V7"] == 0
    time = plain["Time"]
    assert zeroed.filter(time.is_between(50_000, 100_000, closed="left")).mean() == pytest.approx(
        0.3, abs=0.01
    )
    assert not zeroed.filter((time < 50_000) | (time >= 100_000)).any()
    assert_frame_equal(drifted.filter(~zeroed), plain.filter(~zeroed))


def test_values_that_are_lost_are_zero_whatever_else_happens_to_the_column() -> None:
    drift = [{"column": "Amount", "zeroed": 1.0}, {"column": "Amount", "shift": 5.0}]
    assert set(table(rows=1_000, drift=drift)["Amount"]) == {0.0}


def test_lost_values_are_the_same_rows_whatever_is_asked_for_and_repeat_with_their_row() -> None:
    arguments = {"rows": 40_000, "seed": 3, "duplicates": 9_000}
    arguments["drift"] = [{"column": name, "zeroed": 0.5} for name in ("V7", "V9")]
    whole = table(**arguments)
    assert_frame_equal(table(["V9"], **arguments), whole.select("V9"))
    assert ((whole["V7"] == 0) & (whole["V9"] == 0)).mean() == pytest.approx(0.25, abs=0.02)
    assert whole.unique().height == 31_000


@pytest.mark.slow
def test_millions_of_rows_take_under_3_seconds_each_in_bounded_memory() -> None:
    program = """
import resource, time
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.simulator import simulate

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

sum(block.height for block in simulate(SimulationOptions(rows=200_000)))
before, start = peak(), time.process_time()
rows = sum(block.height for block in simulate(SimulationOptions(rows=3_000_000)))
print(rows, peak() - before, time.process_time() - start)
"""
    # Processor time of one thread, so that busy neighbours do not count.
    single = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=single
    )
    rows, mebibytes, seconds = map(float, done.stdout.split())
    assert rows == 3_000_000
    assert mebibytes < 100
    assert seconds < 3 * 3
