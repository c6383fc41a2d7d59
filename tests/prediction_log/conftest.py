"""A log in SQLite and in PostgreSQL, and records to write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from fraud_kedro.prediction_log import PredictionRecord, PredictionWriter, open_for_writing

_numbers = count()


@pytest.fixture(params=["sqlite", "postgresql"])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a log that does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log' / 'predictions.db'}"
    url: str = request.getfixturevalue("postgres").database(f"log{next(_numbers)}")
    return url


@pytest.fixture
def writer(log_url: str) -> Iterator[PredictionWriter]:
    """An open log."""
    opened = open_for_writing(log_url)
    yield opened
    opened.close()


def _record(transaction_id: str, **changes: object) -> PredictionRecord:
    values: dict[str, object] = {
        "transaction_id": transaction_id,
        "role": "champion",
        "timestamp": datetime(2026, 5, 6, 7, 8, 9, 123456, tzinfo=UTC),
        "event_time": datetime(2013, 9, 1, 12, 0, 0, 500000, tzinfo=UTC),
        "model_version": "fraud_detection_lightgbm_v1",
        "probability": 0.12345678806304932,
        "prediction": 0,
        "decision": "approve",
        "policy": "expected_cost",
        "request_hash": "a" * 32,
        "request_id": None,
        "features": json.dumps({"V1": 1.5, "Amount": 10.0}),
    }
    return PredictionRecord(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def record() -> object:
    """A function that makes a record from its id and what differs."""
    return _record
