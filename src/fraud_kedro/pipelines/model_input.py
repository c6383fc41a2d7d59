"""From a table to what a model is fitted on: the one way in, for every pipeline."""

from __future__ import annotations

import numpy as np
import polars as pl

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.schema import ResolvedSchema


def labelled_matrix(frame: pl.DataFrame, schema: ResolvedSchema) -> LabelledMatrix:
    """Features as the model reads them, labels, weights (1 where the table has none) and amounts."""
    weights = frame[schema.sample_weight].to_numpy() if schema.sample_weight else np.ones(frame.height)
    return LabelledMatrix(
        features=schema.model_matrix(frame.select(schema.features).to_numpy()),
        labels=frame[schema.label].to_numpy().astype(np.int8),
        weights=weights.astype(np.float64),
        amounts=frame[schema.amount].to_numpy(),
    )
