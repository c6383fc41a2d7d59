"""Connections to the prediction log's database: SQLite or PostgreSQL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from fraud_kedro.errors import PredictionLogError

BUSY_SECONDS = 10.0
CONNECT_SECONDS = 5
_PATIENCE = {
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

# Any number: it names this project's lock among a PostgreSQL database's advisory locks.
_ADVISORY_LOCK = 0x6672_6175_64

# What is wrong with the rows, not with the database: to try again is no use.
_DEFECTS = (
    sa.exc.DataError,
    sa.exc.IntegrityError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)

T = TypeVar("T")


class LogUnavailableError(PredictionLogError):
    """The database cannot be reached or written at the moment."""


def connect(url: str, *, create: bool) -> Engine:
    """Make an engine for the prediction log; it has no connection yet.

    Parameters
    ----------
    url : str
        SQLAlchemy URL of a SQLite file or a PostgreSQL database.
    create : bool
        Whether a SQLite file that is not there is made, with its folders.

    Raises
    ------
    PredictionLogError
        If the URL is of another kind, or the file is absent and `create` is
        false.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed, create=create)
    query = dict(parsed.query)
    query.setdefault("connect_timeout", str(CONNECT_SECONDS))
    # A server whose machine is gone sends no word; without these the wait would last minutes.
    for name, value in _PATIENCE.items():
        query.setdefault(name, value)
    return sa.create_engine(
        parsed.set(drivername="postgresql+psycopg", query=query),
        paramstyle="format",
        pool_size=4,
        max_overflow=4,
    )


@contextmanager
def exclusive(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that no other process's `exclusive` overlaps; commit it at the end.

    Raises
    ------
    PredictionLogError
        If the database cannot be reached or written.
    """
    with mending(engine.url), engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        yield connection


@contextmanager
def mending(url: URL) -> Iterator[None]:
    """Turn a database's error into one that says which log and what to do.

    Raises
    ------
    LogUnavailableError
        If it is the database that fails.
    PredictionLogError
        If it is the rows.
    """
    try:
        yield
    except (DBAPIError, sqlite3.Error, OSError) as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        kind = PredictionLogError if isinstance(error, _DEFECTS) else LogUnavailableError
        raise kind(
            f"The prediction log at {url.render_as_string(hide_password=True)} does not work: {reason}. "
            f"{_mend(url)}"
        ) from error


def _mend(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return "Check that the file and its folder can be written and that the disk has room."
    return "Check that the server runs and that FRAUD_LOG_URL names it."


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise PredictionLogError(
            "FRAUD_LOG_URL is not a SQLAlchemy URL. Examples: sqlite:///data/prediction_log.db, "
            "postgresql://user:password@host/database."
        ) from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql", "postgres"):
        raise PredictionLogError(
            f"A prediction log cannot be kept in {parsed.get_backend_name()!r}. FRAUD_LOG_URL should start "
            "with sqlite:/// or postgresql://."
        )
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise PredictionLogError(
            "FRAUD_LOG_URL names a SQLite database in memory, which would lose every prediction. "
            "Name a file: sqlite:///data/prediction_log.db."
        )
    return parsed


def _sqlite(url: URL, *, create: bool) -> Engine:
    path = Path(url.database or "")
    if not create and not path.is_file():
        raise PredictionLogError(
            f"No prediction log at {path}: there is no such file. The service makes it when it starts "
            "(`bentoml serve`); FRAUD_LOG_URL names another."
        )
    if create:
        with mending(url):
            path.parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url.set(drivername="sqlite+pysqlite"),
        # Python's own transactions start with the first INSERT and deferred; ours start with BEGIN.
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None, "check_same_thread": False},
    )
    sa.event.listen(engine, "connect", _prepare)
    # A deferred transaction that turns from reading to writing fails at once when another writes.
    sa.event.listen(engine, "begin", _begin_immediate)
    return engine


def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        # The busy timeout does not hold for this switch.
        _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
    # FULL syncs the journal at every commit: an answered prediction survives a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_immediate(connection: Connection) -> None:
    options = connection.get_execution_options()
    connection.exec_driver_sql("BEGIN" if options.get("read_only") else "BEGIN IMMEDIATE")


def _patiently(action: Callable[[], T]) -> T:
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return action()
        except (sqlite3.OperationalError, OperationalError) as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


def is_busy(error: BaseException) -> bool:
    """Whether SQLite refused because another connection writes."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    # The low byte is the primary code; extended ones (recovery, snapshot) refine it.
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
