"""Where studies are kept: opened by URL, with errors that say which."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage, fail_stale_trials
from sqlalchemy.exc import SQLAlchemyError

from fraud_kedro.champion.tracking_store import first_line, without_password
from fraud_kedro.errors import TrainingError

# Another process may hold SQLite's lock for as long as a commit takes, and a slow disk may take its time.
_LOCK_SECONDS = 60
# A running trial gives a sign of life every so often; without one for longer its process is dead.
HEARTBEAT_SECONDS = 5
DEAD_AFTER_SECONDS = 20

_IN_MEMORY = ("sqlite://", "sqlite:///:memory:")


def in_memory(url: str) -> bool:
    """Whether the studies live in this process alone."""
    return url in _IN_MEMORY


@contextmanager
def told_in_one_line(url: str) -> Iterator[None]:
    """Turn what a database may raise into one line.

    Raises
    ------
    TrainingError
    """
    try:
        yield
    # An ImportError is a database whose driver is not installed.
    except (OSError, ImportError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise TrainingError(
            f"The studies at {without_password(url)} cannot be opened ({first_line(error)}). "
            "Check tuning.storage, that its database is running and that its user may make tables."
        ) from error


def open_storage(url: str) -> RDBStorage:
    """Open the database, with its tables made if they are not there."""
    if in_memory(url):
        # A sign of life comes from a thread, which would see an empty database of its own.
        return RDBStorage(url)
    if not url.startswith("sqlite"):
        return _alive(url, {"pool_pre_ping": True})
    Path(url.partition(":///")[2]).parent.mkdir(parents=True, exist_ok=True)
    storage = _alive(url, {"connect_args": {"timeout": _LOCK_SECONDS}})
    sqlalchemy.event.listen(storage.engine, "connect", _commit_quickly)
    sqlalchemy.event.listen(storage.engine, "begin", _lock_at_once)
    # Connections of before do not know it.
    storage.engine.dispose()
    return storage


def close_dead(study: optuna.Study) -> None:
    """Mark as failed what other processes were running when they died."""
    with _experiments_allowed():
        fail_stale_trials(study)


def _alive(url: str, engine: dict[str, Any]) -> RDBStorage:
    with _experiments_allowed():
        return RDBStorage(
            url,
            engine_kwargs=engine,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=DEAD_AFTER_SECONDS,
        )


@contextmanager
def _experiments_allowed() -> Iterator[None]:
    """Optuna's heartbeat has been there since 2021, and is still called experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _commit_quickly(connection: Any, _record: object) -> None:
    """With a write-ahead log a commit does not wait for the disk: a trial has about thirty of them.

    What a killed process has committed is kept; only a power failure could lose
    the last trials.
    """
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _lock_at_once(connection: sqlalchemy.Connection) -> None:
    """Let no two processes read that a trial waits, and both take it.

    SQLite knows no ``SELECT ... FOR UPDATE``, which Optuna relies on.
    """
    connection.exec_driver_sql("BEGIN IMMEDIATE")
