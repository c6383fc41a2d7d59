"""An ONNX graph as steps that are explained one after the other.

Three kinds of tensor are told apart. Constants. *Columns*: each depends on one
feature alone (time reduced, features scaled), so they are simply computed, in
the graph's own precision. *Margins*, behind trees or a product with
coefficients: they mix features, and carry how much of their difference from
the reference each feature accounts for.

Trees give their margins' exact interventional Shapley values, a product of
columns its terms' differences, which are exact as well. Linear steps keep
that. A step that bends a margin (a calibration, the forest's logarithm) scales
all its features' shares by one factor, the slope of the chord between
reference and row, so that they add up again (the "rescale rule" of DeepLIFT:
Shrikumar, Greenside, Kundaje 2017, "Learning important features through
propagating activation differences"). All calibrations rise, so no share
changes its sign there.

A step that none of these rules covers raises `ExplanationError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.shape_inference import InferenceError
from onnx.version_converter import ConvertError, convert_version

from fraud_kedro.champion.tree_paths import tree_paths
from fraud_kedro.champion.tree_reasons import TreeReasons
from fraud_kedro.errors import ExplanationError

Floats = NDArray[np.float64]

# Nearer than this to the reference, a chord is replaced by the tangent.
_NEAR = 1e-9

# From here on bounds, axes and sizes are inputs; before they were attributes.
_OPSET = 13


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


class GraphProgram:
    """The steps of a graph up to its log-odds, bound to a background.

    Nothing here changes after construction.

    Parameters
    ----------
    model : bytes
        An ONNX graph of `fraud_kedro`: raw features in, probability out.
    background : ndarray of shape (n_background, n_features), float32
        What a row is compared with.

    Attributes
    ----------
    reference : float
        Log-odds of the mean margins of the background.

    Raises
    ------
    ExplanationError
        If the graph holds a step that no rule covers.
    """

    def __init__(self, model: bytes, background: NDArray[np.float32]) -> None:
        try:
            graph = _in_one_dialect(onnx.load_model_from_string(model)).graph
        except DecodeError as error:
            raise ExplanationError(f"the graph cannot be read: {error}") from error
        self._n_features = background.shape[1]
        self._constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        self._constants |= {
            node.output[0]: numpy_helper.to_array(node.attribute[0].t)
            for node in graph.node
            if node.op_type == "Constant" and node.attribute[0].name == "value"
        }
        if len(graph.input) != 1 or len(graph.output) != 1:
            raise ExplanationError("the graph has several inputs or outputs")
        self._input = graph.input[0].name
        steps, self._log_odds, self._bounds = _without_sigmoid(graph, self._constants)
        self._steps = [_Step.read(node) for node in steps]
        self._mixers: dict[str, _Mixer] = {}
        self.reference = float(self._run(background, bind=True).reference[0])

    def shares(self, row: NDArray[np.float32]) -> Floats:
        """How much of a row's log-odds less `reference` each feature accounts for.

        Parameters
        ----------
        row : ndarray of shape (n_features,), float32

        Returns
        -------
        ndarray of shape (n_features,), float64
        """
        return self._run(row[np.newaxis], bind=False).shares[:, 0]

    def _run(self, rows: NDArray[np.float32], *, bind: bool) -> Margin:
        tensors: dict[str, Tensor] = dict(self._constants)
        tensors[self._input] = Columns(rows, np.arange(self._n_features))
        with np.errstate(all="ignore"):
            for step in self._steps:
                try:
                    inputs = [tensors[name] for name in step.inputs]
                    outputs = self._apply(step, inputs, bind)
                except (IndexError, KeyError, TypeError, ValueError) as error:
                    raise ExplanationError(f"{step} is not as it should be: {error}") from error
                tensors.update(zip(step.outputs, outputs, strict=True))
            found = tensors.get(self._log_odds)
            if not isinstance(found, Margin) or found.reference.shape != (1,):
                raise ExplanationError("the graph's probability does not come from one margin")
            low, high = self._bounds
            bounded = _bend(found, lambda z: np.clip(z, low, high), lambda z: (low < z) & (z < high))
        if not (np.isfinite(bounded.reference).all() and np.isfinite(bounded.shares).all()):
            raise ExplanationError("the graph's log-odds are not finite")
        return bounded

    def _apply(self, step: _Step, inputs: list[Tensor], bind: bool) -> Sequence[Tensor]:
        if bind and inputs and isinstance(inputs[0], Columns) and (maker := _MIXERS.get(step.operator)):
            self._mixers[step.outputs[0]] = maker(step, inputs, self._n_features)
        if (mixer := self._mixers.get(step.outputs[0])) is not None:
            columns = inputs[0]
            if not isinstance(columns, Columns):
                raise TypeError("it mixed columns before")
            # The reference is known once it is bound; no row is asked for.
            shares = np.zeros((self._n_features, len(mixer.reference))) if bind else mixer.shares(columns)
            return [Margin(mixer.reference, shares)]
        if step.operator == "Shape":
            # A row at a time, however many the background has.
            return [np.array([1, _values(inputs[0]).shape[1]])]
        if any(isinstance(item, Margin) for item in inputs):
            rule = _MARGIN_RULES.get(step.operator)
            if rule is None:
                raise ExplanationError(f"{step} on a score is not covered")
            return [rule(step, inputs)]
        if any(isinstance(item, Columns) for item in inputs):
            column_rule = _COLUMN_RULES.get(step.operator)
            if column_rule is None:
                raise ExplanationError(f"{step} on features is not covered")
            return column_rule(step, inputs)
        return [self._of_constants(step, inputs)]

    def _of_constants(self, step: _Step, inputs: Sequence[Tensor]) -> Tensor:
        """Trees that never split give every row the same scores."""
        match step.operator:
            case "Gather":
                step.only(axis=0)
                values, at = map(_values, inputs)
                return np.take(values, at, axis=0)
            case "Concat":
                step.only(axis=0)
                return np.concatenate([_values(item) for item in inputs])
            case "Expand":
                scores, shape = map(_values, inputs)
                if shape.tolist() != [1, 1]:
                    raise ValueError("it makes another shape than one row's")
                return Margin(_row(scores), np.zeros((self._n_features, scores.size)))
        raise ExplanationError(f"{step} on constants is not covered")


@dataclass(frozen=True)
class _Step:
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @classmethod
    def read(cls, node: onnx.NodeProto) -> _Step:
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


# --- the end of the graph: from log-odds to a probability -------------------------------------------


def _without_sigmoid(
    graph: onnx.GraphProto, constants: Mapping[str, NDArray[Any]]
) -> tuple[list[onnx.NodeProto], str, tuple[float, float]]:
    """The steps before the sigmoid, the name of the log-odds, and the log-odds' bounds."""
    made_by = {name: node for node in graph.node for name in node.output}
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    tail: list[onnx.NodeProto] = []

    def back(name: str, *operators: str) -> onnx.NodeProto:
        node: onnx.NodeProto | None = made_by.get(name)
        if node is None or node.op_type not in operators or (tail and readers[name] != 1):
            found = "nothing" if node is None else node.op_type
            raise ExplanationError(f"the graph ends in {found} where {' or '.join(operators)} belongs")
        tail.append(node)
        return node

    clip = back(back(graph.output[0].name, "Squeeze", "Reshape").input[0], "Clip", "Add")
    if clip.op_type == "Add":
        # Zero times every feature: nothing for a finite row.
        probability, nothing = clip.input
        product = back(nothing, "MatMul")
        if product.input[0] != graph.input[0].name or np.any(constants.get(product.input[1], np.ones(1))):
            raise ExplanationError("the graph adds something to its probability")
        clip = back(probability, "Clip")
    low, high = (_log_odds(constants.get(name)) for name in (*clip.input, "", "")[1:3])
    last = back(clip.input[0], "Reciprocal", "Sigmoid")
    if last.op_type == "Reciprocal":
        one_more = back(last.input[0], "Add")
        exponential, one = one_more.input
        if not np.all(constants.get(one, np.zeros(1)) == 1):
            raise ExplanationError("the graph does not end in a sigmoid")
        last = back(back(exponential, "Exp").input[0], "Neg")
    ends = {id(node) for node in tail}
    return (
        [node for node in graph.node if id(node) not in ends and node.output[0] not in constants],
        last.input[0],
        (low, high),
    )


