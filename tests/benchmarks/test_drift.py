"""`benchmarks/drift.py`: one repetition, what is broken, its table."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import drift
from fraud_kedro.monitoring.drift_options import DriftOptions
from fraud_kedro.schema import ResolvedSchema


@pytest.fixture(scope="module")
def world():
    """A world of noise in place of trained models: what is repeated is the same."""
    generator = np.random.default_rng(0)
    schema = ResolvedSchema(
        time="Time", time_use="hour_of_day", amount="Amount", label="Class", features=drift.FEATURES
    )

    def pool(rows, shift=0.0):
        features = generator.normal(size=(rows, len(drift.FEATURES)))
        features[:, 0] = generator.uniform(0, 2 * 86_400, rows)
        features[:, 1] += shift
        return drift.Pool(features, generator.beta(0.05, 5, rows))

    width = len(drift.FEATURES)
    hours = np.full(24, 1000.0)
    return drift.World(
        schema, pool(80_000), pool(80_000), {"shift": pool(20_000, 0.3)}, np.full(width, 1 / width), hours
    )


def test_a_repetition_draws_reference_and_window_anew_and_judges_them(world):
    generator = np.random.default_rng(1)
    verdicts = [drift.judged(world, world.later, 1000, DriftOptions(), generator) for _ in range(2)]
    assert verdicts[0][0].columns != verdicts[1][0].columns
    for verdict, distances in verdicts:
        assert verdict.verdict == "ok"
        assert verdict.window.compared == 1000
        assert len(distances) == len(drift.FEATURES)
    found, distances = drift.judged(world, world.drifted["shift"], 1000, DriftOptions(), generator)
    assert found.columns[[c.column for c in found.columns].index("V1")].is_drifted
    assert distances[1] > 0.2


def test_what_is_counted_is_what_was_found(world):
    found = drift.measured(world, "shift", world.drifted["shift"], 1000, repetitions=2, seed=0)
    # One column of thirty, all as important: less than a twentieth of the score.
    assert (found["drift"], found["warn"], found["alarms"]) == (0.0, 1.0, {"columns": 1.0})
    assert (found["evidently_drift"], found["evidently_any_column"]) == (0.0, 1.0)


def result(name, rows, share):
    return {
        "name": name, "rows": rows, "repetitions": 40, "drift": share, "warn": 0.0,
        "alarms": {"hours": share}, "evidently_drift": 0.0, "evidently_any_column": 0.5,
        "evidently_columns": 1.25,
    }  # fmt: skip


def test_false_alarms_and_drift_that_is_missed_break_the_promise():
    assert drift.broken([result("", 1000, 0.05), result("shift", 10_000, 0.9)]) == []
    assert drift.broken([result(drift.UNPROMISED, 10_000, 0.5)]) == []
    assert drift.broken([result("", 1000, 0.06), result("shift", 10_000, 0.85)]) == [
        "1,000 rows without drift: 6.0% false alarms",
        "shift: found in 85.0%",
    ]


def test_the_table_has_a_line_for_each_result():
    lines = drift.markdown([result("", 1000, 0.05)])
    assert "| none | 1,000 | 40 | 5.0% | hours 5% | 0.0% | 50.0% | 1.2 |" in lines
