"""Features as the prediction log keeps them, JSON text, as columns of numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import json as arrow_json


def feature_matrix(texts: Sequence[str], names: Sequence[str]) -> NDArray[np.float64]:
    """Read the named numbers out of JSON objects.

    Parameters
    ----------
    texts : sequence of str
        One object each, in one line, as the service writes them.
    names : sequence of str

    Returns
    -------
    ndarray of shape (n_texts, n_names), float64
        NaN where an object has no such name, or no finite number under it.
    """
    if not texts:
        return np.empty((0, len(names)))
    content = "\n".join(texts).encode()
    try:
        table = arrow_json.read_json(
            pa.BufferReader(content),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(content) + 1),
            parse_options=arrow_json.ParseOptions(
                explicit_schema=pa.schema([(name, pa.float64()) for name in names]),
                unexpected_field_behavior="ignore",
            ),
        )
        read = len(table) == len(texts)
    except pa.ArrowInvalid:
        read = False
    if not read:
        # One row in another form spoils the block: a log may hold rows of other schemas.
        return _one_by_one(texts, names)
    columns = [table[name].to_numpy() for name in names]
    matrix = np.stack(columns, axis=1)
    matrix[~np.isfinite(matrix)] = np.nan
    return matrix


def _one_by_one(texts: Sequence[str], names: Sequence[str]) -> NDArray[np.float64]:
    matrix = np.full((len(texts), len(names)), np.nan)
    for row, text in enumerate(texts):
        found = json.loads(text)
        if isinstance(found, dict):
            matrix[row] = [_number(found.get(name)) for name in names]
    matrix[~np.isfinite(matrix)] = np.nan
    return matrix


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.nan
