"""The roles of columns: the only place that knows what a column is for.

`TransactionSchema` is what a user writes in YAML: names and patterns.
`ResolvedSchema` is what it becomes once a table has been seen: the exact
feature order, and which optional roles are there. The resolved form travels in
the bundle, so the service knows it without the table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fraud_kedro.errors import SchemaError

SECONDS_PER_DAY = 86_400
SECONDS_PER_HOUR = 3_600
HOURS_PER_DAY = 24

# The position of a row, beside its columns: no feature can have this name, it is not printable.
ROW = "\x1frow"

# Names that requests, held-out scores and the reference give to columns of their own.
RESERVED_NAMES = frozenset({"transaction_id", "probability", "weight"})

TimeUse = Literal["hour_of_day", "raw", "none"]

SECONDS, ISO8601 = "seconds", "iso8601"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def with_offset(moment: datetime) -> datetime:
    """A moment with its offset: UTC where it has none, never the zone of the machine that reads it."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def hour_counts(
    seconds: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Count transactions by hour of the day.

    Parameters
    ----------
    seconds : ndarray of shape (n_transactions,)
        From the schema's origin.
    weights : ndarray of shape (n_transactions,), optional

    Returns
    -------
    ndarray of shape (24,), float64
    """
    hours = (np.floor(seconds / SECONDS_PER_HOUR) % HOURS_PER_DAY).astype(np.int64)
    return np.bincount(hours, weights, minlength=HOURS_PER_DAY).astype(np.float64)


class TimeRole(BaseModel):
    """The column that orders transactions, and what a model may see of it.

    Attributes
    ----------
    column : str
        Name of the column.
    format : str
        How the table writes it: ``seconds`` (numbers), ``iso8601`` (timestamps,
        as text or as the file's own type), or a pattern of `strptime` such as
        ``%d.%m.%Y %H:%M:%S``. Timestamps become seconds from `origin` at the
        edge; those without an offset are taken as UTC.
    use : {"hour_of_day", "raw", "none"}
        What the model sees: the second of the day, the value itself, nothing.
        A model that learns the calendar position of its training days meets
        only values out of range afterwards.
    origin : datetime, optional
        The moment that second 0 stands for, in UTC unless it has an offset. For
        timestamps 1970-01-01 by default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str
    format: str = SECONDS
    use: TimeUse = "hour_of_day"
    origin: datetime | None = None

    @field_validator("format")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in (SECONDS, ISO8601) and "%" not in value:
            raise ValueError(
                f"format {value!r} is invalid. It should be {SECONDS!r}, {ISO8601!r} or a pattern such as "
                "'%d.%m.%Y %H:%M:%S'"
            )
        return value

    @field_validator("origin")
    @classmethod
    def _with_offset(cls, value: datetime | None) -> datetime | None:
        return None if value is None else with_offset(value)


class TransactionSchema(BaseModel):
    """The roles of a table's columns, as written in the ``schema`` parameters.

    Attributes
    ----------
    time, amount, label
        Required roles. The label is 1 for fraud and 0 for legitimate.
    transaction_id, sample_weight : str, optional
        Used if the table has the column.
    features : list of str
        Names or shell patterns (``V*``), in the order the model reads them. A
        pattern stands for its matches in the table's order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: TimeRole
    amount: str
    label: str
    transaction_id: str | None = None
    sample_weight: str | None = None
    features: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_role_each(self) -> TransactionSchema:
        roles: dict[str, str] = {}
        for role in ("time", "amount", "label", "transaction_id", "sample_weight"):
            name = self.time.column if role == "time" else getattr(self, role)
            if name is not None and (other := roles.setdefault(name, role)) != role:
                raise ValueError(f"column {name!r} has two roles, {other} and {role}; it should have one")
        return self

    def resolve(self, columns: Sequence[str]) -> ResolvedSchema:
        """Match the roles with a table's columns.

        Parameters
        ----------
        columns : sequence of str
            The table's column names, in order.

        Returns
        -------
        ResolvedSchema

        Raises
        ------
        SchemaError
            If a required column is missing, a pattern matches nothing, or a
            feature is also the label, the id or the weight.
        """
        # Before the patterns: they never match these, so they would seem to be missing.
        for role in ("label", "transaction_id", "sample_weight"):
            if (name := getattr(self, role)) in self.features:
                raise SchemaError(
                    f"Column {name!r} has the role {role} and cannot be a feature. "
                    "Take it out of `schema.features` in the parameters."
                )
        required = {"time": self.time.column, "amount": self.amount, "label": self.label}
        missing = [f"{name!r} (role {role})" for role, name in required.items() if name not in columns]
        reserved = {self.label, self.transaction_id, self.sample_weight} - {None}
        features: list[str] = []
        for pattern in self.features:
            matches = [c for c in columns if fnmatchcase(c, pattern) and c not in reserved]
            if not matches:
                missing.append(f"{pattern!r} (features)")
            features += [c for c in matches if c not in features]
        if missing:
            raise SchemaError(
                f"Missing column(s): {_listed(missing, 10)}. The table has: "
                f"{_listed([*map(_printable, columns)], 40) or 'no columns'}. "
                "Mend the table, or name its columns under `schema` in the parameters."
            )
        unusable = [c for c in features if c in RESERVED_NAMES or not c.isprintable() or set(c) & {'"', "\\"}]
        if unusable:
            raise SchemaError(
                f"No feature can be called {', '.join(map(repr, unusable))}: rename the column. Taken are "
                f"{', '.join(sorted(RESERVED_NAMES))}; quotes, backslashes and control characters do not fit "
                "into a request's field names."
            )
        return ResolvedSchema(
            time=self.time.column,
            time_format=self.time.format,
            time_use=self.time.use,
            time_origin=self.time.origin or (EPOCH if self.time.format != SECONDS else None),
            amount=self.amount,
            label=self.label,
            transaction_id=self.transaction_id if self.transaction_id in columns else None,
            sample_weight=self.sample_weight if self.sample_weight in columns else None,
            features=tuple(features),
        )


class ResolvedSchema(BaseModel):
    """The roles as one table fulfils them.

    Attributes
    ----------
    features : tuple of str
        The model's input, in order; every matrix of features has this order.
    time_format : str
        How tables and requests write time; inside, it is seconds from
        `time_origin`.
    transaction_id, sample_weight : str or None
        None where the table has no such column.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: str
    time_format: str = SECONDS
    time_use: TimeUse
    time_origin: datetime | None = None
    amount: str
    label: str
    transaction_id: str | None = None
    sample_weight: str | None = None
    features: tuple[str, ...]

    @property
    def time_index(self) -> int | None:
        """Position of the time column among the features, None if it is not one."""
        return self.features.index(self.time) if self.time in self.features else None

    @property
    def has_timestamps(self) -> bool:
        """Whether tables and requests write time as timestamps, not as seconds."""
        return self.time_format != SECONDS

    def moment(self, seconds: float) -> datetime:
        """When a transaction happened, in UTC, from its seconds.

        Raises
        ------
        SchemaError
            If it is not known what second 0 is.
        """
        if self.time_origin is None:
            raise SchemaError("schema.time.origin is not set: seconds cannot become a date.")
        return self.time_origin.astimezone(UTC) + timedelta(seconds=seconds)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column with a role, each once: features first."""
        others = (self.time, self.amount, self.label, self.transaction_id, self.sample_weight)
        return tuple(dict.fromkeys([*self.features, *(c for c in others if c is not None)]))

    @property
    def hash(self) -> str:
        """Short digest of what a model's input depends on."""
        parts = [self.features, self.time, self.time_use, self.amount]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def model_matrix(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """What the model reads: time reduced in float64, then everything in float32.

        Epoch seconds in float32 step by 128 s, so time must lose its calendar
        position before it loses its precision.

        Parameters
        ----------
        values : ndarray of shape (n_transactions, n_features), float64
            Raw features in the order of `features`.

        Returns
        -------
        ndarray of shape (n_transactions, n_features), float32, C order
        """
        matrix = np.array(values, dtype=np.float32, order="C")
        index = self.time_index
        if index is not None and self.time_use == "none":
            matrix[:, index] = 0.0
        elif index is not None and self.time_use == "hour_of_day":
            seconds = np.asarray(values[:, index] % SECONDS_PER_DAY, dtype=np.float32)
            # 86,399.999 rounds up to the next midnight.
            matrix[:, index] = np.where(seconds >= SECONDS_PER_DAY, np.float32(0.0), seconds)
        return matrix


def _listed(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _printable(name: str) -> str:
    """A column's name for a message, which is one line however the file is broken."""
    text = name if len(name) <= 40 else f"{name[:40]}…"
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
