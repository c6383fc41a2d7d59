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

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from fraud_kedro.champion.graph_columns import COLUMN_RULES, MIXERS, Mixer
from fraud_kedro.champion.graph_margins import MARGIN_RULES, bend, row_of
from fraud_kedro.champion.graph_tensors import Columns, Floats, Margin, Step, Tensor, values_of
from fraud_kedro.errors import ExplanationError

# Attributes up to opset 10 or 12, inputs after it.
_ONCE_ATTRIBUTES = {"Clip": ("min", "max"), "Split": ("split",), "Squeeze": ("axes",), "Unsqueeze": ("axes",)}


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
            graph = onnx.load_model_from_string(model).graph
        except DecodeError as error:
            raise ExplanationError(f"the graph cannot be read: {error}") from error
        self._n_features = background.shape[1]
        _with_inputs(graph)
        self._constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        if len(graph.input) != 1 or len(graph.output) != 1:
            raise ExplanationError("the graph has several inputs or outputs")
        self._input = graph.input[0].name
        steps, self._log_odds, self._bounds = _without_sigmoid(graph, self._constants)
        self._steps = [Step.read(node) for node in steps]
        self._mixers: dict[str, Mixer] = {}
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
            bounded = bend(found, lambda z: np.clip(z, low, high), lambda z: (low < z) & (z < high))
        if not (np.isfinite(bounded.reference).all() and np.isfinite(bounded.shares).all()):
            raise ExplanationError("the graph's log-odds are not finite")
        return bounded

    def _apply(self, step: Step, inputs: list[Tensor], bind: bool) -> Sequence[Tensor]:
        if bind and inputs and isinstance(inputs[0], Columns) and (maker := MIXERS.get(step.operator)):
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
            return [np.array([1, values_of(inputs[0]).shape[1]])]
        if any(isinstance(item, Margin) for item in inputs):
            rule = MARGIN_RULES.get(step.operator)
            if rule is None:
                raise ExplanationError(f"{step} on a score is not covered")
            return [rule(step, inputs)]
        if any(isinstance(item, Columns) for item in inputs):
            column_rule = COLUMN_RULES.get(step.operator)
            if column_rule is None:
                raise ExplanationError(f"{step} on features is not covered")
            return column_rule(step, inputs)
        return [self._of_constants(step, inputs)]

    def _of_constants(self, step: Step, inputs: Sequence[Tensor]) -> Tensor:
        """Trees that never split give every row the same scores."""
        match step.operator:
            case "Gather":
                step.only(axis=0)
                values, at = map(values_of, inputs)
                return np.take(values, at, axis=0)
            case "Concat":
                step.only(axis=0)
                return np.concatenate([values_of(item) for item in inputs])
            case "Expand":
                scores, shape = map(values_of, inputs)
                if shape.tolist() != [1, 1]:
                    raise ValueError("it makes another shape than one row's")
                return Margin(row_of(scores), np.zeros((self._n_features, scores.size)))
        raise ExplanationError(f"{step} on constants is not covered")


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
        [node for node in graph.node if id(node) not in ends],
        last.input[0],
        (low, high),
    )


def _with_inputs(graph: onnx.GraphProto) -> None:
    """Bring an older graph to the form of newer ones, whose rules are below.

    `onnx.version_converter` does it as well, but holds up every other thread meanwhile.
    """
    for number, node in enumerate(graph.node):
        moved = _ONCE_ATTRIBUTES.get(node.op_type, ())
        given = {item.name: item for item in node.attribute if item.name in moved}
        for name in moved if given else ():
            constant = f"{name} of {number}" if name in given else ""
            node.input.append(constant)
            if constant:
                value = np.asarray(helper.get_attribute_value(given[name]))
                kind = np.float32 if value.dtype.kind == "f" else np.int64
                graph.initializer.append(numpy_helper.from_array(value.astype(kind), constant))
                node.attribute.remove(given[name])


def _log_odds(bound: NDArray[Any] | None) -> float:
    if bound is None or bound.size != 1 or not 0 < float(bound.item()) < 1:
        raise ExplanationError("the graph's probability is not kept between two numbers")
    exact = float(bound.item())
    return float(np.log(exact) - np.log1p(-exact))
