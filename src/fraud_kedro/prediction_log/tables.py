"""The tables of the prediction log, in SQLAlchemy's terms.

Migrations make them; this is what the code that reads and writes goes by. A
test holds the two together.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

Role = Literal["champion", "challenger", "shadow"]

MAX_ID_LENGTH = 128


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment: aware in Python, UTC in the database, whatever that can store."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a moment without a zone; SQLite stores UTC without saying so."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone. Moments in the prediction log are UTC.")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back an aware moment in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData()

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

predictions = sa.Table(
    "predictions",
    metadata,
    sa.Column("transaction_id", sa.String(MAX_ID_LENGTH), primary_key=True),
    sa.Column("role", sa.String(16), primary_key=True),
    sa.Column("timestamp", UtcDateTime(), nullable=False, comment="arrival at the service"),
    sa.Column("event_time", UtcDateTime(), comment="when the transaction happened, where known"),
    sa.Column("model_version", sa.String(128), nullable=False),
    sa.Column("probability", sa.Double(), nullable=False),
    sa.Column("prediction", sa.SmallInteger(), nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("policy", sa.String(128), nullable=False, comment="which thresholds decided"),
    sa.Column("request_hash", sa.String(32), nullable=False),
    sa.Column("request_id", sa.String(MAX_ID_LENGTH)),
    sa.Column("features", _JSON, comment="null where retention has taken them away"),
    sa.Index("predictions_timestamp", "timestamp"),
    # One answer a transaction, whichever model gives it.
    sa.Index(
        "predictions_answered",
        "transaction_id",
        unique=True,
        sqlite_where=sa.text("role <> 'shadow'"),
        postgresql_where=sa.text("role <> 'shadow'"),
    ),
)

# Only added to: a correction is another row, and of a transaction's rows the latest counts.
labels = sa.Table(
    "labels",
    metadata,
    sa.Column(
        "sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), primary_key=True
    ),
    sa.Column("transaction_id", sa.String(MAX_ID_LENGTH), nullable=False),
    sa.Column("label", sa.SmallInteger(), nullable=False, comment="1 for fraud"),
    sa.Column("labelled_at", UtcDateTime(), nullable=False, comment="when it was known"),
    sa.Column("received_at", UtcDateTime(), nullable=False),
    sa.Column("request_id", sa.String(MAX_ID_LENGTH)),
    sa.Index("labels_latest", "transaction_id", "labelled_at", "sequence"),
)

# Raised when workers should look which models are to serve.
generations = sa.Table(
    "generations",
    metadata,
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("generation", sa.BigInteger(), nullable=False),
)


class PredictionRecord(NamedTuple):
    """A row of `predictions`, its fields in the order of the columns.

    Attributes
    ----------
    timestamp : datetime
        Arrival, aware, UTC.
    event_time : datetime or None
        When the transaction happened, aware.
    probability : float
        Calibrated probability of fraud.
    request_hash : str
        Digest of what was asked; a repeated `transaction_id` must have the same.
    features : str or None
        JSON object of the raw features; None in a row whose features have been
        taken away.
    """

    transaction_id: str
    role: Role
    timestamp: datetime
    event_time: datetime | None
    model_version: str
    probability: float
    prediction: int
    decision: str
    policy: str
    request_hash: str
    request_id: str | None
    features: str | None


def record_columns() -> list[sa.Column[Any]]:
    """List the columns of `predictions` in the order of `PredictionRecord`."""
    return [predictions.c[name] for name in PredictionRecord._fields]
