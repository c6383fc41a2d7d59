"""Checks every value of the incoming table before anything is learned from it.

`TransactionsValidator` is named by the catalog entry ``raw_transactions``, so
Kedro calls it on each load. A table read as text (a CSV with ``infer_schema:
false``) is parsed here: guessing types from the first rows would turn one bad
value further down into a parser's error without a column or a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from fraud_kedro.errors import DataError, SchemaError
from fraud_kedro.schema import ResolvedSchema, TransactionSchema

EXAMPLES_PER_CHECK = 5

_REPEATED = "_duplicated_"

_BLANKS = ["", "na", "null", "none"]


class TransactionsValidator:
    """Validates a table of transactions against the roles of its columns.

    Parameters
    ----------
    schema : TransactionSchema or mapping
        The ``schema`` parameters.
    location : str
        What to call the table in messages, usually its path.
    """

    def __init__(self, schema: TransactionSchema | Mapping[str, Any], location: str = "the table") -> None:
        self._schema = TransactionSchema.model_validate(schema)
        self._location = location

    def validate(self, data: pl.LazyFrame | pl.DataFrame) -> pl.LazyFrame:
        """Return the columns that have a role, typed, or say everything that is wrong.

        Parameters
        ----------
        data : polars LazyFrame or DataFrame
            Text columns are parsed as numbers.

        Returns
        -------
        LazyFrame
            Features, time, amount and weight as Float64, the label as Int8, the
            id as String.

        Raises
        ------
        SchemaError
            If a column with a required role is missing.
        DataError
            If the table is unreadable or empty, or a value fails its check; the
            message counts the failures of each check and shows examples.
        """
        try:
            columns = data.lazy().collect_schema().names()
            self._refuse_repeated(columns)
            resolved = self._schema.resolve(columns)
            frame = data.lazy().select(resolved.columns).collect()
        except SchemaError as error:
            raise SchemaError(f"{self._location}: {error}") from error
        except pl.exceptions.NoDataError as error:
            raise DataError(
                f"{self._location} is empty. Put a table with a header and rows there."
            ) from error
        except pl.exceptions.PolarsError as error:
            reason = str(error).split("\n", 1)[0]
            raise DataError(f"{self._location} cannot be read: {reason}.") from error
        if frame.is_empty():
            raise DataError(f"{self._location} has a header but no rows.")
        self._require_numbers(frame, resolved)
        parsed = _parse(frame, resolved)
        failures = [
            *_failures(_text_checks(frame, resolved), frame, frame),
            *_failures(_value_checks(resolved), parsed, frame),
        ]
        if failures:
            from_text = any(dtype == pl.String for dtype in frame.select(resolved.features).dtypes)
            raise DataError(self._message(failures, frame.height, from_text))
        self._require_both_classes(parsed, resolved)
        return parsed.lazy()

    def _refuse_repeated(self, columns: list[str]) -> None:
        """Polars reads a header's second `V1` as ``V1_duplicated_0``, which a pattern would match."""
        repeated = [c.split(_REPEATED)[0] for c in columns if _REPEATED in c]
        if repeated:
            raise DataError(
                f"{self._location}: the header names {', '.join(map(repr, repeated))} more than once. "
                "Give every column a name of its own."
            )

    def _message(self, failures: list[_Failure], rows: int, from_text: bool) -> str:
        # A CSV's first row is on line 2.
        place, first = ("line", 2) if from_text else ("row", 1)
        lines = [failure.describe(place, first) for failure in failures]
        return (
            f"{self._location}: {len(lines)} check(s) failed in {rows:,} rows. "
            + "; ".join(lines)
            + ". Mend or remove these rows."
        )

    def _require_numbers(self, frame: pl.DataFrame, resolved: ResolvedSchema) -> None:
        # Casting would count a date in microseconds without a word.
        strange = {
            column: dtype
            for column, dtype in frame.select(_numeric(resolved)).schema.items()
            if not (dtype.is_numeric() or dtype in (pl.String, pl.Boolean, pl.Null))
        }
        if strange:
            named = ", ".join(f"{column!r} is {dtype}" for column, dtype in strange.items())
            raise DataError(f"{self._location}: {named}, not a number. Convert it first (a date to seconds).")

    def _require_both_classes(self, parsed: pl.DataFrame, resolved: ResolvedSchema) -> None:
        frauds = int(parsed[resolved.label].sum())
        if frauds in (0, parsed.height):
            only = "legitimate (0)" if frauds == 0 else "fraud (1)"
            raise DataError(
                f"{self._location}: all {parsed.height:,} rows have {resolved.label!r} = {only}. "
                "A model needs examples of both classes."
            )
        if resolved.sample_weight is not None:
            weights = parsed.group_by(resolved.label).agg(pl.col(resolved.sample_weight).sum())
            if weights[resolved.sample_weight].min() == 0:
                raise DataError(
                    f"{self._location}: the weights {resolved.sample_weight!r} of one class are all zero."
                )


