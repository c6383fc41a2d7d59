"""The validator that the catalog names for a table of transactions.

Kedro calls it on each load of ``raw_transactions``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import polars as pl

from fraud_kedro.errors import DataError, FraudKedroError, SchemaError
from fraud_kedro.schema import ResolvedSchema, TransactionSchema
from fraud_kedro.validation.csv_faults import (
    REPEATED,
    csv_fault,
    header_fault,
    header_hint,
    is_csv,
    rows_with_lines,
)
from fraud_kedro.validation.expectations import Expectations, ranges_of_profile
from fraud_kedro.validation.mends import mends
from fraud_kedro.validation.names import unlike_by_a_trifle
from fraud_kedro.validation.parsing import Parser
from fraud_kedro.validation.report import Example, Finding, ValidationReport, shown
from fraud_kedro.validation.survey import Survey, survey
from fraud_kedro.validation.unreadable import first_line, unreadable


class TransactionsValidator:
    """Validates a table of transactions against the roles of its columns.

    Every value is checked in one streamed pass, so the table may be larger than
    the memory.

    Parameters
    ----------
    schema : TransactionSchema or mapping
        The ``schema`` parameters.
    location : str
        What to call the table in messages, usually its path.
    expectations : Expectations or mapping, optional
        The ``expectations`` parameters: what is worth a warning.
    decimal : str, default "."
        The decimal sign of numbers written as text.
    report : str, optional
        Where to write what was found, as JSON.
    profile : str, optional
        A profile of the table before; values outside its ranges are worth a
        warning.
    """

    def __init__(
        self,
        schema: TransactionSchema | Mapping[str, Any],
        location: str = "the table",
        expectations: Expectations | Mapping[str, Any] | None = None,
        decimal: str = ".",
        report: str | None = None,
        profile: str | None = None,
    ) -> None:
        self._schema = TransactionSchema.model_validate(schema)
        self._location = location
        self._expectations = Expectations.model_validate(expectations or {})
        self._decimal = decimal
        self._report = report
        self._profile = profile

    def validate(self, data: pl.LazyFrame | pl.DataFrame | pd.DataFrame) -> pl.LazyFrame:
        """Return the columns that have a role, typed, or say everything that is wrong.

        Parameters
        ----------
        data : polars LazyFrame or DataFrame, or pandas DataFrame
            Text columns are parsed.

        Returns
        -------
        LazyFrame
            Features, time, amount and weight as Float64, the label as Int8, the
            id as String. Timestamps are seconds from the schema's origin.

        Raises
        ------
        SchemaError
            If a column with a required role is missing.
        DataError
            If the table is unreadable or empty, or a value fails its check; the
            message counts the failures of each check and shows examples.
        """
        table = self._table(data)
        try:
            types = table.collect_schema()
            parser = self._parser(types)
            found = survey(table.select(parser.resolved.columns), parser, self._ranges(parser.resolved))
            self._require_whole_rows(table, types, parser)
        except SchemaError as error:
            raise SchemaError(f"{self._location}: {error}") from error
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._unreadable(error) from error
        self._judge(found, parser)
        return table.select(parser.parsed())

    def _table(self, data: object) -> pl.LazyFrame:
        if isinstance(data, pl.LazyFrame | pl.DataFrame):
            return data.lazy()
        if not isinstance(data, pd.DataFrame):
            raise SchemaError(
                f"{self._location} gives {type(data).__name__} in place of a table. If it comes in "
                "chunks, remove load_args.chunksize in the catalog."
            )
        key = self._schema.transaction_id
        if key in data.columns and data[key].dtype == object:
            # Ids such as UUIDs are objects to pandas.
            data = data.copy(deep=False)
            data[key] = data[key].map(str, na_action="ignore")
        try:
            return pl.from_pandas(data).lazy()
        except (TypeError, ValueError) as error:
            raise DataError(f"{self._location} cannot be read: {first_line(error)}.") from error

    def _parser(self, types: pl.Schema) -> Parser:
        columns = types.names()
        text = all(dtype == pl.String for dtype in types.dtypes())
        if text and (fault := header_fault(columns)):
            raise SchemaError(fault)
        if unlike := unlike_by_a_trifle(self._schema, columns):
            raise SchemaError(unlike)
        try:
            resolved = self._schema.resolve(columns)
        except SchemaError as error:
            raise SchemaError(f"{error}{header_hint(columns) if text else ''}") from error
        repeated = {match[1] for column in columns if (match := REPEATED.fullmatch(column))} & {*columns}
        used = [column for column in resolved.columns if (REPEATED.sub(r"\1", column)) in repeated]
        if used:
            named = dict.fromkeys(REPEATED.sub(r"\1", column) for column in used)
            raise SchemaError(
                f"the header names {', '.join(map(repr, named))} more than once. "
                "Give every column a name of its own."
            )
        parser = Parser(resolved, types, self._decimal)
        _require_types(parser)
        return parser

    def _ranges(self, resolved: ResolvedSchema) -> dict[str, tuple[float, float]]:
        declared = self._expectations.ranges_of(resolved)
        return {**ranges_of_profile(self._profile, resolved), **declared}

    def _judge(self, found: Survey, parser: Parser) -> None:
        if found.rows == 0:
            raise DataError(f"{self._location} has a header but no rows. Put the rows below it.")
        errors, place = self._with_lines(found.errors)
        report = ValidationReport(
            table=self._location,
            rows=found.rows,
            place=place,
            errors=errors,
            warnings=self._expectations.warnings(found, parser.resolved),
        )
        if self._report is not None:
            file = Path(self._report)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if report.errors:
            raise DataError(report.error_message(self._report, mends(errors, parser)))
        self._require_both_classes(found, parser.resolved)
        report.log_warnings()

    def _with_lines(
        self, findings: tuple[Finding, ...]
    ) -> tuple[tuple[Finding, ...], Literal["line", "row"]]:
        """Examples by the line of the file, where the file can be seen to hold them there."""
        file = Path(self._location)
        rows = [example.row - 1 for finding in findings for example in finding.examples]
        if not rows or not is_csv(file):
            return findings, "row"
        lines = rows_with_lines(file, rows)
        placed = []
        for finding in findings:
            examples = []
            for example in finding.examples:
                line, cells = lines.get(example.row - 1, (0, {}))
                if line == 0 or shown(cells.get(finding.column) or "") != (example.value or ""):
                    return findings, "row"
                examples.append(Example(row=line, value=example.value))
            placed.append(finding.model_copy(update={"examples": tuple(examples)}))
        return tuple(placed), "line"

    def _require_whole_rows(self, table: pl.LazyFrame, types: pl.Schema, parser: Parser) -> None:
        """A CSV's row that lacks a cell in its middle shifts the others, and polars fills up its end."""
        last = types.names()[-1]
        file = Path(self._location)
        if last in parser.resolved.columns or not is_csv(file):
            return
        if table.select(pl.col(last).null_count()).collect(engine="streaming").item() == 0:
            return
        fault = csv_fault(file, short_rows=True)
        if fault is not None:
            raise DataError(f"{self._location}: {fault}")

    def _require_both_classes(self, found: Survey, resolved: ResolvedSchema) -> None:
        if found.frauds in (0, found.rows):
            only = "legitimate (0)" if found.frauds == 0 else "fraud (1)"
            raise DataError(
                f"{self._location}: all {found.rows:,} rows have {resolved.label!r} = {only}. "
                "A model needs examples of both classes."
            )
        if resolved.sample_weight is not None and min(found.weights) == 0:
            raise DataError(
                f"{self._location}: the weights {resolved.sample_weight!r} of one class are all zero. "
                "Give rows of both classes a weight above zero."
            )

    def _unreadable(self, error: Exception) -> FraudKedroError:
        if isinstance(error, pl.exceptions.NoDataError):
            return DataError(f"{self._location} is empty. Put a table with a header and rows there.")
        fault = csv_fault(Path(self._location))
        if fault is not None:
            return DataError(f"{self._location}: {fault}")
        return unreadable(self._location, error)


def _require_types(parser: Parser) -> None:
    """Casting would count a date in microseconds without a word."""
    time = parser.resolved.time
    strange = []
    for column in parser.numeric:
        dtype = parser.types[column]
        is_moment = dtype.is_temporal() and dtype not in (pl.Time, pl.Duration)
        if column == time and parser.resolved.has_timestamps:
            if not (is_moment or dtype in (pl.String, pl.Null)):
                strange.append(
                    f"{column!r} is {dtype}, not a timestamp. If it counts seconds, set schema.time.format "
                    "to seconds"
                )
        elif column == time and is_moment:
            strange.append(f"{column!r} is {dtype}. Set schema.time.format to iso8601")
        elif not (dtype.is_numeric() or dtype in (pl.String, pl.Boolean, pl.Null)):
            strange.append(
                f"{column!r} is {dtype}, not a number. Convert it, or leave it out of schema.features"
            )
    key = parser.resolved.transaction_id
    if key is not None and parser.types[key].is_nested():
        strange.append(
            f"{key!r} is {parser.types[key]}, not an id. Convert it, or set schema.transaction_id to null"
        )
    if strange:
        raise SchemaError(f"{'; '.join(strange)}.")
