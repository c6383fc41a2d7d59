"""Writes predictions, each exactly once, and returns what is stored under their ids."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from operator import itemgetter
from typing import cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log.database import BUSY_SECONDS, connect, is_busy, mending
from fraud_kedro.prediction_log.migrate import migrate
from fraud_kedro.prediction_log.tables import PredictionRecord, predictions, record_columns

logger = logging.getLogger(__name__)

Stored = dict[tuple[str, bool], PredictionRecord]

# Keys per look-up: two parameters each, of the 65,535 a statement may have.
_LOOK_UP = 1000

# Python's lock goes back and forth with every statement, also within `executemany`.
_ROWS_PER_STATEMENT = 250

_SHADOW: sa.ColumnClause[str] = sa.literal_column("'shadow'")
_FIRST_RETRY_SECONDS = 0.05
_LAST_RETRY_SECONDS = 0.5
# Shut down by an administrator, crashed, starting up or shutting down; too many connections; a deadlock.
_AWAY_STATES = frozenset({"57P01", "57P02", "57P03", "53300", "40P01"})
_WITHOUT_ZONE = len("2026-01-05 13:45:00.000000")

_BUSY = "The prediction log is busy."


class LogBusyError(PredictionLogError):
    """Another connection is writing, and the caller did not want to wait."""


class PredictionWriter(ABC):
    """The log's only way in.

    Safe to share between threads: they write one after the other.
    """

    #: Whether a commit is a matter of this machine's disk alone.
    local: bool

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.lock = threading.Lock()

    def write(
        self, records: Sequence[PredictionRecord], *, wait: bool = True
    ) -> list[PredictionRecord | None]:
        """Commit records in one transaction.

        Parameters
        ----------
        records : sequence of PredictionRecord
        wait : bool
            Whether to wait for another writer.

        Returns
        -------
        list of PredictionRecord or None
            For each record what the log holds under its id and role: the
            record itself, or an earlier one with the same request hash; None
            where the earlier one was another request.

        Raises
        ------
        LogBusyError
            If another connection writes: at once unless `wait`, else after
            ten seconds.
        PredictionLogError
            If nothing could be committed.
        """
        if not records:
            return []
        if not self.lock.acquire(blocking=wait):
            raise LogBusyError(f"{_BUSY} Another thread is writing.")
        try:
            with mending(self.engine.url):
                stored = self._commit(records, BUSY_SECONDS if wait else 0.0)
        finally:
            self.lock.release()
        if stored is None:
            return [*records]
        return [settled(record, stored[key_of(record)]) for record in records]

    @abstractmethod
    def _commit(self, records: Sequence[PredictionRecord], patience: float) -> Stored | None:
        """Insert what is new; where something was not, give what is stored for every record."""

    @abstractmethod
    def close(self) -> None:
        """Let go of every connection."""


def open_for_writing(url: str, *, retry_seconds: float = 2.0) -> PredictionWriter:
    """Open the log, migrated to what this release writes.

    Parameters
    ----------
    url : str
        SQLAlchemy URL of a SQLite file, made if absent, or a PostgreSQL
        database.
    retry_seconds : float
        How long a write tries to get a lost PostgreSQL connection back.

    Raises
    ------
    PredictionLogError
        If it cannot be reached, made or migrated.
    """
    engine = connect(url, create=True)
    try:
        migrate(engine)
        if engine.dialect.name == "sqlite":
            return _SqliteWriter(engine)
        return _PostgresWriter(engine, retry_seconds)
    except BaseException:
        engine.dispose()
        raise


class _SqliteWriter(PredictionWriter):
    """Holds one connection and drives it without SQLAlchemy, which costs a third of a small commit."""

    local = True

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._insert = str(
            sqlite.insert(predictions).on_conflict_do_nothing().compile(dialect=engine.dialect)
        )
        head, values, tail = self._insert.partition(f"({', '.join('?' * len(PredictionRecord._fields))})")
        self._insert_many = f"{head}{', '.join([values] * _ROWS_PER_STATEMENT)}{tail}"
        one = sa.select(*record_columns()).where(
            predictions.c.transaction_id == sa.bindparam("transaction_id"),
            # Literal: the statement is given two parameters.
            (predictions.c.role == _SHADOW) == (sa.bindparam("role") == _SHADOW),
        )
        self._select = str(one.compile(dialect=engine.dialect))
        with mending(engine.url):
            self._open()

    def _open(self) -> None:
        self._pooled = self.engine.raw_connection()
        self._connection = cast("sqlite3.Connection", self._pooled.dbapi_connection)
        # Waiting is done in `_begin`: SQLite's own waits grow to 100 ms.
        self._connection.execute("PRAGMA busy_timeout = 0")
        self._file = self._file_now()

    def _file_now(self) -> tuple[int, int] | None:
        """Which file the path names, None where there is none or the log is in memory."""
        try:
            found = os.stat(self.engine.url.database or "")  # noqa: PTH116, a fifth of Path's time
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _follow_the_path(self) -> None:
        """Begin anew where the file was removed or replaced: SQLite would go on with the unlinked one."""
        if self._file_now() == self._file:
            return
        logger.warning("%s was removed or replaced: a new log is begun.", self.engine.url.database)
        self._pooled.invalidate()
        self.engine.dispose()
        migrate(self.engine)
        self._open()

    def _commit(self, records: Sequence[PredictionRecord], patience: float) -> Stored | None:
        self._follow_the_path()
        connection = self._connection
        # The rows of a batch have arrived at one moment.
        arrived, text = records[0].timestamp, _text(records[0].timestamp)
        rows = [
            (r[0], r[1], text if r[2] is arrived else _text(r[2]), r[3] and _text(r[3]), *r[4:])
            for r in records
        ]
        self._begin(patience)
        try:
            inserted, first = 0, 0
            while len(rows) - first >= _ROWS_PER_STATEMENT:
                part = chain.from_iterable(rows[first : first + _ROWS_PER_STATEMENT])
                inserted += connection.execute(self._insert_many, [*part]).rowcount
                first += _ROWS_PER_STATEMENT
            if first < len(rows):
                inserted += connection.executemany(self._insert, rows[first:]).rowcount
            stored = None if inserted == len(rows) else self._stored(records)
            connection.execute("COMMIT")
        except BaseException:
            # A full disk makes SQLite roll back by itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return stored

    def _begin(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                if time.monotonic() >= deadline:
                    raise LogBusyError(f"{_BUSY} Another process is writing to it.") from error
                time.sleep(0.0005)
            else:
                return

    def _stored(self, records: Sequence[PredictionRecord]) -> Stored:
        found: Stored = {}
        for record in records:
            row = self._connection.execute(self._select, record[:2]).fetchone()
            found[key_of(record)] = PredictionRecord(
                row[0], row[1], _moment(row[2]), row[3] and _moment(row[3]), *row[4:]
            )
        return found

    def close(self) -> None:
        with self.lock:
            self._pooled.close()
            self.engine.dispose()


class _PostgresWriter(PredictionWriter):
    local = False

    def __init__(self, engine: Engine, retry_seconds: float) -> None:
        super().__init__(engine)
        self._retry_seconds = retry_seconds
        self._away = False
        self._insert = str(
            postgresql.insert(predictions).on_conflict_do_nothing().compile(dialect=engine.dialect)
        )
        *fixed, features = record_columns()
        self._select = sa.select(*fixed, sa.cast(features, sa.Text))

    def _commit(self, records: Sequence[PredictionRecord], patience: float) -> Stored | None:
        # In one order everywhere: two batches with the same ids would wait for each other for ever.
        # By id and role alone: of the same ones the first counts, and what follows may be None.
        rows = sorted(records, key=_id_and_role)
        deadline = time.monotonic() + self._retry_seconds
        wait = _FIRST_RETRY_SECONDS
        while True:
            try:
                stored = self._once(rows, patience)
            except DBAPIError as error:
                # What was committed before the server went is found by its id.
                lost = error.connection_invalidated or _is_away(error)
                # Known to be away: one attempt, so that requests are not held up one after the other.
                if not lost or self._away or time.monotonic() + wait > deadline:
                    self._away = lost
                    raise
                time.sleep(wait)
                wait = min(2 * wait, _LAST_RETRY_SECONDS)
            else:
                self._away = False
                return stored

    def _once(self, records: Sequence[PredictionRecord], patience: float) -> Stored | None:
        with self.engine.begin() as connection:
            if patience:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(patience * 1000)}")
            inserted = connection.exec_driver_sql(self._insert, [tuple(r) for r in records]).rowcount
            return None if inserted == len(records) else self._stored(connection, records)

    def _stored(self, connection: Connection, records: Sequence[PredictionRecord]) -> Stored:
        found: Stored = {}
        keys = sorted({key_of(record) for record in records})
        for start in range(0, len(keys), _LOOK_UP):
            key = sa.tuple_(predictions.c.transaction_id, predictions.c.role == _SHADOW)
            for row in connection.execute(self._select.where(key.in_(keys[start : start + _LOOK_UP]))):
                stored = PredictionRecord._make(row)
                found[key_of(stored)] = stored
        return found

    def close(self) -> None:
        self.engine.dispose()


_id_and_role = itemgetter(0, 1)


def key_of(record: PredictionRecord) -> tuple[str, bool]:
    """What there is one row of: a transaction's answer, and its shadow's score."""
    return record[0], record[1] == "shadow"


def settled(record: PredictionRecord, stored: PredictionRecord) -> PredictionRecord | None:
    """What a record is answered by: what is stored under its id, None if that was another request."""
    return stored if stored.request_hash == record.request_hash else None


def _is_away(error: DBAPIError) -> bool:
    """Whether a server refused a connection, or is starting, stopping or full."""
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return isinstance(error, OperationalError)
    return state[:2] == "08" or state in _AWAY_STATES


def _text(moment: datetime) -> str:
    """As SQLAlchemy stores a moment in SQLite, so that both read what either wrote."""
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(" ", "microseconds")[:_WITHOUT_ZONE]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
