"""What a value must be, as pandera schemas made for one table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pandera.polars as pa
import polars as pl

from fraud_kedro.validation.parsing import Parser

# The largest float32: what a model reads.
_LARGEST = 3.4028234e38
# Seconds that only smaller units reach: 3,000 years.
_LARGEST_SECONDS = 1e11
_FIRST_YEAR, _LAST_YEAR = 1900, 2199

MISSING = "is missing"


def value_checks(parser: Parser) -> pa.DataFrameSchema:
    """Checks that every value must pass, on rows as they are written.

    Parameters
    ----------
    parser : Parser
        Knows the roles, the types and how text is read.

    Returns
    -------
    pandera.polars.DataFrameSchema
        Each value fails one check at most, so that it is reported once.
    """
    resolved = parser.resolved
    columns = {}
    for column in resolved.columns:
        blank, number = parser.blank(column), parser.number(column)
        checks = [_check(blank, MISSING)]
        if column != resolved.transaction_id:
            known = ~blank & number.is_not_null()
            checks.append(_check(~blank & number.is_null(), f"is not a {_kind(column, parser)}"))
            if column == resolved.label:
                checks.append(_check(known & (number != 0) & (number != 1), "is neither 0 nor 1"))
            else:
                checks.append(_check(known & ~(number.abs() <= _LARGEST), "is infinite or too large"))
            if column == resolved.time:
                checks.append(_time_check(number, parser))
            if column in (resolved.amount, resolved.sample_weight):
                checks.append(_check(known & (number < 0) & (number >= -_LARGEST), "is negative"))
        # nullable: a missing value is reported by its check, with the others.
        columns[column] = pa.Column(checks=checks, nullable=True)
    return pa.DataFrameSchema(columns)


def range_checks(parser: Parser, ranges: Mapping[str, tuple[float, float]]) -> pa.DataFrameSchema:
    """Checks that values lie within ranges; where one does not, that is worth a warning.

    Parameters
    ----------
    parser : Parser
    ranges : mapping of str to (low, high)
        By column, both ends included.
    """
    columns = {}
    for column, (low, high) in ranges.items():
        number = parser.number(column)
        check = _check((number < low) | (number > high), f"lies outside {low:g} to {high:g}")
        columns[column] = pa.Column(checks=[check], nullable=True)
    return pa.DataFrameSchema(columns)


def _time_check(seconds: pl.Expr, parser: Parser) -> pa.Check:
    """Times that nobody meant: another unit, or a date such as 9999-12-31 that stands for none."""
    origin = parser.resolved.time_origin
    if not parser.resolved.has_timestamps or origin is None:
        return _check(
            (seconds.abs() > _LARGEST_SECONDS) & (seconds.abs() <= _LARGEST), "is too large for seconds"
        )
    first, last = (
        datetime(year, 1, 1, tzinfo=UTC).timestamp() - origin.timestamp()
        for year in (_FIRST_YEAR, _LAST_YEAR + 1)
    )
    return _check(
        (seconds < first) | (seconds >= last), f"lies outside the years {_FIRST_YEAR} to {_LAST_YEAR}"
    )


def _check(fails: pl.Expr, name: str) -> pa.Check:
    def holds(data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(~fails.fill_null(False).alias(data.key))

    return pa.Check(holds, name=name)


def _kind(column: str, parser: Parser) -> str:
    if column != parser.resolved.time or not parser.resolved.has_timestamps:
        return "number"
    form = parser.resolved.time_format
    return "timestamp" if "%" not in form else f"timestamp of the form {form!r}"
