"""Rows that may equal another one, found without holding the table in memory."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from fraud_kedro.schema import ROW

# As unprintable as the position's name, and for the same reason.
HASH = "\x1fhash"


def suspects(table: pl.LazyFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Find rows whose hash over some columns occurs more than once.

    Hashes of all rows fit into memory where the rows may not. Equal rows are
    always among the suspects; that suspects are equal is still to be seen.

    Parameters
    ----------
    table : LazyFrame
    columns : sequence of str

    Returns
    -------
    DataFrame
        Columns `ROW`, ascending, and `HASH`.
    """
    # A sum of hashes runs on all cores, the hash of a struct on one.
    digest = pl.sum_horizontal(pl.col(column).hash(seed=seed) for seed, column in enumerate(columns))
    hashes = table.select(digest).collect(engine="streaming").to_series()
    repeated = hashes.is_duplicated()
    return pl.DataFrame({ROW: repeated.arg_true().cast(pl.get_index_type()), HASH: hashes.filter(repeated)})


def rows_at(table: pl.LazyFrame, positions: pl.Series, columns: Sequence[str]) -> pl.DataFrame:
    """Fetch some rows of a table.

    Returns
    -------
    DataFrame
        `ROW` and the columns.
    """
    return (
        table.with_row_index(ROW)
        .join(pl.LazyFrame({ROW: positions}), on=ROW, how="semi")
        .select(ROW, *columns)
        .collect(engine="streaming")
    )
