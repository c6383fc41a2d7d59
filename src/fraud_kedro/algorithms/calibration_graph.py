"""Calibrations as nodes of an ONNX graph."""

from __future__ import annotations

from typing import assert_never

import numpy as np

from fraud_kedro.algorithms.graph import GraphBuilder
from fraud_kedro.evaluation.calibration import (
    BetaCalibration,
    Calibration,
    IdentityCalibration,
    IsotonicCalibration,
    PlattCalibration,
)

_FLOAT, _DOUBLE = 1, 11  # onnx.TensorProto's numbers


def add_calibration(graph: GraphBuilder, log_odds: str, calibration: Calibration) -> str:
    """Add a calibration to a graph.

    Parameters
    ----------
    graph : GraphBuilder
    log_odds : str
        Name of a float32 tensor of shape (n, 1).
    calibration : Calibration

    Returns
    -------
    str
        Name of a float32 tensor of shape (n, 1), the calibrated log-odds.
    """
    match calibration:
        case IdentityCalibration():
            return log_odds
        case PlattCalibration(slope=slope, intercept=intercept):
            line = [np.array([[slope]], dtype=np.float32), np.array([intercept], dtype=np.float32)]
            return graph.node("Gemm", [log_odds, *map(graph.constant, line)])
        case BetaCalibration():
            return _beta(graph, log_odds, calibration)
        case IsotonicCalibration():
            return _broken_line(graph, log_odds, calibration)
        case _:
            assert_never(calibration)


def _beta(graph: GraphBuilder, log_odds: str, beta: BetaCalibration) -> str:
    lower = graph.node("Softplus", [graph.node("Neg", [log_odds])])
    upper = graph.node("Softplus", [log_odds])
    both = graph.node("Concat", [lower, upper], axis=1)
    slopes = np.array([[-beta.lower_slope], [beta.upper_slope]], dtype=np.float32)
    intercept = np.array([beta.intercept], dtype=np.float32)
    return graph.node("Gemm", [both, graph.constant(slopes), graph.constant(intercept)])


def _broken_line(graph: GraphBuilder, log_odds: str, line: IsotonicCalibration) -> str:
    """The first knot's value, plus slope times the way made within each piece."""
    knots, values = np.array(line.log_odds), np.array(line.calibrated)
    exact = graph.node("Cast", [log_odds], to=_DOUBLE)
    first, last = graph.constant(knots[:1]), graph.constant(knots[-1:])
    inside = graph.node("Min", [graph.node("Max", [exact, first]), last])
    beyond = graph.node("Sub", [exact, inside])
    score = graph.node("Add", [beyond, graph.constant(values[:1])])
    if len(knots) > 1:
        widths = np.diff(knots)
        from_left = graph.node("Sub", [inside, graph.constant(knots[:-1].reshape(1, -1))])
        zero = graph.constant(np.zeros(1))
        way = graph.node("Min", [graph.node("Max", [from_left, zero]), graph.constant(widths.reshape(1, -1))])
        slopes = (np.diff(values) / widths).reshape(-1, 1)
        score = graph.node("Add", [score, graph.node("MatMul", [way, graph.constant(slopes)])])
    return graph.node("Cast", [score], to=_FLOAT)