class _Failure:
    """A failed check of one column."""

    def __init__(self, column: str, check: str, rows: pl.Series, values: pl.Series) -> None:
        self._column, self._check, self._rows, self._values = column, check, rows, values

    def describe(self, place: str, first: int) -> str:
        """One clause: column, check, count, examples as they are written in the table."""
        shown = self._rows.head(EXAMPLES_PER_CHECK)
        examples = ", ".join(f"{place} {row + first}: {self._values[row]!r}" for row in shown)
        count = len(self._rows)
        return f"{self._column!r} {self._check} in {count:,} row{'s' if count > 1 else ''} ({examples})"


def _failures(schema: pa.DataFrameSchema, frame: pl.DataFrame, written: pl.DataFrame) -> list[_Failure]:
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        if cases["index"].null_count():
            # A check that could not run is a defect, not a finding about the table.
            raise
        return [
            _Failure(str(column), str(check), group["index"], written[str(column)])
            for (column, check), group in cases.group_by("column", "check", maintain_order=True)
        ]
    return []


def _numeric(resolved: ResolvedSchema) -> tuple[str, ...]:
    return tuple(c for c in resolved.columns if c != resolved.transaction_id)


def _parse(frame: pl.DataFrame, resolved: ResolvedSchema) -> pl.DataFrame:
    columns = [_number(column, frame.schema[column]).alias(column) for column in _numeric(resolved)]
    if resolved.transaction_id is not None:
        columns.append(pl.col(resolved.transaction_id).cast(pl.String))
    parsed = frame.select(columns).select(resolved.columns)
    if parsed[resolved.label].is_in([0.0, 1.0]).all():
        parsed = parsed.with_columns(pl.col(resolved.label).cast(pl.Int8))
    return parsed


def _number(column: str, dtype: pl.DataType) -> pl.Expr:
    value = pl.col(column)
    if dtype == pl.String:
        value = value.str.strip_chars()
    return value.cast(pl.Float64, strict=False)


def _in_lower_case(value: pl.Expr) -> pl.Expr:
    return value.str.strip_chars().str.to_lowercase()


def _text_checks(frame: pl.DataFrame, resolved: ResolvedSchema) -> pa.DataFrameSchema:
    """Checks on values as they were written: present, and numbers."""

    def present(data: pa.PolarsData) -> pl.LazyFrame:
        value = pl.col(data.key)
        empty = value.is_null()
        if frame.schema[data.key] == pl.String:
            empty |= _in_lower_case(value).is_in([*_BLANKS, "nan"])
        elif frame.schema[data.key].is_float():
            empty |= value.is_nan()
        return data.lazyframe.select(~empty)

    def number(data: pa.PolarsData) -> pl.LazyFrame:
        value = pl.col(data.key)
        parsed = _number(data.key, frame.schema[data.key])
        blank = _in_lower_case(value).is_in(_BLANKS)
        return data.lazyframe.select(value.is_null() | blank | parsed.is_not_null())

    columns = {}
    for column in resolved.columns:
        checks = [pa.Check(present, name="is missing")]
        if frame.schema[column] == pl.String and column != resolved.transaction_id:
            checks.append(pa.Check(number, name="is not a number"))
        # nullable: a missing value is reported by its check, with the others.
        columns[column] = pa.Column(checks=checks, nullable=True)
    return pa.DataFrameSchema(columns)


def _value_checks(resolved: ResolvedSchema) -> pa.DataFrameSchema:
    """Checks on parsed numbers; what is missing was reported before and passes here."""

    def holds(condition: pl.Expr) -> Any:
        def check(data: pa.PolarsData) -> pl.LazyFrame:
            return data.lazyframe.select(condition.fill_null(True).alias(data.key))

        return check

    columns = {}
    for column in _numeric(resolved):
        value = pl.col(column)
        known = ~(value.is_null() | value.is_nan())
        checks = []
        if column == resolved.label:
            checks.append(pa.Check(holds(~known | (value == 0) | (value == 1)), name="is neither 0 nor 1"))
        else:
            # float32 is what a model reads.
            fits = value.abs() <= 3.4028234e38
            checks.append(pa.Check(holds(~known | fits), name="is infinite or too large"))
        if column in (resolved.amount, resolved.sample_weight):
            checks.append(pa.Check(holds(~known | (value >= 0)), name="is negative"))
        columns[column] = pa.Column(checks=checks, nullable=True)
    if resolved.transaction_id is not None:
        columns[resolved.transaction_id] = pa.Column(
            checks=[pa.Check(holds(pl.col(resolved.transaction_id).is_first_distinct()), name="is repeated")],
            nullable=True,
        )
    return pa.DataFrameSchema(columns)
