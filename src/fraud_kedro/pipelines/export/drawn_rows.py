"""Rows beside the real ones that parity is checked on."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_kedro.schema import ResolvedSchema
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.simulator import column_types, simulate

# Enough frauds that many rows score near the thresholds.
_FRAUD_RATE = 0.1


def drawn_rows(
    schema: ResolvedSchema, test: NDArray[np.float32], rows: int, seed: int
) -> tuple[str, NDArray[np.float32]]:
    """Simulate rows, or draw them from the test part where the simulator does not know the features.

    Parameters
    ----------
    schema : ResolvedSchema
    test : ndarray of shape (n_test, n_features), float32
    rows, seed : int

    Returns
    -------
    str
        ``"simulated"``, or ``"resampled"`` where each column was drawn by itself
        from the test part.
    ndarray of shape (rows, n_features), float32
    """
    if set(schema.features) <= set(column_types()):
        options = SimulationOptions(rows=rows, fraud_rate=_FRAUD_RATE, seed=seed)
        table = pl.concat(list(simulate(options, schema.features)))
        return "simulated", schema.model_matrix(table.to_numpy())
    generator = np.random.default_rng(seed)
    columns = [generator.choice(column, rows) for column in test.T]
    return "resampled", np.column_stack(columns).astype(np.float32)
