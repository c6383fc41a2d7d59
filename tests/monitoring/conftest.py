"""Records of a log, and a log of SQLite or PostgreSQL to put them into."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from fraud_kedro.prediction_log import (
    Label,
    PredictionRecord,
    open_for_reading,
    open_for_writing,
    write_labels,
)

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
VERSION = "fraud_detection_lightgbm_v1"

_numbers = count()


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
