"""Between Arrow's columns and NumPy's, buffer by buffer.

`pyarrow.array`, `scalar` and `to_numpy` import pandas where it is installed: two
seconds, in the process that scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def numbers(column: pa.Array) -> NDArray[np.float64]:
    """Values of a column of any numbers, NaN where there is none."""
    floats = pc.cast(column, pa.float64(), safe=False)
    values = np.frombuffer(floats.buffers()[1], np.float64)[floats.offset : floats.offset + len(floats)]
    return np.where(flags(floats.is_valid()), values, np.nan) if floats.null_count else values


def integers(column: pa.Array) -> NDArray[np.int64]:
    """Values of a column of 64-bit integers, whatever lies where there is none."""
    return np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column)]


def flags(column: pa.Array) -> NDArray[np.bool_]:
    """Values of a column of booleans without nulls."""
    return np.from_dlpack(column.cast(pa.uint8())).astype(np.bool_)


def text_column(values: Sequence[str | None]) -> pa.Array:
    """Make a column of texts."""
    encoded = [b"" if value is None else value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    buffers = [_validity(values), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def number_column(values: Sequence[float | None], kind: pa.DataType) -> pa.Array:
    """Make a column of numbers; of timestamps from microseconds."""
    content = np.array([0 if value is None else value for value in values], _NUMPY[str(kind)])
    return pa.Array.from_buffers(kind, len(values), [_validity(values), pa.py_buffer(content)])


_NUMPY = {"int8": np.int8, "double": np.float64, "timestamp[us, tz=UTC]": np.int64}


def _validity(values: Sequence[object]) -> pa.Buffer | None:
    if None not in values:
        return None
    return pa.py_buffer(np.packbits([value is not None for value in values], bitorder="little"))
