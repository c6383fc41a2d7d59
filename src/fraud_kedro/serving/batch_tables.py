"""Batches in CSV and Parquet, read in parts by pyarrow, whose checks go by column.

pyarrow is imported here and in `batch_answers` alone, by the first batch of that
kind: 0.15 seconds and 36 MiB that a service without such batches never spends.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from msgspec import UNSET
from numpy.typing import NDArray

from fraud_kedro.serving.answers import RowError
from fraud_kedro.serving.batch import ROWS_PER_PART, WHERE, Part, broken
from fraud_kedro.serving.batch_arrays import flags, integers, numbers
from fraud_kedro.serving.requests import (
    LARGEST,
    TIMESTAMP_EXAMPLE,
    TRANSACTION_ID,
    FieldError,
    InvalidRequestError,
    RequestFormat,
    Transaction,
    is_id,
)

_BLOCK_BYTES = 1024 * 1024
_READ_BYTES = 256 * 1024
_MOST_COLUMNS = 2000
# Of one row over all its columns of text. A Parquet file of some KiB could become as many GiB.
_LONGEST_ROW = 64 * 1024
_SHOWN_NAMES = 20

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS = 1_000_000
_NEAR_SECONDS = 1e10
_TICKS = {"s": 1, "ms": 1000, "us": _MICROSECONDS, "ns": 1000 * _MICROSECONDS}

_PLAIN_NUMBER = r"^-?[0-9]{1,17}(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,2})?$"
_NUMBER = re.compile(
    r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE
)


class CsvSource:
    """Reads a CSV body: UTF-8, commas, a header.

    Parameters
    ----------
    file : binary file
    requests : RequestFormat
    limit : int
        Most rows.
    """

    def __init__(self, file: BinaryIO, requests: RequestFormat, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._table = TableRows(requests)
        self._names: list[str] = []

    @property
    def schema(self) -> pa.Schema:
        """The columns, after `check`; all are texts."""
        return pa.schema([(name, pa.string()) for name in self._names])

    def check(self) -> int:
        """Read all of it for its encoding and its widths."""
        self._check_encoding()
        self._names = self._header()
        self._table.check_names(self._names)
        rows = 0
        # A name of their own for each: the reader looks columns up by name.
        for batch in self._read([self._names[0]]):
            rows += batch.num_rows
            if rows > self._limit:
                raise _too_many(self._limit)
        if rows == 0:
            raise _too_few(self._limit)
        return rows

    def parts(self) -> Iterator[Part]:
        """Read, check and convert the rows, some at a time."""
        first = 0
        for batch in self._read(None):
            for part in _sliced(batch):
                yield self._table.part(first, part)
                first += part.num_rows

    def _check_encoding(self) -> None:
        self._file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        done = 0
        try:
            while block := self._file.read(_BLOCK_BYTES):
                if b"\0" in block:
                    raise broken("csv_invalid", f"has a NUL after byte {done}; is it UTF-8 text?")
                decoder.decode(block)
                done += len(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise broken(
                "csv_encoding", f"is not UTF-8 (after byte {done}). Save the table as UTF-8."
            ) from error

    def _header(self) -> list[str]:
        self._file.seek(0)
        start = io.StringIO(self._file.read(_BLOCK_BYTES).decode("utf-8-sig", errors="ignore"), newline="")
        try:
            names = next((row for row in csv.reader(start) if row), None)
        except csv.Error as error:
            raise broken("csv_invalid", f"has no header that can be read: {error}") from error
        if names is None:
            raise broken("csv_empty", "is empty. The first line should name the columns.")
        if all(_NUMBER.fullmatch(name.strip()) for name in names):
            raise broken(
                "csv_header", "has no header: the first line should name the columns, not hold numbers."
            )
        return names

    def _read(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        uneven: list[pa_csv.InvalidRow] = []

        def refuse(row: pa_csv.InvalidRow) -> str:
            uneven.append(row)
            return "error"

        self._file.seek(0)
        try:
            reader = pa_csv.open_csv(
                pa.PythonFile(self._file, mode="r"),
                read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
                parse_options=pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(self._names, pa.string()),
                    strings_can_be_null=False,
                    check_utf8=False,
                    include_columns=columns,
                ),
            )
            yield from reader
        except pa.ArrowInvalid as error:
            if uneven:
                row = uneven[0]
                where = "" if row.number is None else f" {row.number}"
                message = (
                    f"has {row.actual_columns} values in row{where}, but {row.expected_columns} columns."
                )
                raise broken("csv_width", message) from error
            if "Empty CSV file" in str(error):
                raise _too_few(self._limit) from error
            raise broken("csv_invalid", f"is not a table in CSV: {_first_line(error)}") from error


class ParquetSource:
    """Reads a Parquet body.

    Parameters
    ----------
    file : binary file
    requests : RequestFormat
    limit : int
        Most rows.
    """

    def __init__(self, file: BinaryIO, requests: RequestFormat, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._table = TableRows(requests)
        self.schema: pa.Schema = pa.schema([])

    def check(self) -> int:
        """Read all of it once: a broken page shows only then."""
        rows = 0
        for batch in self._read(first=True):
            rows += batch.num_rows
            if rows > self._limit:
                raise _too_many(self._limit)
            _check_length(batch)
        if rows == 0:
            raise _too_few(self._limit)
        return rows

    def parts(self) -> Iterator[Part]:
        """Read, check and convert the rows, some at a time."""
        first = 0
        for batch in self._read(first=False):
            yield self._table.part(first, batch)
            first += batch.num_rows

    def _read(self, *, first: bool) -> Iterator[pa.RecordBatch]:
        self._file.seek(0)
        try:
            # Texts stay as they are stored: one that all rows share is in memory once.
            probe = pq.ParquetFile(pa.PythonFile(self._file, mode="r"))
            texts = [field.name for field in probe.schema_arrow if _is_text(field.type)]
            if first:
                if probe.metadata.num_rows > self._limit:
                    raise _too_many(self._limit)
                self._check_schema(probe.schema_arrow)
            # Pages are read one by one: a row group can be the whole file.
            self._file.seek(0)
            reader = pq.ParquetFile(
                pa.PythonFile(self._file, mode="r"),
                buffer_size=_READ_BYTES,
                pre_buffer=False,
                read_dictionary=texts,
                page_checksum_verification=True,
            )
            if first:
                self.schema = reader.schema_arrow.remove_metadata()
            for batch in reader.iter_batches(batch_size=ROWS_PER_PART, use_threads=False):
                batch.validate(full=first)
                yield batch
        except (pa.ArrowException, OSError, ValueError) as error:
            # Arrow's own class is an OSError for pages that cannot be read.
            raise broken(
                "parquet_invalid", f"is not a Parquet file that can be read: {_first_line(error)}"
            ) from error

    def _check_schema(self, schema: pa.Schema) -> None:
        self._table.check_names(schema.names)
        nested = [field.name for field in schema if pa.types.is_nested(field.type)]
        if nested:
            raise broken("parquet_nested", "should be a flat column, not a list or a structure", nested[0])
        self._table.check_types(schema)


class TableRows:
    """Turns rows of a table into transactions, and says what is wrong with those that are none.

    Parameters
    ----------
    requests : RequestFormat
    """

    def __init__(self, requests: RequestFormat) -> None:
        self._requests = requests
        self._fields = (*requests.features, *requests.optional)
        self._count = len(requests.features)
        schema = requests.schema
        self._moment = schema.time if schema.has_timestamps else None
        self._bounds = np.array([np.inf if f in requests.unbounded else LARGEST for f in self._fields])

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse a table whose columns do not fit the model."""
        if len(names) > _MOST_COLUMNS:
            raise broken("columns", f"has {len(names)} columns, more than {_MOST_COLUMNS}.")
        repeated = (
            [name for name in dict.fromkeys(names) if names.count(name) > 1]
            if len({*names}) < len(names)
            else []
        )
        missing = [name for name in self._requests.features if name not in names]
        errors = [("repeated", name, "is the name of more than one column") for name in repeated]
        errors += [("missing", name, "is required: there is no column of this name") for name in missing]
        if errors:
            problem = broken(errors[0][0], errors[0][2], errors[0][1][:100])
            problem.errors = [
                FieldError(kind, ("body", name[:100]), message)
                for kind, name, message in errors[:_SHOWN_NAMES]
            ]
            raise problem

    def check_types(self, schema: pa.Schema) -> None:
        """Refuse a table whose columns can hold no such value."""
        for name in self._fields:
            if name not in schema.names:
                continue
            kind = schema.field(name).type
            if pa.types.is_null(kind):
                continue
            if name == self._moment:
                if not (pa.types.is_timestamp(kind) or _is_text(kind)):
                    raise broken("datetime", f"should hold timestamps, not {kind}", name)
            elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
                raise broken("float_type", f"should hold numbers, not {kind}", name)
        if TRANSACTION_ID in schema.names:
            kind = schema.field(TRANSACTION_ID).type
            if not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
                raise broken("string_type", f"should hold texts or integers, not {kind}", TRANSACTION_ID)

    def part(self, first: int, batch: pa.RecordBatch) -> Part:
        """Check and convert some rows.

        Parameters
        ----------
        first : int
            Which row of the table the first one is.
        batch : pyarrow.RecordBatch
        """
        given = [name for name in self._fields if name in batch.schema.names]
        values = np.full((batch.num_rows, len(self._fields)), np.nan)
        for name in given:
            values[:, self._fields.index(name)] = self._values(name, batch[name])
        is_given = np.array([name in given for name in self._fields])
        with np.errstate(invalid="ignore"):
            bad = is_given & ~(np.abs(values) <= self._bounds) | ~np.isfinite(values) & is_given
        ids = _texts(batch[TRANSACTION_ID]) if TRANSACTION_ID in batch.schema.names else None
        suspects = {*np.flatnonzero(bad.any(axis=1)).tolist()}
        if ids is not None:
            suspects.update(i for i, text in enumerate(ids) if text and not is_id(text))
        absent: list[tuple[int, int]] = []
        errors = self._errors(first, batch, values, ids, sorted(suspects), bad, absent)
        failed = {error.row - first for error in errors}
        moments, late = self._event_times(first, values, failed)
        errors = sorted([*errors, *late], key=lambda error: error.row)
        failed.update(error.row - first for error in late)
        rows = [i for i in range(batch.num_rows) if i not in failed] if failed else range(batch.num_rows)
        kept = values[rows] if failed else values
        blanks = {*absent}

        def transactions() -> list[Transaction]:
            return self._transactions(rows, kept, is_given, blanks, ids, moments)

        return Part(
            first=first,
            count=batch.num_rows,
            rows=rows,
            values=np.ascontiguousarray(kept[:, : self._count]),
            transactions=transactions,
            errors=errors,
            columns=batch,
        )

    def _values(self, name: str, column: pa.Array) -> NDArray[np.float64]:
        """Numbers of a column; NaN where there is none that can be read."""
        if name == self._moment:
            return self._seconds(column)
        if pa.types.is_null(column.type):
            return np.full(len(column), np.nan)
        if not _is_text(column.type):
            return numbers(column)
        try:
            return numbers(pc.cast(column, pa.float64()))
        except pa.ArrowInvalid:
            plain = pc.match_substring_regex(column, _PLAIN_NUMBER)
            values = numbers(
                pc.cast(pc.if_else(plain, column, pa.nulls(len(column), column.type)), pa.float64())
            )
            for index in np.flatnonzero(~flags(plain)).tolist():
                values[index] = _number(column[index].as_py())
            return values

    def _seconds(self, column: pa.Array) -> NDArray[np.float64]:
        """Seconds from the origin of a column of timestamps; without a zone they are UTC."""
        if not pa.types.is_timestamp(column.type):
            moments = [_moment(text) for text in _texts(column)]
            seconds = self._requests.seconds
            return np.array([np.nan if moment is None else seconds(moment) for moment in moments])
        ticks = integers(column.cast(pa.int64()))
        per_second = _TICKS[column.type.unit]
        if per_second > _MICROSECONDS:
            ticks, per_second = ticks // (per_second // _MICROSECONDS), _MICROSECONDS
        origin = self._requests.seconds(_EPOCH) * per_second
        # Both are whole numbers that float64 holds exactly within the calendar.
        found = (ticks.astype(np.float64) + origin) / per_second
        return np.where(flags(column.is_null()), np.nan, found)

    def _errors(
        self,
        first: int,
        batch: pa.RecordBatch,
        values: NDArray[np.float64],
        ids: Sequence[str | None] | None,
        suspects: Sequence[int],
        bad: NDArray[np.bool_],
        absent: list[tuple[int, int]],
    ) -> list[RowError]:
        """Look at rows one by one; blanks in columns that need not be there are kept in `absent`."""
        errors = []
        for row in suspects:
            where = (*WHERE, first + row)
            problems = []
            for column in np.flatnonzero(bad[row]).tolist():
                name = self._fields[column]
                raw = batch[name][row].as_py()
                if raw is None or raw == "":
                    if column >= self._count:
                        absent.append((row, column))
                    else:
                        problems.append(FieldError("missing", (*where, name), "is required"))
                    continue
                problem = self._problem(name, raw, float(values[row, column]))
                problems.append(FieldError(problem[0], (*where, name), problem[1]))
            given = None if ids is None else ids[row] or None
            if given is not None and not is_id(given):
                kind, message = self._requests.problem(TRANSACTION_ID, given) or ("", "")
                problems.append(FieldError(kind, (*where, TRANSACTION_ID), message))
                given = None
            if problems:
                errors.append(RowError(first + row, given, problems))
        return errors

    def _problem(self, name: str, raw: Any, value: float) -> tuple[str, str]:
        if name == self._moment:
            return "datetime", f"should be a timestamp, such as {TIMESTAMP_EXAMPLE!r}"
        if isinstance(raw, str) and not _NUMBER.fullmatch(raw.strip()):
            return "float_type", "should be a number, not a string"
        return self._requests.problem(name, value) or ("finite_number", "should be a finite number")

    def _event_times(
        self,
        first: int,
        values: NDArray[np.float64],
        failed: set[int],
    ) -> tuple[list[datetime | None] | None, list[RowError]]:
        """When each transaction happened, where the schema knows what second 0 is."""
        schema = self._requests.schema
        if schema.time_origin is None or schema.time not in self._fields:
            return None, []
        column = self._fields.index(schema.time)
        seconds = values[:, column]
        origin = schema.time_origin.astimezone(UTC)
        # Well within the years 1 to 9999; others are looked at one by one.
        near = np.abs(seconds + origin.timestamp()) < _NEAR_SECONDS
        moments: list[datetime | None] = [
            origin + timedelta(seconds=second) if fits else None
            for second, fits in zip(seconds.tolist(), near.tolist(), strict=True)
        ]
        errors = []
        for row in np.flatnonzero(~near & np.isfinite(seconds)).tolist():
            if row not in failed:
                try:
                    moments[row] = self._requests.event_time(float(seconds[row]), (*WHERE, first + row))
                except InvalidRequestError as error:
                    errors.append(RowError(first + row, None, error.errors))
        return moments, errors

    def _transactions(
        self,
        rows: Sequence[int],
        values: NDArray[np.float64],
        is_given: NDArray[np.bool_],
        absent: set[tuple[int, int]],
        ids: Sequence[str | None] | None,
        moments: Sequence[datetime | None] | None,
    ) -> list[Transaction]:
        full: list[Any] = values.tolist()
        for column in np.flatnonzero(~is_given).tolist():
            for row_values in full:
                row_values[column] = UNSET
        if absent:
            place = {row: index for index, row in enumerate(rows)}
            for row, column in absent:
                if row in place:
                    full[place[row]][column] = UNSET
        contents = self._requests.contents(full)
        count = self._count
        return [
            Transaction(
                (ids[row] or None) if ids is not None else None,
                tuple(numbers[:count]),
                features,
                digest,
                None if moments is None else moments[row],
            )
            for row, numbers, (features, digest) in zip(rows, full, contents, strict=True)
        ]


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _texts(column: pa.Array) -> list[str | None]:
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    found: list[str | None] = column.to_pylist()
    return found


def _number(text: str | None) -> float:
    stripped = (text or "").strip()
    return float(stripped) if _NUMBER.fullmatch(stripped) else np.nan


def _moment(text: str | None) -> datetime | None:
    try:
        return msgspec.convert(text, datetime) if text else None
    except msgspec.ValidationError:
        return None


def _sliced(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, ROWS_PER_PART):
        yield batch.slice(start, ROWS_PER_PART)


def _check_length(batch: pa.RecordBatch) -> None:
    longest = 0
    for column in batch.columns:
        values = column.dictionary if pa.types.is_dictionary(column.type) else column
        if _is_text(values.type) or pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
            longest += pc.max(pc.binary_length(values)).as_py() or 0
    if longest > _LONGEST_ROW:
        raise broken("text_length", f"has rows with more than {_LONGEST_ROW} characters of text.")


def _too_many(limit: int) -> Exception:
    return broken("list_length", f"should have 1 to {limit} rows. Send it in parts.", status=413)


def _too_few(limit: int) -> Exception:
    return broken("list_length", f"should have 1 to {limit} rows, not 0")


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
