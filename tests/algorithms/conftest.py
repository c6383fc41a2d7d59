"""Small labelled tables on which every algorithm learns something."""

from __future__ import annotations

import numpy as np
import pytest

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.schema import SECONDS_PER_DAY, ResolvedSchema

FEATURES = ("Time", "V1", "V2", "V3", "Amount")


def draw(n_rows: int, frauds: int, seed: int) -> LabelledMatrix:
    rng = np.random.default_rng(seed)
    labels = np.zeros(n_rows, dtype=np.int8)
    labels[rng.choice(n_rows, frauds, replace=False)] = 1
    features = rng.normal(size=(n_rows, len(FEATURES)))
    features[:, 1:4] += 1.5 * labels[:, None] * np.array([1, -1, 0.5])
    features[:, 0] = rng.uniform(0, SECONDS_PER_DAY, n_rows)
    # Cents and tenths: values that lie exactly on thresholds.
    features[:, 3] = np.round(features[:, 3], 1)
    features[:, 4] = np.round(rng.exponential(60, n_rows), 2)
    return LabelledMatrix(features.astype(np.float32), labels, np.where(labels == 1, 1.5, 20.0))


@pytest.fixture(scope="session")
def train() -> LabelledMatrix:
    return draw(1200, 150, seed=1)


@pytest.fixture(scope="session")
def held_out() -> LabelledMatrix:
    return draw(800, 100, seed=2)


@pytest.fixture(scope="session")
def schema() -> ResolvedSchema:
    return ResolvedSchema(
        time="Time", time_use="hour_of_day", amount="Amount", label="Class", features=FEATURES
    )