def _in_one_dialect(model: onnx.ModelProto) -> onnx.ModelProto:
    """Bring an older graph to the operators the rules are written for."""
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    if opsets.get("", _OPSET) >= _OPSET:
        return model
    try:
        return convert_version(model, _OPSET)
    except (ConvertError, InferenceError, RuntimeError) as error:
        raise ExplanationError(f"the graph cannot be read: {' '.join(str(error).split())}") from error


def _log_odds(bound: NDArray[Any] | None) -> float:
    if bound is None or bound.size != 1 or not 0 < float(bound.item()) < 1:
        raise ExplanationError("the graph's probability is not kept between two numbers")
    exact = float(bound.item())
    return float(np.log(exact) - np.log1p(-exact))


# --- from columns to margins -----------------------------------------------------------------------


class _Trees:
    def __init__(self, step: _Step, inputs: Sequence[Tensor], n_features: int) -> None:
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
    def __init__(self, step: _Step, inputs: Sequence[Tensor], n_features: int) -> None:
        step.only()
        columns, coefficients = inputs
        if not isinstance(columns, Columns) or not _is_matrix(coefficients):
            raise ValueError("it multiplies no columns by constants")
        self._coefficients = coefficients.astype(np.float64)
        self._n_features = n_features
        self._mean = columns.values.astype(np.float64).mean(axis=0)
        self.reference = self._mean @ self._coefficients

    def shares(self, columns: Columns) -> Floats:
        differences = columns.values[0].astype(np.float64) - self._mean
        own = differences[:, np.newaxis] * self._coefficients
        return _by_feature(own, columns.origin, self._n_features)


