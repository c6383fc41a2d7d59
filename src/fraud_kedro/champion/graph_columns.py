"""Rules for steps on columns, each of which depends on one feature, and for what mixes them to margins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from fraud_kedro.champion.graph_tensors import Columns, Floats, Step, Tensor, is_matrix, values_of
from fraud_kedro.champion.tree_paths import tree_paths
from fraud_kedro.champion.tree_reasons import TreeReasons


def _elementwise(function: Callable[..., NDArray[Any]], **attributes: Any) -> ColumnRule:
    def rule(step: Step, inputs: Sequence[Tensor]) -> list[Tensor]:
        step.only(**attributes)
        return [_columns(function(*map(values_of, inputs)), inputs)]

    return rule


def _columns(values: NDArray[Any], inputs: Sequence[Tensor]) -> Columns:
    if {len(c.values) for c in inputs if isinstance(c, Columns)} != {len(values)}:
        raise ValueError("it changes the number of rows")
    origins = [np.broadcast_to(c.origin, values.shape[1:]) for c in inputs if isinstance(c, Columns)]
    if any((origin != origins[0]).any() for origin in origins):
        raise ValueError("it mixes features")
    return Columns(values, origins[0])


def _cast_columns(step: Step, inputs: Sequence[Tensor]) -> list[Tensor]:
    (columns,) = inputs
    kind = helper.tensor_dtype_to_np_dtype(step.attributes["to"])
    if kind not in (np.float32, np.float64):
        raise ValueError(f"to {kind} is not covered")
    return [_columns(values_of(columns).astype(kind), inputs)]


def _split(step: Step, inputs: Sequence[Tensor]) -> list[Tensor]:
    step.only(axis=1)
    columns, sizes = inputs
    assert isinstance(columns, Columns)  # noqa: S101 (a rule for columns)
    if int(values_of(sizes).sum()) != columns.values.shape[1]:
        raise ValueError("the parts are not the whole")
    ends = np.cumsum(values_of(sizes))[:-1]
    values, origins = np.split(columns.values, ends, axis=1), np.split(columns.origin, ends)
    return [Columns(v, o) for v, o in zip(values, origins, strict=True)]


def _join_columns(step: Step, inputs: Sequence[Tensor]) -> list[Tensor]:
    step.only(axis=1)
    parts = [item for item in inputs if isinstance(item, Columns)]
    if len(parts) != len(inputs):
        raise ValueError("it joins features with constants")
    values = np.concatenate([part.values for part in parts], axis=1)
    return [Columns(values, np.concatenate([part.origin for part in parts]))]


ColumnRule = Callable[[Step, Sequence[Tensor]], list[Tensor]]

COLUMN_RULES: Mapping[str, ColumnRule] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "Cast": _cast_columns,
    "Clip": _elementwise(np.clip),
    "Concat": _join_columns,
    "Div": _elementwise(np.divide),
    "Less": _elementwise(np.less),
    "Log": _elementwise(np.log),
    "Mod": _elementwise(np.fmod, fmod=1),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Sign": _elementwise(np.sign),
    "Split": _split,
    "Sub": _elementwise(np.subtract),
    "Where": _elementwise(np.where),
}


class _Trees:
    def __init__(self, step: Step, inputs: Sequence[Tensor], n_features: int) -> None:
        (columns,) = inputs
        assert isinstance(columns, Columns)  # noqa: S101 (only bound so)
        self._origin, self._n_features = columns.origin, n_features
        values = np.ascontiguousarray(columns.values, dtype=np.float32)
        if columns.values.dtype != np.float32:
            raise ValueError("its features are not float32")
        self._reasons = TreeReasons(tree_paths(step.attributes, values.shape[1]), values)
        self.reference = self._reasons.reference

    def shares(self, columns: Columns) -> Floats:
        own = self._reasons.contributions(columns.values[0])
        return _by_feature(own, self._origin, self._n_features)


class _Product:
    def __init__(self, step: Step, inputs: Sequence[Tensor], n_features: int) -> None:
        step.only()
        columns, coefficients = inputs
        if not isinstance(columns, Columns) or not is_matrix(coefficients):
            raise ValueError("it multiplies no columns by constants")
        self._coefficients = coefficients.astype(np.float64)
        self._n_features = n_features
        self._mean = columns.values.astype(np.float64).mean(axis=0)
        self.reference = self._mean @ self._coefficients

    def shares(self, columns: Columns) -> Floats:
        differences = columns.values[0].astype(np.float64) - self._mean
        own = differences[:, np.newaxis] * self._coefficients
        return _by_feature(own, columns.origin, self._n_features)


Mixer = _Trees | _Product

MIXERS: Mapping[str, Callable[[Step, Sequence[Tensor], int], Mixer]] = {
    "MatMul": _Product,
    "ai.onnx.ml.TreeEnsembleRegressor": _Trees,
}


def _by_feature(own: Floats, origin: NDArray[np.int64], n_features: int) -> Floats:
    shares = np.zeros((n_features, own.shape[1]))
    np.add.at(shares, origin, own)
    return shares
