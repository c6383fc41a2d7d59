"""The validator that the catalog names for a table of transactions.

Kedro calls it on each load of ``raw_transactions``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl

from fraud_kedro.errors import DataError, SchemaError
from fraud_kedro.schema import ResolvedSchema, TransactionSchema
from fraud_kedro.validation.csv_faults import csv_fault, separator_hint
from fraud_kedro.validation.expectations import Expectations, ranges_of_profile
from fraud_kedro.validation.parsing import Parser
from fraud_kedro.validation.report import ValidationReport
from fraud_kedro.validation.survey import Survey, survey

_REPEATED = "_duplicated_"


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
        table = pl.from_pandas(data).lazy() if isinstance(data, pd.DataFrame) else data.lazy()
        try:
            types = table.collect_schema()
            parser = self._parser(types)
            found = survey(table.select(parser.resolved.columns), parser, self._ranges(parser.resolved))
        except SchemaError as error:
            raise SchemaError(f"{self._location}: {error}") from error
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(self._unreadable(error)) from error
        self._judge(found, parser)
        return table.select(parser.parsed())

    def _parser(self, types: pl.Schema) -> Parser:
        columns = types.names()
        # Polars reads a header's second `V1` as ``V1_duplicated_0``, which a pattern would match.
        repeated = [c.split(_REPEATED)[0] for c in columns if _REPEATED in c]
        if repeated:
            raise SchemaError(
                f"the header names {', '.join(map(repr, repeated))} more than once. "
                "Give every column a name of its own."
            )
        try:
            resolved = self._schema.resolve(columns)
        except SchemaError as error:
            raise SchemaError(f"{error}{separator_hint(columns)}") from error
        parser = Parser(resolved, types, self._decimal)
        _require_types(parser)
        return parser

    def _ranges(self, resolved: ResolvedSchema) -> dict[str, tuple[float, float]]:
        declared = self._expectations.ranges_of(resolved)
        return {**ranges_of_profile(self._profile, resolved), **declared}

    def _judge(self, found: Survey, parser: Parser) -> None:
        if found.rows == 0:
            raise DataError(f"{self._location} has a header but no rows.")
        report = ValidationReport(
            table=self._location,
            rows=found.rows,
            place="line" if parser.from_text else "row",
            errors=found.errors,
            warnings=self._expectations.warnings(found, parser.resolved),
        )
        if self._report is not None:
            file = Path(self._report)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if report.errors:
            raise DataError(report.error_message(self._report))
        report.log_warnings()
        self._require_both_classes(found, parser.resolved)

    def _require_both_classes(self, found: Survey, resolved: ResolvedSchema) -> None:
        if found.frauds in (0, found.rows):
            only = "legitimate (0)" if found.frauds == 0 else "fraud (1)"
            raise DataError(
                f"{self._location}: all {found.rows:,} rows have {resolved.label!r} = {only}. "
                "A model needs examples of both classes."
            )
        if resolved.sample_weight is not None and min(found.weights) == 0:
            raise DataError(
                f"{self._location}: the weights {resolved.sample_weight!r} of one class are all zero."
            )

    def _unreadable(self, error: Exception) -> str:
        if isinstance(error, pl.exceptions.NoDataError):
            return f"{self._location} is empty. Put a table with a header and rows there."
        fault = csv_fault(Path(self._location))
        if fault is not None:
            return f"{self._location}: {fault}"
        reason = str(error).strip().split("\n", 1)[0].rstrip(".")
        return f"{self._location} cannot be read: {reason}."


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
    if strange:
        raise SchemaError(f"{'; '.join(strange)}.")
