"""Takes the features out of old rows of the prediction log: card data is not kept for ever.

The rest of a row stays: what was decided, by which model and when. Rows change
in small transactions with pauses, so that predictions get their turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from fraud_kedro.prediction_log.database import mending
from fraud_kedro.prediction_log.tables import predictions

# A transaction of so many rows takes a few milliseconds, and four times as long is left to others.
_ROWS = 200
_PAUSE = 4

_ADVISORY_LOCK = 0x7072_756E_65


class Retention:
    """Prunes one log; remembers how far it is, so that each run looks at what is new.

    Parameters
    ----------
    engine : Engine
        Of a migrated log.
    days : float
        Age of arrival from which features go.
    """

    def __init__(self, engine: Engine, days: float) -> None:
        self._engine = engine
        self._age = timedelta(days=days)
        self._after = datetime(1, 1, 2, tzinfo=UTC)

    def prune(
        self, *, stopping: Callable[[], bool] = lambda: False, now: Callable[[], datetime] | None = None
    ) -> int:
        """Set the features of every row that is old enough to null.

        Parameters
        ----------
        stopping : callable
            Asked between transactions whether to leave the rest for later.
        now : callable, optional
            The clock.

        Returns
        -------
        int
            How many rows have lost their features.

        Raises
        ------
        PredictionLogError
            If the database fails; rows pruned by then stay so.
        """
        cutoff = (now() if now else datetime.now(UTC)) - self._age
        pruned = 0
        while not stopping():
            start = time.monotonic()
            rows = self._step(cutoff)
            if rows is None:
                break
            pruned += rows
            time.sleep(_PAUSE * (time.monotonic() - start))
        return pruned

    def _step(self, cutoff: datetime) -> int | None:
        """Prune the next rows in order of arrival; None if there are none."""
        table = predictions.c
        due = (table.features.is_not(sa.null()), table.timestamp < cutoff)
        oldest = (
            sa.select(table.transaction_id, table.role, table.timestamp)
            .where(*due, table.timestamp >= self._after)
            .order_by(table.timestamp)
            .limit(_ROWS)
        )
        with mending(self._engine.url):
            with self._engine.execution_options(read_only=True).connect() as connection:
                found = connection.execute(oldest).all()
            if not found:
                self._after = max(self._after, cutoff)
                return None
            change = (
                sa.update(predictions)
                .where(table.transaction_id == sa.bindparam("its_id"), table.role == sa.bindparam("its_role"))
                .values(features=sa.null())
            )
            with self._engine.begin() as connection:
                if not _prepare(connection):
                    return None
                connection.execute(change, [{"its_id": row[0], "its_role": row[1]} for row in found])
            self._after = found[-1].timestamp
        return len(found)


def _prepare(connection: sa.Connection) -> bool:
    """Whether this process may prune now."""
    if connection.dialect.name == "sqlite":
        # Freed pages are overwritten: what was taken out cannot be read from the file.
        connection.exec_driver_sql("PRAGMA secure_delete = ON")
        return True
    # Two processes would wait for each other's rows.
    lock = sa.func.pg_try_advisory_xact_lock(_ADVISORY_LOCK)
    return bool(connection.execute(sa.select(lock)).scalar())
