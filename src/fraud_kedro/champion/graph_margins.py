"""Rules for steps on margins: lines keep their shares' sums, bends rescale them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import helper

from fraud_kedro.champion.graph_tensors import Floats, Margin, Step, Tensor, is_matrix

# Nearer than this to the reference, a chord is replaced by the tangent.
_NEAR = 1e-9


def _line(slope: Floats, intercept: Floats, margin: Margin) -> Margin:
    """``slope * margin + intercept``, value by value."""
    reference = slope * margin.reference + intercept
    return Margin(reference, margin.shares * np.broadcast_to(slope, reference.shape))


def bend(
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


def row_of(tensor: Tensor) -> Floats:
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


def _sum(signs: tuple[float, float]) -> MarginRule:
    def rule(step: Step, inputs: Sequence[Tensor]) -> Margin:
        step.only()
        first, second = inputs
        if isinstance(first, Margin) and isinstance(second, Margin):
            return Margin(
                signs[0] * first.reference + signs[1] * second.reference,
                signs[0] * first.shares + signs[1] * second.shares,
            )
        if isinstance(first, Margin):
            return _line(np.array([signs[0]]), signs[1] * row_of(second), first)
        assert isinstance(second, Margin)  # noqa: S101 (one of them is)
        return _line(np.array([signs[1]]), signs[0] * row_of(first), second)

    return rule


def _mean(step: Step, inputs: Sequence[Tensor]) -> Margin:
    step.only()
    parts = _margins(inputs)
    return Margin(
        np.asarray(np.mean([part.reference for part in parts], axis=0)),
        np.asarray(np.mean([part.shares for part in parts], axis=0)),
    )


def _join(step: Step, inputs: Sequence[Tensor]) -> Margin:
    step.only(axis=1)
    parts = _margins(inputs)
    return Margin(
        np.concatenate([part.reference for part in parts]),
        np.concatenate([part.shares for part in parts], axis=1),
    )


def _product(step: Step, inputs: Sequence[Tensor]) -> Margin:
    """``MatMul`` and ``Gemm``: a score times constants, plus constants."""
    step.only(alpha=1.0, beta=1.0, transA=0, transB=0)
    margin, coefficients = inputs[:2]
    if not isinstance(margin, Margin) or not is_matrix(coefficients):
        raise TypeError("it is no score times constants")
    intercept = row_of(inputs[2]) if len(inputs) > 2 else np.zeros(1)
    exact = coefficients.astype(np.float64)
    return Margin(margin.reference @ exact + intercept, margin.shares @ exact)


def _cast(step: Step, inputs: Sequence[Tensor]) -> Margin:
    (margin,) = _margins(inputs)
    if helper.tensor_dtype_to_np_dtype(step.attributes["to"]) not in (np.float32, np.float64):
        raise ValueError("to no floating-point number is not covered")
    return margin


def _bent(
    function: Callable[[Floats], Floats], slope: Callable[[Floats], Floats], scale: float
) -> MarginRule:
    def rule(step: Step, inputs: Sequence[Tensor]) -> Margin:
        step.only()
        (margin,) = _margins(inputs)
        return bend(margin, function, slope, scale)

    return rule


def _limit(function: Callable[[Floats, Floats], Floats]) -> MarginRule:
    """``Min`` and ``Max`` with constants."""

    def rule(step: Step, inputs: Sequence[Tensor]) -> Margin:
        step.only()
        margin, limit = inputs if isinstance(inputs[0], Margin) else inputs[::-1]
        bound = row_of(limit)
        assert isinstance(margin, Margin)  # noqa: S101 (one of them is)
        return bend(
            _line(np.ones(1), np.zeros(len(bound)), margin),
            lambda z: function(z, bound),
            lambda z: (function(z, bound) == z) & (z != bound),
        )

    return rule


MarginRule = Callable[[Step, Sequence[Tensor]], Margin]

MARGIN_RULES: Mapping[str, MarginRule] = {
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
