"""Simulated card transactions as a Kedro dataset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import polars as pl
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview
from polars.io.plugins import register_io_source

from fraud_kedro.datasets.first_rows import first_rows
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.simulator import column_types, simulate


class SimulatedTransactionsDataset(AbstractDataset[None, pl.LazyFrame]):
    """Card transactions drawn from statistics of the ULB table; nothing is written or read.

    Loading returns a polars LazyFrame that draws rows in blocks when it is
    collected: the same rows each time, in bounded memory.

    Parameters
    ----------
    rows : int, default 284,807
        Transactions, duplicates included.
    fraud_rate : float, default 492 / 284,807
        Share of the rows that are fraud; the number of frauds is exact.
    seed : int, default 0
    duplicates : int, optional
        Rows that repeat another one exactly; by default 1,081 in 284,807.
    drift : dict or list of dict, optional
        Changes of the table from some second on: ``{column, shift}``,
        ``{column, scale}``, ``{column, zeroed}``, ``{fraud_rate}``,
        ``{new_pattern}`` or ``{hours, share}``, each with an optional ``from``.
    metadata : dict, optional
        Ignored by Kedro, read by plugins.

    Raises
    ------
    SimulationError
        If an argument is not possible. The catalog shows it as a DatasetError.

    Examples
    --------
    ```yaml
    raw_transactions:
      type: fraud_kedro.datasets.simulated_transactions.SimulatedTransactionsDataset
      rows: 284807
      seed: 42
      drift:
        - {column: V14, shift: 0.5, from: 86400}
        - {fraud_rate: 0.004, from: 86400}
    ```
    """

    def __init__(
        self,
        *,
        rows: int = 284_807,
        fraud_rate: float | None = None,
        seed: int = 0,
        duplicates: int | None = None,
        drift: dict[str, Any] | list[dict[str, Any]] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._options = SimulationOptions.parse(
            rows=rows, fraud_rate=fraud_rate, seed=seed, duplicates=duplicates, drift=drift
        )
        self.metadata = metadata

    def load(self) -> pl.LazyFrame:
        """Return the table, sorted by time and not yet drawn."""
        options = self._options

        def draw(
            with_columns: list[str] | None,
            predicate: pl.Expr | None,
            n_rows: int | None,
            batch_size: int | None,
        ) -> Iterator[pl.DataFrame]:
            # The predicate may read columns that the query does not return.
            needed = with_columns
            if needed is not None and predicate is not None:
                needed = list(dict.fromkeys([*needed, *predicate.meta.root_names()]))
            remaining = n_rows
            for block in simulate(options, needed):
                frame = block if remaining is None else block.head(remaining)
                if remaining is not None:
                    remaining -= frame.height
                if predicate is not None:
                    frame = frame.filter(predicate)
                yield frame if needed is None else frame.select(with_columns or [])
                if remaining == 0:
                    return

        return register_io_source(
            draw, schema=column_types(), is_pure=True, explain_name="simulated transactions"
        )

    def save(self, data: None) -> NoReturn:
        """Refuse.

        Raises
        ------
        DatasetError
            Always: simulated transactions are drawn, never stored.
        """
        raise DatasetError(
            "Simulated transactions can't be saved: they are drawn from statistics. To keep a table, give "
            "the node's output a catalog entry of its own, such as polars.EagerPolarsDataset."
        )

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first rows, for kedro-viz."""
        return first_rows(self.load(), nrows)

    def _describe(self) -> dict[str, Any]:
        described = self._options.model_dump(mode="json", by_alias=True, exclude_none=True)
        return described if self._options.drift else {k: v for k, v in described.items() if k != "drift"}

    def _exists(self) -> bool:
        return True
