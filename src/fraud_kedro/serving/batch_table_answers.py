"""Batches answered as tables: the columns that came, and those that are added."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from fraud_kedro.serving.answers import encode
from fraud_kedro.serving.batch import Answered, broken
from fraud_kedro.serving.batch_answers import Explain, row_error, timestamp_texts
from fraud_kedro.serving.batch_arrays import number_column, text_column
from fraud_kedro.serving.batch_formats import Format
from fraud_kedro.serving.explaining import ExplainedAnswer
from fraud_kedro.serving.requests import TRANSACTION_ID

ADDED = pa.schema(
    [
        (TRANSACTION_ID, pa.string()),
        ("prediction", pa.int8()),
        ("probability", pa.float64()),
        ("decision", pa.string()),
        ("model_version", pa.string()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("error", pa.string()),
    ]
)
#: Added where reasons are asked for: each row's as the JSON that a single answer would have.
REASONS = pa.field("reasons", pa.string())
#: What an added column is called where the model reads one of its name.
RENAMED = "answer_"

_HOLD_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)

_ERROR = ADDED.get_field_index("error")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# A part would make a poor row group.
_ROW_GROUP = 32_768


class TableAnswers:
    """Writes CSV or Parquet.

    Columns that came under the name of an added one, such as those of an
    earlier answer, are replaced; where the model reads such a column, the added
    one is called ``answer_...``.

    Parameters
    ----------
    kind : Format
    came : pyarrow.Schema, optional
        The columns that came; none are repeated without.
    known : sequence of str
        The columns the model reads.
    explain : callable, optional
        Without it there is no column of reasons.

    Raises
    ------
    BatchError
        406 if a column that came cannot be written in CSV.
    """

    begun = True

    def __init__(
        self, kind: Format, came: pa.Schema | None, known: Sequence[str], explain: Explain | None = None
    ) -> None:
        self._kind = kind
        self._explain = explain
        added = [
            pa.field(
                RENAMED + f.name if f.name in known else f.name,
                pa.string() if kind is Format.CSV and f.name == "timestamp" else f.type,
            )
            for f in (ADDED if explain is None else ADDED.append(REASONS))
        ]
        taken = {field.name for field in added}
        self._repeated = [] if came is None else [f.name for f in came if f.name not in taken]
        fields = (
            []
            if came is None
            else [_plain(f) if kind is Format.CSV else f for f in came if f.name not in taken]
        )
        self._schema = pa.schema([*fields, *added])
        if kind is Format.CSV:
            _check_writable(self._schema)
        self._out = _Out()
        self._has_header = False
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._writer: pq.ParquetWriter | None = None

    def part(self, answered: Answered) -> bytes:
        """Add rows; Parquet comes by row group."""
        part = answered.part
        repeated = [] if part.columns is None else [part.columns[name] for name in self._repeated]
        columns = [*repeated, *self._added(answered)]
        batch = pa.RecordBatch.from_arrays(
            [c if c.type == f.type else c.cast(f.type) for c, f in zip(columns, self._schema, strict=True)],
            schema=self._schema,
        )
        if self._kind is Format.CSV:
            return self._csv_header() + _csv(batch)
        self._waiting.append(batch)
        self._rows += batch.num_rows
        return self._flush() if self._rows >= _ROW_GROUP else b""

    def end(self) -> Iterator[bytes]:
        """Write what waits, and Parquet's end."""
        if self._kind is Format.PARQUET:
            yield self._flush()
            self._parquet().close()
            yield self._out.taken()

    def close(self) -> None:
        """Nothing is open outside of memory."""

    def _added(self, answered: Answered) -> list[pa.Array]:
        part, stored = answered.part, answered.stored
        moments: dict[datetime, Any] = dict(timestamp_texts(stored))
        if self._kind is Format.PARQUET:
            moments = {moment: (moment - _EPOCH) // _MICROSECOND for moment in moments}
        rows: list[list[Any]] = [
            [r.transaction_id for r in stored],
            [r.prediction for r in stored],
            [r.probability for r in stored],
            [r.decision for r in stored],
            [r.model_version for r in stored],
            [moments[r.timestamp] for r in stored],
            [None] * len(stored),
        ]
        if self._explain is not None:
            rows.append([_reasons(one) for one in self._explain(answered)])
        if len(stored) < part.count:
            spread: list[list[Any]] = [[None] * part.count for _ in rows]
            for place, values in zip(spread, rows, strict=True):
                for row, value in zip(answered.rows, values, strict=True):
                    place[row] = value
            for error in answered.errors:
                spread[0][error.row - part.first] = error.transaction_id
                spread[_ERROR][error.row - part.first] = row_error(error.detail)
            rows = spread
        kinds = self._schema.types[-len(rows) :]
        return [
            text_column(values) if pa.types.is_string(kind) else number_column(values, kind)
            for values, kind in zip(rows, kinds, strict=True)
        ]

    def _flush(self) -> bytes:
        if self._waiting:
            self._parquet().write_table(pa.Table.from_batches(self._waiting), row_group_size=self._rows)
            self._waiting, self._rows = [], 0
        return self._out.taken()

    def _parquet(self) -> pq.ParquetWriter:
        if self._writer is None:
            texts = [
                f.name for f in self._schema if pa.types.is_string(f.type) or pa.types.is_dictionary(f.type)
            ]
            self._writer = pq.ParquetWriter(self._out, self._schema, use_dictionary=texts)
        return self._writer

    def _csv_header(self) -> bytes:
        if self._has_header:
            return b""
        self._has_header = True
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(self._schema.names)
        return text.getvalue().encode()


def _reasons(one: ExplainedAnswer) -> str:
    """The reasons of an answer in JSON, or why there are none."""
    given = {"base": one.base, "rest": one.rest, "reasons": one.reasons}
    return encode(given if one.reasons is not None else {"reasons_problem": one.reasons_problem}).decode()


class _Out(io.RawIOBase):
    """Collects what is written; positions go on when it is taken away."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._position += len(self._parts[-1])
        return len(self._parts[-1])

    def taken(self) -> bytes:
        found, self._parts = b"".join(self._parts), []
        return found


def _csv(batch: pa.RecordBatch) -> bytes:
    """Write rows; Arrow quotes every text or none, so those parts are quoted that need it."""
    for quoting in ("none", "needed"):
        out = io.BytesIO()
        options = pa_csv.WriteOptions(include_header=False, quoting_style=quoting)
        try:
            pa_csv.write_csv(batch, out, options)
        except pa.ArrowInvalid:
            if quoting == "needed":
                raise
        else:
            break
    return out.getvalue()


def _plain(field: pa.Field) -> pa.Field:
    """The field as CSV can write it."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    return pa.field(field.name, kind)


def _check_writable(schema: pa.Schema) -> None:
    """Refuse columns that have no text, before a row is scored: Arrow tells by writing one."""
    for field in schema:
        try:
            # Bytes would be written as they are, and CSV is UTF-8.
            if any(holds(field.type) for holds in _HOLD_BYTES):
                raise pa.ArrowInvalid
            _csv(pa.RecordBatch.from_arrays([pa.nulls(1, field.type)], [field.name]))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            message = f"holds {field.type}, which CSV cannot have. Ask for Parquet, or leave the column out."
            raise broken("not_acceptable", message, field.name[:100], status=406) from error
