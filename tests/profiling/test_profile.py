from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_kedro.datasets.simulated_transactions import SimulatedTransactionsDataset
from fraud_kedro.profiling import scan as module
from fraud_kedro.profiling.profile import QUANTILE_LEVELS, DataProfile
from fraud_kedro.profiling.scan import profile_transactions
from fraud_kedro.schema import TransactionSchema

DAY = 86_400


def column(profile, name):
    return next(found for found in profile.columns if found.name == name)


def classes(profile):
    return [part for found in profile.columns for part in (found.legitimate, found.fraud) if part]


def test_a_profile_tells_what_polars_tells(make_table, profiled):
    frame = make_table()
    profile = profiled(frame, duplicates=12)
    for label, name in ((0, "legitimate"), (1, "fraud")):
        rows = frame.filter(pl.col("fraud") == label)
        for feature in ("when", "f_telling", "f_few", "paid"):
            part, values = getattr(column(profile, feature), name), rows[feature]
            assert (part.count, part.low, part.high) == (rows.height, values.min(), values.max())
            assert part.zeros == (values == 0).sum()
            assert part.mean == pytest.approx(values.mean())
            assert part.std == pytest.approx(values.std())
            for level, estimate in zip(QUANTILE_LEVELS, part.quantiles, strict=True):
                low = values.quantile(level, interpolation="lower")
                high = values.quantile(level, interpolation="higher")
                assert low - 2e-3 * abs(low) <= estimate <= high + 2e-3 * abs(high)
    assert profile.duplicates == 12
    assert (profile.label_rate.rows, profile.label_rate.frauds) == (4_000, 200)
    assert profile.ranges["paid"] == (frame["paid"].min(), frame["paid"].max())


def test_columns_are_what_the_model_reads_and_what_has_a_role(make_table, profiled):
    frame = make_table(id=[str(i) for i in range(4_000)], weight=np.ones(4_000), unused=np.ones(4_000))
    profile = profiled(frame)
    assert [c.name for c in profile.columns] == ["f_telling", "f_constant", "f_few", "paid", "when"]
    assert set(profile.missing) == {*(c.name for c in profile.columns), "fraud", "id", "weight"}
    assert set(profile.ranges) == {c.name for c in profile.columns}


def test_ranges_are_read_from_the_json_by_column(make_table, profiled):
    profile = profiled(make_table())
    written = json.loads(profile.model_dump_json())
    assert written["ranges"]["f_constant"] == [7.5, 7.5]
    assert DataProfile.model_validate_json(profile.model_dump_json()) == profile


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_bins_periods_and_hours_hold_every_row_once(make_table, profiled, data):
    rows = data.draw(st.integers(2, 400))
    frauds = data.draw(st.integers(0, rows))
    values = data.draw(
        st.lists(st.floats(-1e300, 1e300, allow_subnormal=False), min_size=rows, max_size=rows)
        | st.lists(st.sampled_from([0.0, 1.0, 1e300]), min_size=rows, max_size=rows)
    )
    frame = make_table(rows=rows, frauds=frauds, seed=data.draw(st.integers(0, 99)), f_drawn=values)
    profile = profiled(frame)
    for part in classes(profile):
        assert sum(part.bins) == part.count
        assert list(part.quantiles) == sorted(part.quantiles)
        assert part.low <= part.quantiles[0] <= part.quantiles[-1] <= part.high
    for found in profile.columns:
        assert list(found.edges) == sorted(set(found.edges))
        counts = [part.count for part in (found.legitimate, found.fraud) if part]
        assert sum(counts) == rows
    assert sum(period.rate.rows for period in profile.periods) == rows
    assert sum(period.rate.frauds for period in profile.periods) == frauds
    assert sum(profile.hours.legitimate) == rows - frauds
    assert sum(profile.hours.fraud) == frauds


def test_the_size_of_batches_changes_nothing_that_is_counted(make_table, profiled, monkeypatch):
    frame = make_table()
    monkeypatch.setattr(module, "_ROWS_FOR_CENTRE", 100)
    whole = profiled(frame)
    monkeypatch.setattr(module, "_CELLS_PER_BATCH", 1)
    parts = profiled(frame)
    for one, other in zip(classes(whole), classes(parts), strict=True):
        assert one.bins == other.bins
        assert one.quantiles == other.quantiles
        assert one.std == pytest.approx(other.std)
    assert whole.periods == parts.periods
    assert whole.hours == parts.hours


def test_a_file_is_read_as_a_stream(make_table, resolve, profiled, tmp_path):
    frame = make_table()
    for part in range(4):
        frame[part * 1_000 : (part + 1) * 1_000].write_parquet(tmp_path / f"{part}.parquet")
    table = pl.scan_parquet(tmp_path / "*.parquet")
    profile = profile_transactions(table, resolve(frame), {"duplicates": 0})
    assert profile.label_rate == profiled(frame).label_rate
    assert profile.ranges == profiled(frame).ranges


def test_few_values_have_a_bin_each(make_table, profiled):
    frame = make_table()
    found = column(profiled(frame), "f_few")
    assert (found.scale, found.distinct, found.edges[:-1]) == ("values", 3, (-1.0, 0.0, 1.0))
    counts = frame.filter(pl.col("fraud") == 1)["f_few"].value_counts().sort("f_few")["count"].to_list()
    assert found.fraud.bins == (0, *counts, 0)


