"""From a table to what a model is fitted on: the one way in, for every pipeline."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.schema import ResolvedSchema


def labelled_matrix(frame: pl.DataFrame, schema: ResolvedSchema) -> LabelledMatrix:
    """Features as the model reads them, labels, weights (1 where the table has none) and amounts."""
    return LabelledMatrix(
        features=schema.model_matrix(frame.select(schema.features).to_numpy()),
        labels=frame[schema.label].to_numpy().astype(np.int8),
        weights=row_weights(frame, schema),
        amounts=frame[schema.amount].to_numpy(),
    )


def row_weights(frame: pl.DataFrame, schema: ResolvedSchema) -> NDArray[np.float64]:
    """What each row stands for: 1 where the table has no weights."""
    if schema.sample_weight is None:
        return np.ones(frame.height)
    return frame[schema.sample_weight].to_numpy().astype(np.float64)
