"""Batches in CSV and Parquet, read in parts by pyarrow.

pyarrow is imported here, in `batch_rows`, `batch_arrays` and `batch_table_answers` alone, by the first
batch of that kind: 0.15 seconds and 36 MiB that a service without such batches never spends.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from fraud_kedro.serving.batch import ROWS_PER_PART, Part, broken
from fraud_kedro.serving.batch_rows import NUMBER, TableRows, is_text
from fraud_kedro.serving.requests import RequestFormat

_BLOCK_BYTES = 1024 * 1024
_READ_BYTES = 256 * 1024
# Of one row over all its columns of text. A Parquet file of some KiB could become as many GiB.
_LONGEST_ROW = 64 * 1024
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


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
        for sign, called in _OTHER_SEPARATORS.items():
            if len(names) == 1 and sign in names[0]:
                raise broken("csv_separator", f"has {called} between its values. Save it with commas.")
        if all(NUMBER.fullmatch(name.strip()) for name in names):
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
            texts = [field.name for field in probe.schema_arrow if is_text(field.type)]
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


def _sliced(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, ROWS_PER_PART):
        yield batch.slice(start, ROWS_PER_PART)


def _check_length(batch: pa.RecordBatch) -> None:
    longest = 0
    for column in batch.columns:
        values = column.dictionary if pa.types.is_dictionary(column.type) else column
        if is_text(values.type) or pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
            longest += pc.max(pc.binary_length(values)).as_py() or 0
    if longest > _LONGEST_ROW:
        raise broken("text_length", f"has rows with more than {_LONGEST_ROW} characters of text.")


def _too_many(limit: int) -> Exception:
    return broken("list_length", f"should have 1 to {limit} rows. Send it in parts.", status=413)


def _too_few(limit: int) -> Exception:
    return broken("list_length", f"should have 1 to {limit} rows, not 0")


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