def test_a_heavy_tail_gets_bins_that_widen_and_an_even_column_equal_ones(make_table, profiled):
    rng = np.random.default_rng(0)
    profile = profiled(make_table(f_even=rng.uniform(5, 6, 4_000), f_heavy=rng.lognormal(0, 3, 4_000)))
    even, heavy = column(profile, "f_even"), column(profile, "f_heavy")
    assert even.scale == "linear"
    assert np.ptp(np.diff(even.edges)) < 1e-9
    assert heavy.scale == "widening"
    assert (np.diff(heavy.edges, 2) > 0).all()
    # What lies beyond the edges is little, and counted.
    for part in (heavy.legitimate, heavy.fraud):
        assert 0 < part.bins[-1] < 0.03 * part.count


def test_missing_and_infinite_values_are_counted_and_left_out(make_table, profiled):
    frame = make_table(rows=100, frauds=20)
    holes = pl.Series([None, float("nan"), float("inf"), *range(97)], dtype=pl.Float64, strict=False)
    profile = profiled(frame.with_columns(f_holes=holes))
    found = column(profile, "f_holes")
    assert profile.missing["f_holes"] == 3
    assert profile.missing["paid"] == 0
    assert found.legitimate.count + found.fraud.count == 97
    assert profile.ranges["f_holes"] == (0, 96)


def test_a_column_without_values_has_no_distribution(make_table, profiled):
    profile = profiled(make_table(rows=10, frauds=3, f_empty=[float("nan")] * 10))
    found = column(profile, "f_empty")
    assert (found.legitimate, found.fraud, found.auc, found.distinct) == (None, None, None, 0)
    assert "f_empty" not in profile.ranges


def test_a_class_without_rows_has_no_distribution(make_table, profiled):
    profile = profiled(make_table(frauds=0))
    assert profile.label_rate.share.value == 0
    assert {(c.fraud, c.auc, c.ks) for c in profile.columns} == {(None, None, None)}


def test_the_column_that_tells_the_classes_apart_says_so(make_table, profiled):
    profile = profiled(make_table())
    # Normal distributions two standard deviations apart: Phi(2 / sqrt(2)), and below Phi(1) - Phi(-1).
    assert column(profile, "f_telling").auc == pytest.approx(1 - 0.9214, abs=0.03)
    assert column(profile, "f_telling").ks == pytest.approx(0.6827, abs=0.08)
    assert (column(profile, "f_constant").auc, column(profile, "f_constant").ks) == (0.5, 0.0)


def test_the_label_rate_follows_the_frauds_in_time(make_table, profiled):
    times = np.arange(4_800) * 36.0
    label = (np.arange(4_800) >= 2_400).astype(np.int8)
    profile = profiled(make_table(rows=4_800, when=times, fraud=label))
    shares = [period.rate.share for period in profile.periods]
    assert len(shares) == 48
    assert [share.value for share in shares] == [0.0] * 24 + [1.0] * 24
    assert all(share.low <= share.value <= share.high for share in shares)
    # Wilson with 0 of 100: 1.96^2 / (100 + 1.96^2).
    assert shares[0].high == pytest.approx(0.037, abs=1e-3)


def test_equal_times_are_one_period(make_table, profiled):
    profile = profiled(make_table(when=np.full(4_000, 3_600.0)))
    assert [(p.start, p.end, p.rate.rows) for p in profile.periods] == [(3_600.0, 3_600.0, 4_000)]
    assert profile.hours.legitimate[1] == 3_800


def test_a_period_without_rows_has_no_rate(make_table, profiled):
    times = np.where(np.arange(4_000) < 2_000, 0.0, float(DAY))
    profile = profiled(make_table(when=times))
    assert profile.periods[0].rate.share is not None
    assert profile.periods[20].rate.share is None
    assert profile.periods[-1].rate.rows == 2_000


def test_hours_are_told_where_the_time_is_used_as_hour_of_the_day(make_table, profiled):
    frame = make_table(when=np.full(4_000, 5 * DAY - 1.0))
    assert profiled(frame).hours.fraud[23] == 200
    assert profiled(frame, use="raw").hours is None


def test_weights_bring_a_sample_back_to_the_table_it_stands_for(make_table, profiled):
    frame = make_table()
    weights = frame.select(pl.when(pl.col("fraud") == 1).then(1.0).otherwise(50.0))["literal"]
    rate = profiled(frame.with_columns(weight=weights)).label_rate
    assert rate.share.value == 0.05
    assert (rate.weighted_rows, rate.weighted_frauds) == (3_800 * 50 + 200, 200)
    assert rate.estimate.value == pytest.approx(200 / 190_200)
    assert rate.estimate.low < rate.estimate.value < rate.estimate.high
    plain = profiled(frame).label_rate
    assert (plain.weighted_rows, plain.estimate) == (None, plain.share)


def test_equal_weights_change_no_rate(make_table, profiled):
    profile = profiled(make_table(weight=np.full(4_000, 3.0)))
    for period in profile.periods:
        shares = period.rate.share, period.rate.weighted_share
        raw, weighted = ([share.value, share.low, share.high] for share in shares)
        assert weighted == pytest.approx(raw)


def test_origin_and_roles_travel_with_the_profile(make_table, profiled):
    profile = profiled(make_table(), origin=datetime(2020, 1, 1, tzinfo=UTC))
    assert profile.roles.time_origin == datetime(2020, 1, 1, tzinfo=UTC)
    assert profile.roles.amount == "paid"


def test_simulated_transactions_are_profiled_in_full():
    table = SimulatedTransactionsDataset(rows=20_000, seed=1, duplicates=0).load()
    names = table.collect_schema().names()
    schema = TransactionSchema(
        time={"column": "Time"}, amount="Amount", label="Class", features=["V*", "Amount"]
    ).resolve(names)
    profile = profile_transactions(table, schema, {"duplicates": 0})
    assert profile.label_rate.rows == 20_000
    assert len(profile.columns) == len(names) - 1
    assert column(profile, "Amount").scale == "widening"
