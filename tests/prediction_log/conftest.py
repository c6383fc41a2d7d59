"""A log in SQLite and in a real PostgreSQL server, and records to write."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

from fraud_kedro.prediction_log import PredictionRecord, PredictionWriter, open_for_writing


class PostgresServer:
    """A PostgreSQL server of its own, on loopback."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._data = folder / "data"
        # Its programs refuse to run as root.
        self._user = None
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            self._user = "postgres" if "postgres" in names else "nobody"
            shutil.chown(folder, self._user)
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run("initdb", "-D", str(self._data), "-U", "fraud", "--auth=trust", "-E", "UTF8", "--locale=C")

    def start(self) -> None:
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories= -c fsync=off"
        )
        self._run(
            "pg_ctl", "-D", str(self._data), "-w", "-o", options, "-l", str(self._folder / "log"), "start"
        )

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", "fast", "stop")

    def database(self, name: str) -> str:
        """Make an empty database; gives its URL."""
        admin = sa.create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
        admin.dispose()
        return f"postgresql://fraud@127.0.0.1:{self.port}/{name}"

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://fraud@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            user=self._user,
            cwd=self._folder,
        )


def _postgres_programs() -> Path | None:
    on_path = shutil.which("pg_ctl")
    if on_path and Path(on_path).resolve().with_name("initdb").exists():
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL server."""
    programs = _postgres_programs()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL's server programs are not installed, and CI must run these tests.")
        pytest.skip("PostgreSQL's server programs are not installed (Debian: apt-get install postgresql).")
    with tempfile.TemporaryDirectory(prefix="fraud-postgres-") as folder:
        server = PostgresServer(programs, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


_numbers = count()


@pytest.fixture(params=["sqlite", "postgresql"])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a log that does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log' / 'predictions.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.database(f"log{next(_numbers)}")


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
