"""A small reference, and windows counted by the code that counts the log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fraud_kedro.monitoring.drift_reference import DriftReference
from fraud_kedro.monitoring.drift_window import DriftWindow, WindowCounter
from fraud_kedro.schema import ResolvedSchema

NOW = datetime(2026, 5, 6, tzinfo=UTC)
EDGES = np.array([0, 1e-3, 1e-2, 0.1, 0.5, 0.9, 1.0])


def _scores(rows: int, generator: np.random.Generator, frauds: float = 0.01) -> np.ndarray:
    """Most near zero, some high."""
    high = generator.random(rows) < frauds
    return np.where(high, generator.uniform(0.5, 0.95, rows), generator.uniform(0, 0.05, rows))


@pytest.fixture(scope="session")
def reference() -> DriftReference:
    """Four features beside time; the first three move the score, the last hardly does."""
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(10_000, 5))
    rows[:, 0] = generator.uniform(0, 2 * 86_400, 10_000)
    scores = _scores(10_000, generator)
    return DriftReference(
        model_version="m_v1",
        schema=ResolvedSchema(
            time="Time", time_use="hour_of_day", amount="d", label="y", features=("Time", "a", "b", "c", "d")
        ),
        rows=rows,
        scores=scores,
        importance=np.array([0.0, 0.6, 0.27, 0.12, 0.01]),
        edges=EDGES,
        score_shares=np.histogram(scores, EDGES)[0] / 10_000,
        flag=0.04,
        flagged_share=float((scores >= 0.04).mean()),
        base_rows=10_000,
        hours=np.full(24, 1000.0),
    )


@pytest.fixture(scope="session")
def counted(reference: DriftReference) -> Callable[..., DriftWindow]:
    """A function that counts a window of rows like the reference's, changed by another function."""

    def count(
        rows: int = 5000,
        *,
        change: Callable[[np.ndarray], None] = lambda rows: None,
        frauds: float = 0.01,
        seed: int = 2,
        own: bool = True,
    ) -> DriftWindow:
        generator = np.random.default_rng(seed)
        drawn = generator.normal(size=(rows, 5))
        drawn[:, 0] = generator.uniform(0, 2 * 86_400, rows)
        change(drawn)
        counter = WindowCounter(
            reference, since=NOW - timedelta(days=30), until=NOW, sample_rows=50_000, seed=0
        )
        scores = _scores(rows, generator, frauds)
        counter.add(drawn, drawn[:, 0], scores if own else np.full(rows, np.nan))
        window = counter.finished()
        window.rows = rows
        window.versions = {"m_v1": rows}
        return window

    return count
