"""Late labels: added, never changed; of several for one transaction the latest counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from fraud_kedro.prediction_log.database import exclusive
from fraud_kedro.prediction_log.tables import labels, predictions

# Predictions wait meanwhile: 1000 labels take 10 to 20 ms.
_LABELS_PER_COMMIT = 1000


class Label(NamedTuple):
    """What became of a transaction.

    Attributes
    ----------
    transaction_id : str
    label : int
        1 for fraud, 0 for legitimate.
    labelled_at : datetime or None
        When that was known, aware; None for now.
    """

    transaction_id: str
    label: int
    labelled_at: datetime | None


@dataclass
class LabelsWritten:
    """What was made of labels.

    Attributes
    ----------
    stored : int
        New rows.
    unchanged : int
        Those that the log held already.
    corrections : int
        Stored ones that changed what their transaction is.
    unknown : list of str
        Transactions without a prediction, in the labels' order; their labels are
        stored or unchanged like the others.
    """

    stored: int = 0
    unchanged: int = 0
    corrections: int = 0
    unknown: list[str] = field(default_factory=list)


def write_labels(
    engine: Engine, given: Sequence[Label], *, received_at: datetime, request_id: str | None = None
) -> LabelsWritten:
    """Add labels to the log; a label that it holds already is not added again.

    A label without a moment is held already if it is the transaction's latest, one
    with a moment if it was given with this moment before.

    Parameters
    ----------
    engine : Engine
        Of a migrated log.
    given : sequence of Label
        Each transaction once.
    received_at : datetime
        Aware.
    request_id : str, optional

    Raises
    ------
    PredictionLogError
        If the log cannot be written. Labels may be stored in part; given again, they
        are completed.
    """
    written = LabelsWritten()
    for start in range(0, len(given), _LABELS_PER_COMMIT):
        part = given[start : start + _LABELS_PER_COMMIT]
        # One writer at a time: two that give the same label at once store it once.
        with exclusive(engine) as connection:
            rows = _new_rows(connection, part, received_at, request_id, written)
            if rows:
                connection.execute(sa.insert(labels), rows)
    return written


def _new_rows(
    connection: Connection,
    part: Sequence[Label],
    received_at: datetime,
    request_id: str | None,
    written: LabelsWritten,
) -> list[dict[str, object]]:
    ids = [label.transaction_id for label in part]
    history = _history(connection, ids)
    known = {*connection.scalars(sa.select(predictions.c.transaction_id).where(_among(predictions, ids)))}
    rows = []
    for label in part:
        if label.transaction_id not in known:
            written.unknown.append(label.transaction_id)
        before = history.get(label.transaction_id, [])
        if _is_held(label, before):
            written.unchanged += 1
            continue
        written.stored += 1
        known_at = label.labelled_at or received_at
        # One that was known before the latest is kept, and changes nothing.
        written.corrections += bool(before) and before[-1][0] != label.label and known_at >= before[-1][1]
        rows.append(
            {
                **label._asdict(),
                "labelled_at": known_at,
                "received_at": received_at,
                "request_id": request_id,
            }
        )
    return rows


def _history(connection: Connection, ids: Sequence[str]) -> Mapping[str, list[tuple[int, datetime]]]:
    found: dict[str, list[tuple[int, datetime]]] = {}
    statement = sa.select(labels.c.transaction_id, labels.c.label, labels.c.labelled_at)
    for row in connection.execute(
        statement.where(_among(labels, ids)).order_by(labels.c.labelled_at, labels.c.sequence)
    ):
        found.setdefault(row.transaction_id, []).append((row.label, row.labelled_at))
    return found


def _is_held(label: Label, before: Sequence[tuple[int, datetime]]) -> bool:
    if label.labelled_at is None:
        return bool(before) and before[-1][0] == label.label
    return (label.label, label.labelled_at) in before


def _among(table: sa.Table, ids: Sequence[str]) -> sa.ColumnElement[bool]:
    return table.c.transaction_id.in_(ids)
