"""Values as they are written in a table, and what they mean.

A CSV is read as text and parsed here: guessing types from its first rows would
turn one bad value further down into a parser's error without a column or a line.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from fraud_kedro.schema import ISO8601, ResolvedSchema

BLANKS = ("", "na", "null", "none", "nan", "nat")

# Databases write offsets as hours alone.
_OFFSETS = r"T.*(?:Z|[+-]\d{2}(?::?\d{2})?)$"
_ISO_NAIVE = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")


@dataclass(frozen=True)
class Parser:
    """Turns a table's values into numbers.

    Attributes
    ----------
    resolved : ResolvedSchema
    types : polars Schema
        The table's types.
    decimal : str
        The decimal sign of numbers written as text.
    """

    resolved: ResolvedSchema
    types: pl.Schema
    decimal: str = "."

    @property
    def numeric(self) -> tuple[str, ...]:
        """The columns that are numbers once parsed: all but the id."""
        return tuple(c for c in self.resolved.columns if c != self.resolved.transaction_id)

    def blank(self, column: str) -> pl.Expr:
        """Whether a value is absent."""
        value = pl.col(column)
        if self.types[column] == pl.String:
            return value.is_null() | value.str.strip_chars().str.to_lowercase().is_in(BLANKS)
        if self.types[column].is_float():
            return value.is_null() | value.is_nan()
        return value.is_null()

    def number(self, column: str) -> pl.Expr:
        """The value as Float64; null where it is absent or cannot be read."""
        if column == self.resolved.time and self.resolved.has_timestamps:
            return self._seconds(column).alias(column)
        value = pl.col(column)
        if self.types[column] == pl.String:
            value = value.str.strip_chars()
            if column == self.resolved.label:
                value = value.str.replace(r"(?i)^true$", "1").str.replace(r"(?i)^false$", "0")
            if self.decimal != ".":
                # A point is then a sign of another format, not a second decimal sign.
                value = pl.when(~value.str.contains(".", literal=True)).then(value)
                value = value.str.replace(self.decimal, ".", literal=True)
        return value.cast(pl.Float64, strict=False).alias(column)

    def parsed(self) -> list[pl.Expr]:
        """All columns with a role, typed; for a table whose values are known to be right."""
        columns = {column: self.number(column) for column in self.numeric}
        label, key = self.resolved.label, self.resolved.transaction_id
        columns[label] = columns[label].cast(pl.Int8)
        if key is not None:
            columns[key] = pl.col(key).cast(pl.String)
        return [columns[column] for column in self.resolved.columns]

    def _seconds(self, column: str) -> pl.Expr:
        moment = self._moment(column).dt.cast_time_unit("us").dt.epoch("us")
        origin = self.resolved.time_origin
        assert origin is not None  # noqa: S101 - a resolved schema with timestamps has one
        return moment.cast(pl.Float64) / 1e6 - origin.timestamp()

    def _moment(self, column: str) -> pl.Expr:
        """The value as a Datetime in UTC."""
        dtype = self.types[column]
        value = pl.col(column)
        if dtype == pl.Date:
            return value.cast(pl.Datetime("us"))
        if isinstance(dtype, pl.Datetime):
            return value.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else value
        text = value.str.strip_chars()
        if self.resolved.time_format != ISO8601:
            pattern = self.resolved.time_format
            moment = text.str.to_datetime(pattern, strict=False, time_unit="us")
            return moment.dt.replace_time_zone(None) if "%z" in pattern else moment
        text = text.str.replace(r"^(\d{4}-\d{2}-\d{2})[ t]", "${1}T").str.replace("z$", "Z")
        aware = text.str.contains(_OFFSETS)
        with_offset = (
            pl.when(aware)
            .then(
                text.str.replace("Z$", "+00:00")
                .str.replace(r"([+-]\d{2})$", "${1}:00")
                .str.replace(r"T(\d{2}:\d{2})([+-])", "T${1}:00${2}")
            )
            .str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", strict=False, time_unit="us")
            .dt.replace_time_zone(None)
        )
        naive = [
            pl.when(~aware).then(text).str.to_datetime(pattern, strict=False, time_unit="us")
            for pattern in _ISO_NAIVE
        ]
        date = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
        return pl.coalesce(with_offset, *naive, date)
