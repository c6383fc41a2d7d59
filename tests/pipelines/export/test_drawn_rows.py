from __future__ import annotations

import numpy as np
import pytest

from fraud_kedro.pipelines.export.drawn_rows import drawn_rows
from fraud_kedro.schema import ResolvedSchema

SIMULATED = ResolvedSchema(
    time="Time", time_use="hour_of_day", amount="Amount", label="Class", features=("Amount", "V3", "Time")
)
OWN = ResolvedSchema(time="Hour", time_use="raw", amount="Sum", label="Fraud", features=("Hour", "Sum"))


@pytest.fixture
def test_part() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)


def test_features_of_the_simulator_are_simulated_in_the_schemas_order(test_part):
    kind, rows = drawn_rows(SIMULATED, test_part, 3000, seed=1)

    assert kind == "simulated"
    assert (rows.shape, rows.dtype) == ((3000, 3), np.float32)
    amounts, seconds = rows[:, 0], rows[:, 2]
    np.testing.assert_allclose(amounts, np.round(amounts.astype(np.float64), 2), rtol=1e-6)
    assert 0 <= seconds.min() < 10_000 < 80_000 < seconds.max() < 86_400


def test_other_features_are_drawn_from_their_own_columns(test_part):
    kind, rows = drawn_rows(OWN, test_part, 400, seed=1)

    assert kind == "resampled"
    assert rows.shape == (400, 2)
    for drawn, column in zip(rows.T, test_part.T, strict=True):
        assert set(drawn) <= set(column)
    # By themselves: rows that were not in the test part.
    assert not {tuple(row) for row in rows} <= {tuple(row) for row in test_part}


@pytest.mark.parametrize("schema", [SIMULATED, OWN])
def test_the_same_seed_draws_the_same_rows(schema, test_part):
    (_, first), (_, again), (_, other) = (drawn_rows(schema, test_part, 200, seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
