from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from fraud_kedro.monitoring.drift_judgement import judge
from fraud_kedro.monitoring.drift_options import DriftOptions

OPTIONS = DriftOptions()


def verdict(window, reference, options=OPTIONS):
    return judge(window, reference, options, run_id="run")


def shifted(column, by):
    def change(rows):
        rows[:, column] += by

    return change


def zeroed(column, share):
    def change(rows):
        rows[: int(share * len(rows)), column] = 0

    return change


@pytest.mark.parametrize("rows", [1000, 20_000])
def test_transactions_like_the_references_are_ok(reference, counted, rows):
    found = verdict(counted(rows), reference)
    assert (found.verdict, found.drift_detected, found.drifted_columns) == ("ok", False, 0)
    assert set(found.alarms) == {"flagged", "probable_frauds", "scores", "hours"}
    assert [column.column for column in found.columns] == ["a", "b", "c", "d"]
    assert found.false_alarm_budget == pytest.approx(0.0475)
    assert found.notes == ()


@pytest.mark.parametrize(("by", "direction"), [(0.2, "higher"), (-0.2, "lower")])
def test_a_shift_of_an_important_column_is_drift_and_says_where_to(reference, counted, by, direction):
    found = verdict(counted(change=shifted(1, by)), reference)
    assert found.verdict == "drift"
    assert re.fullmatch(rf"a \({direction} by 0\.\d\d standard deviations\) has drifted\.", found.reason)
    assert found.columns[0].direction == direction
    assert found.columns[0].is_drifted
    assert (found.drifted_columns, found.drifted_share) == (1, 0.25)
    assert found.drifted_importance == pytest.approx(0.6)


def test_another_spread_has_no_direction(reference, counted):
    def wider(rows):
        rows[:, 1] *= 1.5

    found = verdict(counted(change=wider), reference)
    assert found.verdict == "drift"
    assert found.columns[0].direction == "other shape"


def test_a_column_that_hardly_moves_the_score_is_a_warning(reference, counted):
    found = verdict(counted(change=shifted(4, 0.5)), reference)
    assert (found.verdict, found.drift_detected) == ("warn", False)
    assert found.reason.endswith("has drifted, which hardly moves the score.")


def test_half_of_the_columns_are_drift_however_little_they_move_the_score(reference, counted):
    light = replace(reference, importance=np.array([1.0, 0.0, 0.0, 0.0, 0.0]))

    def change(rows):
        rows[:, 1:3] += 0.3

    assert verdict(counted(change=change), light).verdict == "drift"


def test_a_difference_too_small_to_matter_is_no_drift_however_significant(reference, counted):
    found = verdict(counted(200_000, change=shifted(1, 0.06)), reference)
    assert found.columns[0].adjusted_p_value < 1e-5
    assert found.verdict == "ok"


def test_missing_values_turned_to_zero_are_drift(reference, counted):
    found = verdict(counted(change=zeroed(1, 0.03)), reference)
    assert found.verdict == "drift"
    assert found.reason == "a (zeros in 3.0% of the rows, 0.0% before) has drifted."
    assert found.columns[0].adjusted_p_value > 0.05


def test_other_hours_are_drift(reference, counted):
    def at_night(rows):
        rows[: len(rows) // 5, 0] = rows[: len(rows) // 5, 0] % (3 * 3600)

    found = verdict(counted(change=at_night), reference)
    assert found.verdict == "drift"
    assert found.alarms["hours"].is_raised
    assert found.reason.endswith("of the transactions happen at another hour of the day.")


@pytest.mark.parametrize("far_off", [0, 5])
def test_hours_of_less_than_a_day_are_not_judged(reference, counted, far_off):
    def three_hours(rows):
        rows[:, 0] %= 3 * 3600
        # Clocks that are years ahead.
        rows[:far_off, 0] = 4e8

    found = verdict(counted(change=three_hours), reference)
    assert (found.verdict, "hours" in found.alarms) == ("ok", False)
    assert found.notes == (
        "The mix of hours is not judged: the window's transactions cover 3.0 hours, less than a day.",
    )


def test_without_the_references_hours_the_mix_is_not_judged(reference, counted):
    found = verdict(counted(), replace(reference, hours=None))
    assert "does not tell that of a whole day" in found.notes[0]
    assert "hours" not in found.alarms


@pytest.mark.parametrize("frauds", [0.0, 0.03])
def test_far_more_or_fewer_probable_frauds_are_drift(reference, counted, frauds):
    found = verdict(counted(10_000, frauds=frauds), reference)
    assert found.verdict == "drift"
    assert found.alarms["probable_frauds"].is_raised
    assert "Scores of one half and more are " in found.reason


def test_scores_of_another_version_are_not_judged(reference, counted):
    found = verdict(counted(own=False), reference)
    assert set(found.alarms) == {"hours"}
    assert found.notes == ("Scores are not judged: 0 rows were scored by m_v1, at least 500 are needed.",)


def test_too_few_rows_are_said_with_the_number_needed(reference, counted):
    found = verdict(counted(43), reference)
    assert (found.verdict, found.drift_detected) == ("insufficient_data", False)
    assert found.reason == "43 transactions arrived in the last 30 days; at least 500 are needed."
    assert (found.columns, found.alarms) == ((), {})


def test_a_small_reference_is_said_with_the_number_needed(reference, counted):
    small = replace(reference, rows=reference.rows[:20])
    assert verdict(counted(), small).reason == (
        "The champion's reference is worth 20 rows, and at least 500 are needed."
    )


def test_rows_that_could_not_be_compared_are_counted_and_warned_of(reference, counted):
    window = counted()
    window.rows, window.other_schema, window.without_features = 8000, 2000, 1000
    found = verdict(window, reference)
    assert found.verdict == "warn"
    assert found.notes == (
        "3,000 of 8,000 rows are left out: 2,000 have other features than the champion reads, of 1,000 "
        "retention has taken the features.",
    )


def test_a_constant_column_can_be_judged(reference, counted):
    def constant(rows):
        rows[:, 2] = 7.0

    fixed = reference.rows.copy()
    fixed[:, 2] = 7.0
    assert verdict(counted(change=constant), replace(reference, rows=fixed)).verdict == "ok"
    assert verdict(counted(), replace(reference, rows=fixed)).verdict == "drift"


def test_windows_without_drift_alarm_no_more_often_than_the_budget_says(reference, counted):
    # Of reference and window drawn anew; the benchmark does the same on real models' scores.
    generator = np.random.default_rng(9)
    alarms = 0
    for seed in range(40):
        rows = generator.normal(size=(3000, 5))
        drawn = replace(reference, rows=rows)
        alarms += verdict(counted(1000, seed=100 + seed), drawn).drift_detected
    assert alarms <= 2
