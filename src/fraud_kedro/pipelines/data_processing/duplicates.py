"""Which rows repeat an earlier one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from fraud_kedro.equal_rows import HASH, rows_at, suspects
from fraud_kedro.options import Options
from fraud_kedro.schema import ROW, ResolvedSchema

# Rows compared value by value at once: what bounds the memory where many repeat.
_COMPARED_ROWS = 2_000_000
# As unprintable as the position's name, and for the same reason.
_LARGEST = "\x1flargest"


class DuplicateOptions(Options):
    """The ``duplicates`` parameters.

    Attributes
    ----------
    compare_time : bool
        Rows at different times are never equal. It matters where time is not among
        the features: coarse features are often equal by chance.
    """

    compare_time: bool = False


@dataclass(frozen=True)
class Duplicates:
    """Rows that repeat an earlier one.

    Attributes
    ----------
    dropped : Series
        Positions of the rows that repeat an earlier one, ascending.
    weights : DataFrame
        Position and largest weight of each group of equal rows; empty where the
        table has no weight. A copy of weight 0 must not silence the row.
    """

    dropped: pl.Series
    weights: pl.DataFrame


def find_duplicates(table: pl.LazyFrame, schema: ResolvedSchema, options: DuplicateOptions) -> Duplicates:
    """Find rows whose features and label all equal those of an earlier row.

    Parameters
    ----------
    table : LazyFrame
        Validated.
    schema : ResolvedSchema
    options : DuplicateOptions

    Returns
    -------
    Duplicates

    Notes
    -----
    Hashes of all rows fit into memory where the rows may not. Rows with equal
    hashes are then compared value by value, so that the answer is exact.
    """
    keys = list(
        dict.fromkeys([*schema.features, schema.label, *([schema.time] if options.compare_time else [])])
    )
    weight, index = schema.sample_weight, pl.get_index_type()
    columns = keys if weight is None else [*keys, weight]
    candidates = suspects(table, keys)
    parts = math.ceil(candidates.height / _COMPARED_ROWS)
    dropped = [pl.Series(ROW, dtype=index)]
    weights = [pl.DataFrame(schema={ROW: index, _LARGEST: pl.Float64})]
    for part in range(parts):
        rows = rows_at(table, candidates.filter(pl.col(HASH) % parts == part)[ROW], columns)
        first = rows.select(pl.col(ROW).min().over(keys)).to_series()
        again = rows[ROW] != first
        dropped.append(rows[ROW].filter(again))
        if weight is not None:
            groups = rows.select(first, pl.col(weight).alias(_LARGEST)).filter(first.is_duplicated())
            weights.append(groups.group_by(ROW).agg(pl.col(_LARGEST).max()))
    return Duplicates(pl.concat(dropped).sort(), pl.concat(weights))


def without_duplicates(table: pl.LazyFrame, duplicates: Duplicates, schema: ResolvedSchema) -> pl.LazyFrame:
    """Keep the first of equal rows, with the largest weight among them, in the table's order."""
    if duplicates.dropped.is_empty():
        return table
    kept = table.with_row_index(ROW).join(
        pl.LazyFrame({ROW: duplicates.dropped}), on=ROW, how="anti", maintain_order="left"
    )
    weight = schema.sample_weight
    if weight is not None:
        kept = kept.join(duplicates.weights.lazy(), on=ROW, how="left", maintain_order="left").with_columns(
            pl.coalesce(_LARGEST, weight).alias(weight)
        )
    return kept.select(schema.columns)
