from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fraud_kedro.algorithms.model import EnsembleModel, to_onnx
from fraud_kedro.champion.graph_program import GraphProgram
from fraud_kedro.errors import ExplanationError
from fraud_kedro.evaluation.calibration import BetaCalibration, IsotonicCalibration, PlattCalibration


@pytest.fixture(scope="module")
def model(small_models):
    """Every operator that a candidate's graph can have."""
    members = tuple(
        replace(small_models[name], calibration=calibration)
        for name, calibration in (
            ("logistic_regression", PlattCalibration(slope=0.8, intercept=0.1)),
            ("random_forest", BetaCalibration(lower_slope=0.6, upper_slope=1.4, intercept=-1.0)),
            ("xgboost", IsotonicCalibration(log_odds=(-2.0, 0.0), calibrated=(-4.0, 0.5))),
        )
    )
    return to_onnx(EnsembleModel(members, PlattCalibration(slope=1.1, intercept=0.0)))


@pytest.fixture(scope="module")
def background(transactions_of):
    return transactions_of(10, 31)


def program_of(graph, background):
    return GraphProgram(graph.SerializeToString(), background)


def test_an_unknown_operator_in_any_place_is_refused_by_name(model, background):
    program_of(model, background)
    places = len(model.graph.node)
    assert places > 40
    for place in range(places):
        graph = onnx.ModelProto()
        graph.CopyFrom(model)
        node = graph.graph.node[place]
        node.op_type, node.domain = "Tanh", "com.example"
        with pytest.raises(ExplanationError, match="Tanh"):
            program_of(graph, background)


def set_attribute(name, value):
    def change(node):
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


@pytest.mark.parametrize(
    ("operator", "change"),
    [
        ("Gemm", set_attribute("alpha", 2.0)),
        ("Gemm", set_attribute("transB", 1)),
        ("Mod", set_attribute("fmod", 0)),
        ("Split", set_attribute("axis", 0)),
        ("Concat", set_attribute("axis", 0)),
        ("Cast", set_attribute("to", onnx.TensorProto.INT64)),
        ("TreeEnsembleRegressor", set_attribute("post_transform", "LOGISTIC")),
        ("TreeEnsembleRegressor", set_attribute("aggregate_function", "MAX")),
        ("MatMul", lambda node: node.input.reverse()),
        ("Sub", lambda node: node.input.__setitem__(1, "nowhere")),
        ("Mean", lambda node: node.input.__setitem__(0, "features")),
        ("Reciprocal", lambda node: node.input.__setitem__(0, "features")),
    ],
)
def test_an_operator_used_in_another_way_is_refused(model, background, operator, change):
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    change(next(node for node in graph.graph.node if node.op_type == operator))
    with pytest.raises(ExplanationError):
        program_of(graph, background)


def graph_of(nodes, constants, width=2):
    return helper.make_model(
        helper.make_graph(
            [
                *nodes,
                helper.make_node("Sigmoid", ["score"], ["p"]),
                helper.make_node("Clip", ["p", "low", "high"], ["clipped"]),
                helper.make_node("Squeeze", ["clipped", "axis"], ["probability"]),
            ],
            "g",
            [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["n", width])],
            [helper.make_tensor_value_info("probability", onnx.TensorProto.FLOAT, ["n"])],
            [
                numpy_helper.from_array(np.asarray(value), name)
                for name, value in {
                    "low": np.float32(1e-6),
                    "high": np.float32(0.999),
                    "axis": np.array([1]),
                    **constants,
                }.items()
            ],
        )
    )


ONES = {"ones": np.ones((2, 1), np.float32)}
PRODUCT = helper.make_node("MatMul", ["features", "ones"], ["sum"])


def test_the_bounds_of_the_probability_bound_its_reasons():
    graph = graph_of(
        [
            helper.make_node("Neg", ["sum"], ["score"]),
        ],
        ONES,
    )
    graph.graph.node.insert(0, PRODUCT)
    program = GraphProgram(graph.SerializeToString(), np.zeros((1, 2), np.float32))
    assert program.reference == 0
    np.testing.assert_allclose(program.shares(np.array([1.0, 2.0], np.float32)), [-1, -2])
    lowest = np.log(1e-6 / (1 - 1e-6))
    np.testing.assert_allclose(
        program.shares(np.array([100.0, 300.0], np.float32)), [lowest / 4, lowest * 3 / 4], rtol=1e-6
    )
    # Reasons that cancel out stay what they are: the tangent takes the chord's place.
    np.testing.assert_allclose(program.shares(np.array([5.0, -5.0], np.float32)), [-5, 5])


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([helper.make_node("Mul", ["features", "swapped"], ["q"])], "mixes features"),
        ([helper.make_node("Add", ["features", "column"], ["q"])], "number of rows"),
        ([PRODUCT, helper.make_node("Mul", ["sum", "sum"], ["score"])], "Mul .* on a score is not covered"),
        ([PRODUCT, helper.make_node("Add", ["sum", "features"], ["score"])], "features and scores meet"),
        ([PRODUCT, helper.make_node("Add", ["sum", "ones"], ["score"])], "gives a matrix"),
        ([helper.make_node("Abs", ["features"], ["score"])], "does not come from one margin"),
        ([helper.make_node("MatMul", ["features", "twice"], ["score"])], "does not come from one margin"),
        ([helper.make_node("Abs", ["ones"], ["score"])], "on constants is not covered"),
    ],
)
def test_what_cannot_be_shared_out_among_features_is_refused(nodes, words):
    swap = [
        helper.make_node("Split", ["features", "halves"], ["a", "b"], axis=1),
        helper.make_node("Concat", ["b", "a"], ["swapped"], axis=1),
    ]
    constants = {
        **ONES,
        "halves": np.array([1, 1]),
        "column": np.ones((2, 1), np.float32),
        "twice": np.ones((2, 2), np.float32),
    }
    with pytest.raises(ExplanationError, match=words):
        GraphProgram(graph_of([*swap, *nodes], constants).SerializeToString(), np.zeros((1, 2), np.float32))


def test_a_probability_without_bounds_or_several_inputs_or_no_graph_is_refused():
    background = np.zeros((1, 2), np.float32)
    graph = graph_of([helper.make_node("MatMul", ["features", "ones"], ["score"])], ONES)
    GraphProgram(graph.SerializeToString(), background)
    unbounded = graph_of(
        [helper.make_node("MatMul", ["features", "ones"], ["score"])], ONES | {"low": np.float32(0)}
    )
    with pytest.raises(ExplanationError, match="not kept between two numbers"):
        GraphProgram(unbounded.SerializeToString(), background)
    graph.graph.input.append(helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, ["n", 1]))
    with pytest.raises(ExplanationError, match="several inputs"):
        GraphProgram(graph.SerializeToString(), background)
    with pytest.raises(ExplanationError, match="cannot be read"):
        GraphProgram(b"not a graph", background)