_Mixer = _Trees | _Product

_MIXERS: Mapping[str, Callable[[_Step, Sequence[Tensor], int], _Mixer]] = {
    "MatMul": _Product,
    "ai.onnx.ml.TreeEnsembleRegressor": _Trees,
}


def _is_matrix(tensor: Tensor) -> TypeGuard[NDArray[Any]]:
    return isinstance(tensor, np.ndarray) and tensor.ndim == 2


def _by_feature(own: Floats, origin: NDArray[np.int64], n_features: int) -> Floats:
    shares = np.zeros((n_features, own.shape[1]))
    np.add.at(shares, origin, own)
    return shares


# --- columns ---------------------------------------------------------------------------------------


def _elementwise(function: Callable[..., NDArray[Any]], **attributes: Any) -> _ColumnRule:
    def rule(step: _Step, inputs: Sequence[Tensor]) -> list[Tensor]:
        step.only(**attributes)
        return [_columns(function(*map(_values, inputs)), inputs)]

    return rule


def _columns(values: NDArray[Any], inputs: Sequence[Tensor]) -> Columns:
    if {len(c.values) for c in inputs if isinstance(c, Columns)} != {len(values)}:
        raise ValueError("it changes the number of rows")
    origins = [np.broadcast_to(c.origin, values.shape[1:]) for c in inputs if isinstance(c, Columns)]
    if any((origin != origins[0]).any() for origin in origins):
        raise ValueError("it mixes features")
    return Columns(values, origins[0])


def _values(tensor: Tensor) -> NDArray[Any]:
    if isinstance(tensor, Margin):
        raise TypeError("it reads a score")
    return tensor.values if isinstance(tensor, Columns) else tensor


def _cast_columns(step: _Step, inputs: Sequence[Tensor]) -> list[Tensor]:
    (columns,) = inputs
    kind = helper.tensor_dtype_to_np_dtype(step.attributes["to"])
    if kind not in (np.float32, np.float64):
        raise ValueError(f"to {kind} is not covered")
    return [_columns(_values(columns).astype(kind), inputs)]


def _split(step: _Step, inputs: Sequence[Tensor]) -> list[Tensor]:
    step.only(axis=1)
    columns, sizes = inputs
    assert isinstance(columns, Columns)  # noqa: S101 (a rule for columns)
    if int(_values(sizes).sum()) != columns.values.shape[1]:
        raise ValueError("the parts are not the whole")
    ends = np.cumsum(_values(sizes))[:-1]
    values, origins = np.split(columns.values, ends, axis=1), np.split(columns.origin, ends)
    return [Columns(v, o) for v, o in zip(values, origins, strict=True)]


def _join_columns(step: _Step, inputs: Sequence[Tensor]) -> list[Tensor]:
    step.only(axis=1)
    parts = [item for item in inputs if isinstance(item, Columns)]
    if len(parts) != len(inputs):
        raise ValueError("it joins features with constants")
    values = np.concatenate([part.values for part in parts], axis=1)
    return [Columns(values, np.concatenate([part.origin for part in parts]))]


_ColumnRule = Callable[[_Step, Sequence[Tensor]], list[Tensor]]

