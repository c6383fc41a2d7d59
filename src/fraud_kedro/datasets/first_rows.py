"""The first rows of a table, for kedro-viz."""

from __future__ import annotations

import polars as pl
from kedro_datasets._typing import TablePreview


def first_rows(table: pl.LazyFrame, nrows: int) -> TablePreview:
    """Read the first rows as the preview that kedro-viz shows.

    Parameters
    ----------
    table : LazyFrame
    nrows : int
    """
    frame = table.head(nrows).collect()
    rows = [list(row) for row in frame.rows()]
    return TablePreview({"index": list(range(len(rows))), "columns": frame.columns, "data": rows})
