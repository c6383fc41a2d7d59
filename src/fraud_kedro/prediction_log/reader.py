"""Reads the prediction log, as a process of its own or beside the service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log.database import connect, mending
from fraud_kedro.prediction_log.migrate import current_revision, head_revision
from fraud_kedro.prediction_log.tables import Role, UtcDateTime, labels, predictions

_ROWS_AT_ONCE = 5000


class PredictionReader:
    """A log that exists, for reading. Nothing is created, migrated or locked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(read_only=True)

    def count(
        self, *, since: datetime | None = None, until: datetime | None = None, role: Role | None = None
    ) -> int:
        """Count the predictions that arrived in ``[since, until)``.

        Raises
        ------
        PredictionLogError
            If the database cannot be reached.
        """
        statement = _windowed(sa.select(sa.func.count()).select_from(predictions), since, until, role)
        with mending(self._engine.url), self._engine.connect() as connection:
            found: int = connection.execute(statement).scalar_one()
            return found

    def rows(
        self, *, since: datetime | None = None, until: datetime | None = None, role: Role | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """Read the predictions that arrived in ``[since, until)``, oldest first, streamed.

        Parameters
        ----------
        since, until : datetime, optional
            Aware moments of arrival.
        role : {"champion", "challenger", "shadow"}, optional

        Yields
        ------
        mapping
            A column name to its value; ``features`` is a dict, or None where
            retention has taken them away.

        Raises
        ------
        PredictionLogError
            If the database cannot be reached.
        """
        statement = _windowed(sa.select(predictions), since, until, role).order_by(
            predictions.c.timestamp, predictions.c.transaction_id
        )
        with mending(self._engine.url), self._engine.connect() as connection:
            streaming = connection.execution_options(yield_per=_ROWS_AT_ONCE)
            for row in streaming.execute(statement):
                yield dict(row._mapping)

    def chunks(
        self,
        columns: Sequence[str],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        roles: Sequence[Role] = (),
        rows_at_once: int = 20_000,
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Read some columns of the predictions that arrived in ``[since, until)``, in any order, streamed.

        Parameters
        ----------
        columns : sequence of str
            Of `predictions`; ``features`` is given as its JSON text, or None where
            retention has taken it away.
        since, until : datetime, optional
            Aware moments of arrival.
        roles : sequence of {"champion", "challenger", "shadow"}
            All of them if it is empty.
        rows_at_once : int
            In memory.

        Yields
        ------
        list of tuple
            Rows, their values in the order of `columns`.

        Raises
        ------
        PredictionLogError
            If the database cannot be reached.
        """
        chosen = [
            sa.cast(predictions.c.features, sa.Text) if name == "features" else predictions.c[name]
            for name in columns
        ]
        statement = _windowed(sa.select(*chosen), since, until, None)
        if roles:
            statement = statement.where(predictions.c.role.in_(roles))
        with mending(self._engine.url), self._engine.connect() as connection:
            streaming = connection.execution_options(yield_per=rows_at_once)
            for rows in streaming.execute(statement).partitions():
                yield [tuple(row) for row in rows]

    def labelled(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        role: Role | None = None,
        columns: Sequence[str] = (),
        numbers: Sequence[str] = (),
        known_by: datetime | None = None,
        answers_only: bool = False,
        limit: int | None = None,
    ) -> Iterator[Mapping[str, Any]]:
        """Read predictions with the latest label of their transaction, newest first, streamed.

        Parameters
        ----------
        since, until : datetime, optional
            Aware moments of arrival.
        role : {"champion", "challenger", "shadow"}, optional
        columns : sequence of str
            Of `predictions`; all of them if it is empty.
        numbers : sequence of str
            Features that are read each as a column of its own, None where a row has
            no such number: quicker than all `features` of each row.
        known_by : datetime, optional
            Labels that were known, or that came, later than this do not count.
        answers_only : bool
            Leave out shadow scores.
        limit : int, optional
            Read so many at most.

        Yields
        ------
        mapping
            A column name to its value, and ``label`` and ``labelled_at``: None where
            no label has come.

        Raises
        ------
        PredictionLogError
            If the database cannot be reached.
        """
        earlier = labels.alias()
        known = (
            () if known_by is None else (earlier.c.labelled_at <= known_by, earlier.c.received_at <= known_by)
        )
        latest = (
            sa.select(earlier.c.sequence)
            .where(earlier.c.transaction_id == predictions.c.transaction_id, *known)
            .order_by(earlier.c.labelled_at.desc(), earlier.c.sequence.desc())
            .limit(1)
            .scalar_subquery()
        )
        chosen: list[sa.ColumnElement[Any]] = [predictions.c[name] for name in columns] or [*predictions.c]
        chosen += [predictions.c.features[name].as_float().label(name) for name in numbers]
        statement = sa.select(*chosen, labels.c.label, labels.c.labelled_at).select_from(
            predictions.outerjoin(labels, labels.c.sequence == latest)
        )
        if answers_only:
            statement = statement.where(predictions.c.role != "shadow")
        statement = (
            _windowed(statement, since, until, role)
            .order_by(predictions.c.timestamp.desc(), predictions.c.transaction_id, predictions.c.role)
            .limit(limit)
        )
        with mending(self._engine.url), self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(statement):
                yield dict(row._mapping)

    def labels(self) -> Iterator[Mapping[str, Any]]:
        """Read every label that was ever given, in the order they came, streamed.

        Yields
        ------
        mapping
            ``transaction_id``, ``label``, ``labelled_at``, ``received_at``, and
            ``predicted``: whether the log has a prediction for the transaction.

        Raises
        ------
        PredictionLogError
            If the database cannot be reached.
        """
        predicted = sa.exists().where(predictions.c.transaction_id == labels.c.transaction_id)
        statement = sa.select(
            labels.c.transaction_id,
            labels.c.label,
            labels.c.labelled_at,
            labels.c.received_at,
            predicted.label("predicted"),
        ).order_by(labels.c.sequence)
        with mending(self._engine.url), self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(statement):
                yield dict(row._mapping)

    def labels_without_prediction(self) -> int:
        """Count the transactions that were labelled and never predicted; their labels wait.

        Raises
        ------
        PredictionLogError
            If the database cannot be reached.
        """
        predicted = sa.exists().where(predictions.c.transaction_id == labels.c.transaction_id)
        statement = sa.select(sa.func.count(labels.c.transaction_id.distinct())).where(~predicted)
        with mending(self._engine.url), self._engine.connect() as connection:
            found: int = connection.execute(statement).scalar_one()
            return found

    def summary(self) -> dict[str, Any]:
        """Size and age of the log.

        Returns
        -------
        dict
            ``bytes``, ``rows``, ``rows_with_features``, ``oldest`` and
            ``newest`` arrival, ``oldest_features``, and ``rows_<role>`` of each
            role there is.

        Raises
        ------
        PredictionLogError
            If the database cannot be reached.
        """
        table = predictions.c
        kept = table.features.is_not(sa.null())
        statement = sa.select(
            sa.func.count().label("rows"),
            sa.func.count(sa.case((kept, 1))).label("rows_with_features"),
            sa.func.min(table.timestamp).label("oldest"),
            sa.func.max(table.timestamp).label("newest"),
            sa.func.min(sa.case((kept, table.timestamp)), type_=UtcDateTime()).label("oldest_features"),
        )
        by_role = sa.select(table.role, sa.func.count()).group_by(table.role).order_by(table.role)
        with mending(self._engine.url), self._engine.connect() as connection:
            found = connection.execute(statement).mappings().one()
            roles = {f"rows_{role}": rows for role, rows in connection.execute(by_role)}
            return {"bytes": _bytes(connection), **found, **roles}

    @property
    def shown_url(self) -> str:
        """Where the log is, without a password."""
        return self._engine.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()


def open_for_reading(url: str) -> PredictionReader:
    """Open a log that a service has made.

    Raises
    ------
    PredictionLogError
        If there is none, it cannot be reached, or its tables are of another
        release.
    """
    engine = connect(url, create=False)
    shown = engine.url.render_as_string(hide_password=True)
    with mending(engine.url), engine.execution_options(read_only=True).connect() as connection:
        revision = current_revision(connection)
    if revision != head_revision():
        engine.dispose()
        raise PredictionLogError(
            f"The prediction log at {shown} has revision {revision!r}, this release reads "
            f"{head_revision()!r}. Start this release's service once (`bentoml serve`), which migrates it."
        )
    return PredictionReader(engine)


def _bytes(connection: Connection) -> int:
    if connection.dialect.name == "sqlite":
        path = Path(connection.engine.url.database or "")
        parts = (path, path.with_name(f"{path.name}-wal"))
        return sum(part.stat().st_size for part in parts if part.exists())
    size: int = connection.execute(sa.select(sa.func.pg_total_relation_size(predictions.name))).scalar_one()
    return size


def _windowed(
    statement: sa.Select[Any], since: datetime | None, until: datetime | None, role: Role | None
) -> sa.Select[Any]:
    if since is not None:
        statement = statement.where(predictions.c.timestamp >= since)
    if until is not None:
        statement = statement.where(predictions.c.timestamp < until)
    if role is not None:
        statement = statement.where(predictions.c.role == role)
    return statement
