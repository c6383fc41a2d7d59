"""Tables with a score: what nodes pass on, and how it is read."""

from __future__ import annotations

import numpy as np
import polars as pl

from fraud_kedro.champion.bundle import DataRecord
from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.pipelines.model_input import row_weights
from fraud_kedro.schema import ResolvedSchema

SCORE = "probability"


def scored_table(frame: pl.DataFrame, schema: ResolvedSchema, probability: np.ndarray) -> pl.DataFrame:
    """The columns figures are made of, beside the score: no features."""
    roles = (schema.transaction_id, schema.time, schema.amount, schema.label, schema.sample_weight)
    kept = list(dict.fromkeys(name for name in roles if name is not None))
    return frame.select(kept).with_columns(pl.Series(SCORE, probability))


def scored_rows(frame: pl.DataFrame, schema: ResolvedSchema) -> ScoredRows:
    """Labels, scores, weights (1 where the table has none), amounts and seconds of a table with a score."""
    return ScoredRows(
        frame[schema.label].to_numpy().astype(np.int8),
        frame[SCORE].to_numpy(),
        row_weights(frame, schema),
        frame[schema.amount].to_numpy().astype(np.float64),
        frame[schema.time].to_numpy().astype(np.float64),
    )


def share_of_days(record: DataRecord, rows: int) -> float:
    """Share of their days' transactions that a part of the split holds.

    A part that was cut out by time holds all of them, one that was drawn some.
    """
    return rows / record.rows if record.split == "stratified" else 1.0