_COLUMN_RULES: Mapping[str, _ColumnRule] = {
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


# --- margins ---------------------------------------------------------------------------------------


def _line(slope: Floats, intercept: Floats, margin: Margin) -> Margin:
    """``slope * margin + intercept``, value by value."""
    reference = slope * margin.reference + intercept
    return Margin(reference, margin.shares * np.broadcast_to(slope, reference.shape))


def _bend(
    margin: Margin, function: Callable[[Floats], Floats], slope: Callable[[Floats], Any], scale: float = 1.0
) -> Margin:
    """Apply a function value by value; the shares keep their proportions.

    `scale` is the smallest way that counts as one, zero where it is the reference's size.
    """
    reference, value = np.asarray(function(margin.reference)), margin.value
    way = value - margin.reference
    near = np.abs(way) <= _NEAR * np.maximum(scale, np.abs(margin.reference))
    chord = (function(value) - reference) / np.where(near, 1.0, way)
    return Margin(reference, margin.shares * np.where(near, slope(margin.reference), chord))


def _row(tensor: Tensor) -> Floats:
    """A constant as float64 of shape (n_values,)."""
    if not isinstance(tensor, np.ndarray):
        raise TypeError("features and scores meet")
    if tensor.ndim > 0 and tensor.size != tensor.shape[-1]:
        raise ValueError("it gives a matrix")
    return np.asarray(tensor, dtype=np.float64).reshape(-1)


def _margins(inputs: Sequence[Tensor]) -> list[Margin]:
    found = [item for item in inputs if isinstance(item, Margin)]
    if len(found) != len(inputs):
        raise TypeError("scores meet something else")
    return found


def _sum(signs: tuple[float, float]) -> _MarginRule:
    def rule(step: _Step, inputs: Sequence[Tensor]) -> Margin:
        step.only()
        first, second = inputs
        if isinstance(first, Margin) and isinstance(second, Margin):
            return Margin(
                signs[0] * first.reference + signs[1] * second.reference,
                signs[0] * first.shares + signs[1] * second.shares,
            )
        if isinstance(first, Margin):
            return _line(np.array([signs[0]]), signs[1] * _row(second), first)
        assert isinstance(second, Margin)  # noqa: S101 (one of them is)
        return _line(np.array([signs[1]]), signs[0] * _row(first), second)

    return rule


def _mean(step: _Step, inputs: Sequence[Tensor]) -> Margin:
    step.only()
    parts = _margins(inputs)
    return Margin(
        np.asarray(np.mean([part.reference for part in parts], axis=0)),
        np.asarray(np.mean([part.shares for part in parts], axis=0)),
    )


def _join(step: _Step, inputs: Sequence[Tensor]) -> Margin:
    step.only(axis=1)
    parts = _margins(inputs)
    return Margin(
        np.concatenate([part.reference for part in parts]),
        np.concatenate([part.shares for part in parts], axis=1),
    )


def _product(step: _Step, inputs: Sequence[Tensor]) -> Margin:
    """``MatMul`` and ``Gemm``: a score times constants, plus constants."""
    step.only(alpha=1.0, beta=1.0, transA=0, transB=0)
    margin, coefficients = inputs[:2]
    if not isinstance(margin, Margin) or not _is_matrix(coefficients):
        raise TypeError("it is no score times constants")
    intercept = _row(inputs[2]) if len(inputs) > 2 else np.zeros(1)
    exact = coefficients.astype(np.float64)
    return Margin(margin.reference @ exact + intercept, margin.shares @ exact)


def _cast(step: _Step, inputs: Sequence[Tensor]) -> Margin:
    (margin,) = _margins(inputs)
    if helper.tensor_dtype_to_np_dtype(step.attributes["to"]) not in (np.float32, np.float64):
        raise ValueError("to no floating-point number is not covered")
    return margin


def _bent(
    function: Callable[[Floats], Floats], slope: Callable[[Floats], Floats], scale: float
) -> _MarginRule:
    def rule(step: _Step, inputs: Sequence[Tensor]) -> Margin:
        step.only()
        (margin,) = _margins(inputs)
        return _bend(margin, function, slope, scale)

    return rule


def _limit(function: Callable[[Floats, Floats], Floats]) -> _MarginRule:
    """``Min`` and ``Max`` with constants."""

    def rule(step: _Step, inputs: Sequence[Tensor]) -> Margin:
        step.only()
        margin, limit = inputs if isinstance(inputs[0], Margin) else inputs[::-1]
        bound = _row(limit)
        assert isinstance(margin, Margin)  # noqa: S101 (one of them is)
        return _bend(
            _line(np.ones(1), np.zeros(len(bound)), margin),
            lambda z: function(z, bound),
            lambda z: (function(z, bound) == z) & (z != bound),
        )

    return rule


_MarginRule = Callable[[_Step, Sequence[Tensor]], Margin]

_MARGIN_RULES: Mapping[str, _MarginRule] = {
    "Add": _sum((1.0, 1.0)),
    "Cast": _cast,
    "Concat": _join,
    "Gemm": _product,
    "Log": _bent(np.log, lambda z: 1 / z, 0.0),
    "MatMul": _product,
    "Max": _limit(np.maximum),
    "Mean": _mean,
    "Min": _limit(np.minimum),
    "Neg": lambda step, inputs: _line(-np.ones(1), np.zeros(1), _margins(inputs)[0]),
    "Softplus": _bent(lambda z: np.logaddexp(0.0, z), lambda z: 1 / (1 + np.exp(-z)), 1.0),
    "Sub": _sum((1.0, -1.0)),
}
