"""What flows through an explained graph, and the steps it flows through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """Values that each depend on one feature.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_columns)
    origin : ndarray of shape (n_columns,), int64
        The feature behind each column.
    """

    values: NDArray[Any]
    origin: NDArray[np.int64]


@dataclass(frozen=True)
class Margin:
    """Values that mix features, for one row.

    Attributes
    ----------
    reference : ndarray of shape (n_values,), float64
    shares : ndarray of shape (n_features, n_values), float64
        They add up to the row's values less `reference`.
    """

    reference: Floats
    shares: Floats

    @property
    def value(self) -> Floats:
        """The row's values, shape (n_values,)."""
        return np.asarray(self.reference + self.shares.sum(axis=0))


Tensor = NDArray[Any] | Columns | Margin


def values_of(tensor: Tensor) -> NDArray[Any]:
    """The values of columns or of a constant; a margin has none of its own."""
    if isinstance(tensor, Margin):
        raise TypeError("it reads a score")
    return tensor.values if isinstance(tensor, Columns) else tensor


def is_matrix(tensor: Tensor) -> TypeGuard[NDArray[Any]]:
    """Whether it is a constant with rows and columns."""
    return isinstance(tensor, np.ndarray) and tensor.ndim == 2


@dataclass(frozen=True)
class Step:
    """One node of a graph; `operator` begins with the domain unless that is ONNX's own."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @classmethod
    def read(cls, node: onnx.NodeProto) -> Step:
        """Take it from the graph."""
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        operator = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        return cls(operator, tuple(node.input), tuple(node.output), attributes)

    def __str__(self) -> str:
        return f"the operator {self.operator} ({self.outputs[0]})"

    def only(self, **allowed: Any) -> None:
        """Refuse attributes with other values than these."""
        for name, value in self.attributes.items():
            if name not in allowed or value != allowed[name]:
                raise ValueError(f"{name} = {value!r} is not covered")
