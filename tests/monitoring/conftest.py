"""A small reference with windows counted as the log is, and records with a log to put them into."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np
import pytest

from fraud_kedro.monitoring.drift_reference import DriftReference
from fraud_kedro.monitoring.drift_window import DriftWindow, WindowCounter
from fraud_kedro.prediction_log import (
    Label,
    PredictionRecord,
    open_for_reading,
    open_for_writing,
    write_labels,
)
from fraud_kedro.schema import ResolvedSchema

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
VERSION = "fraud_detection_lightgbm_v1"
EDGES = np.array([0, 1e-3, 1e-2, 0.1, 0.5, 0.9, 1.0])

_numbers = count()


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

    def windowed(
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

    return windowed


def _decision(probability: float) -> str:
    return "decline" if probability >= 0.8 else "review" if probability >= 0.5 else "approve"


@pytest.fixture(scope="session")
def now():
    return NOW


@pytest.fixture(scope="session")
def record():
    """A function that makes a record of a transaction some days old."""

    def make(
        name, probability=0.1, *, days=60.0, features=None, version=VERSION, role="champion", decision=None
    ):
        decided = decision or _decision(probability)
        return PredictionRecord(
            transaction_id=name,
            role=role,
            timestamp=NOW - timedelta(days=days),
            event_time=None,
            model_version=version,
            probability=probability,
            prediction=int(decided != "approve"),
            decision=decided,
            policy="expected_cost",
            request_hash="a" * 32,
            request_id=None,
            features=json.dumps({"Amount": 10.0} if features is None else features),
        )

    return make


class Log:
    """A log that tests fill."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.writer = open_for_writing(url)
        self.reader = open_for_reading(url)

    def add(self, *records: PredictionRecord) -> None:
        self.writer.write(records)

    def label(self, name: str, label: int, *, days: float = 50.0, received_days: float | None = None) -> None:
        """Label a transaction so many days before now."""
        known = NOW - timedelta(days=days)
        received = known if received_days is None else NOW - timedelta(days=received_days)
        write_labels(self.writer.engine, [Label(name, label, known)], received_at=received)

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


@pytest.fixture
def log(tmp_path):
    """A log in SQLite."""
    opened = Log(f"sqlite:///{tmp_path / 'log.db'}")
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_log(request, tmp_path):
    """A log in each of the databases."""
    url = f"sqlite:///{tmp_path / 'log.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").database(f"monitoring{next(_numbers)}")
    opened = Log(url)
    yield opened
    opened.close()
