"""Rows that may outgrow the memory, in one Parquet file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl
from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview

from fraud_kedro.datasets.first_rows import first_rows
from fraud_kedro.errors import MissingInputError


class StreamedParquetDataset(AbstractDataset[pl.LazyFrame, pl.LazyFrame | pl.DataFrame]):
    """A LazyFrame, written in streams, and read as one or at once.

    The kedro-datasets for polars collect a LazyFrame before they write it. Here
    the rows go straight to a file beside the last one, which takes its place when
    it is whole: a run that fails leaves the last one as it was.

    Parameters
    ----------
    filepath : str
        A local file.
    lazy : bool, default True
        Whether loading returns a LazyFrame, or a DataFrame.
    save_args : dict, optional
        Options of `polars.LazyFrame.sink_parquet`.
    metadata : dict, optional
        Ignored by Kedro, read by plugins.
    """

    def __init__(
        self,
        *,
        filepath: str,
        lazy: bool = True,
        save_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath = Path(filepath)
        self._lazy = lazy
        self._save_args = {"compression": "zstd", "compression_level": 1, **(save_args or {})}
        self.metadata = metadata

    def load(self) -> pl.LazyFrame | pl.DataFrame:
        """Return the rows."""
        if not self._filepath.exists():
            raise MissingInputError(f"{self._filepath} not found.")
        rows = pl.scan_parquet(self._filepath)
        return rows if self._lazy else rows.collect()

    def save(self, data: pl.LazyFrame | pl.DataFrame) -> None:
        """Write the rows."""
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: two runs at once do not write into each other's file.
        unfinished = self._filepath.with_name(f".{self._filepath.name}.{os.getpid()}")
        try:
            data.lazy().sink_parquet(unfinished, **self._save_args)
            unfinished.replace(self._filepath)
        finally:
            unfinished.unlink(missing_ok=True)

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first rows, for kedro-viz."""
        return first_rows(pl.scan_parquet(self._filepath), nrows)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "lazy": self._lazy, "save_args": self._save_args}

    def _exists(self) -> bool:
        return self._filepath.exists()
