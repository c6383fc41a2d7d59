from __future__ import annotations

import lightgbm
import numpy as np
import onnx
import onnxmltools
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxmltools.convert.common.data_types import FloatTensorType

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.model import FraudModel, to_onnx
from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, get_algorithm
from fraud_kedro.errors import ParityError
from fraud_kedro.evaluation.calibration import IdentityCalibration, PlattCalibration
from fraud_kedro.pipelines.export.edge_rows import MAX_PROBED_SPLITS, edge_rows, rows_not_finite, split_counts
from fraud_kedro.pipelines.export.parity import check_parity
from fraud_kedro.schema import ResolvedSchema

THRESHOLDS = (0.2, 0.8)
QUICK = {
    "lightgbm": {"num_boost_round": 60},
    "xgboost": {"num_boost_round": 60},
    "random_forest": {"n_estimators": 30},
    "logistic_regression": {},
}
SCHEMA = ResolvedSchema(
    time="Time", time_use="raw", amount="Amount", label="Class", features=("Time", "V1", "V2", "Amount")
)


@pytest.fixture(scope="module")
def data() -> LabelledMatrix:
    rng = np.random.default_rng(5)
    labels = (rng.random(1500) < 0.15).astype(np.int8)
    features = rng.normal(scale=2, size=(1500, 4)) + labels[:, None] * np.array([0, 2, -2, 1])
    # Cents: between two of them LightGBM puts a float64 threshold.
    features[:, 3] = np.round(np.abs(features[:, 3]) * 30, 2)
    return LabelledMatrix(features.astype(np.float32), labels, np.ones(1500))


def fitted(name: str, data: LabelledMatrix) -> FraudModel:
    estimator = get_algorithm(name).fit(data, QUICK[name], seed=1, n_jobs=1)
    return FraudModel(name, estimator, PlattCalibration(slope=0.8, intercept=-0.3), SCHEMA)


def serialised(model: FraudModel) -> bytes:
    return to_onnx(model).SerializeToString(deterministic=True)


def changed_initializer(graph: bytes, change) -> bytes:
    model = onnx.load_from_string(graph)
    change(model)
    return model.SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", ALGORITHM_NAMES)
def test_a_true_graph_passes_on_real_and_on_edge_rows(name, data):
    model = fitted(name, data)
    edges = edge_rows(model, data.features)

    report = check_parity(model, serialised(model), {"test": data.features, "edge": edges}, THRESHOLDS)

    assert report.row_sets["test"].rows == 1500
    assert report.row_sets["edge"].rows == len(edges)
    assert report.max_difference <= 1e-6
    assert report.splits == report.probed_splits == split_counts(model)[0]
    assert sum(part.differing_decisions for part in report.row_sets.values()) == 0


def graph_of_onnxmltools(booster: lightgbm.Booster, n_features: int) -> bytes:
    """The library's own conversion, reduced to the probability of fraud."""
    model = onnxmltools.convert_lightgbm(
        booster,
        initial_types=[("features", FloatTensorType([None, n_features]))],
        zipmap=False,
        target_opset=13,
    )
    both = next(output.name for output in model.graph.output if "prob" in output.name)
    del model.graph.output[:]
    model.graph.initializer.append(numpy_helper.from_array(np.array(1, dtype=np.int64), "fraud"))
    model.graph.node.append(helper.make_node("Gather", [both, "fraud"], ["probability"], axis=1))
    model.graph.output.append(helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"]))
    content: bytes = model.SerializeToString()
    return content


def test_the_edge_rows_expose_the_thresholds_of_onnxmltools(data):
    # It stores the float32 nearest to a float64 threshold, which may lie above it.
    fit = fitted("lightgbm", data)
    model = FraudModel("lightgbm", fit.estimator, IdentityCalibration(), SCHEMA)
    theirs = graph_of_onnxmltools(fit.estimator, 4)
    edges = edge_rows(model, data.features)

    with pytest.raises(ParityError, match="of the edge rows"):
        check_parity(model, theirs, {"edge": edges}, (), tolerance=1e-3)

    rng = np.random.default_rng(0)
    random_rows = rng.normal(scale=2, size=(5000, 4)).astype(np.float32)
    assert check_parity(model, theirs, {"random": random_rows}, ()).max_difference < 1e-5
    check_parity(model, serialised(model), {"edge": edges}, ())


def test_values_that_lightgbm_takes_for_zero_are_taken_for_zero_by_the_graph():
    # It reads anything within 1e-35 of zero as zero, and puts thresholds there.
    rng = np.random.default_rng(2)
    features = rng.choice([-1.0, 0.0, 1.0], size=(2000, 2)).astype(np.float32)
    labels = ((features[:, 0] == 0) & (rng.random(2000) < 0.8)).astype(np.int8)
    data = LabelledMatrix(features, labels, np.ones(2000))
    schema = ResolvedSchema(time="T", time_use="raw", amount="A", label="C", features=("T", "A"))
    estimator = get_algorithm("lightgbm").fit(data, QUICK["lightgbm"], seed=1, n_jobs=1)
    model = FraudModel("lightgbm", estimator, IdentityCalibration(), schema)
    near_zero = np.array([0.0, 1e-35, 1e-36, 1e-44, 1.1e-35, 1e-34], dtype=np.float32)
    rows = np.stack([np.concatenate([near_zero, -near_zero]), np.zeros(12, dtype=np.float32)], axis=1)

    points = get_algorithm("lightgbm").trees(estimator).split_points()[0]
    assert (np.abs(points) < 2e-35).any()
    check_parity(model, serialised(model), {"near zero": rows, "edge": edge_rows(model, features)}, ())


@pytest.mark.parametrize("name", ["lightgbm", "random_forest", "xgboost"])
def test_one_threshold_off_by_one_float32_is_found(name, data):
    model = fitted(name, data)
    rng = np.random.default_rng(3)
    edges = edge_rows(model, data.features)

    def misplace(graph: onnx.ModelProto) -> None:
        (trees,) = (node for node in graph.graph.node if node.op_type == "TreeEnsembleRegressor")
        attributes = {attribute.name: attribute for attribute in trees.attribute}
        modes = attributes["nodes_modes"].strings
        split = int(rng.choice([index for index, mode in enumerate(modes) if mode != b"LEAF"]))
        value = np.float32(attributes["nodes_values"].floats[split])
        attributes["nodes_values"].floats[split] = float(np.nextafter(value, np.float32(np.inf)))

    wrong = changed_initializer(serialised(model), misplace)

    with pytest.raises(ParityError, match="of the edge rows"):
        check_parity(model, wrong, {"edge": edges}, (), tolerance=1e-5)


def shifted_probability(graph: onnx.ModelProto) -> None:
    """Adds a little to the exponent: every probability a bit off."""
    for constant in graph.graph.initializer:
        if constant.dims == [1, 1]:
            constant.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant) * 1.01, constant.name))


def test_the_error_names_row_values_difference_and_split(data):
    model = fitted("xgboost", data)
    wrong = changed_initializer(serialised(model), shifted_probability)

    with pytest.raises(ParityError) as raised:
        check_parity(model, wrong, {"test": data.features}, THRESHOLDS)

    message = str(raised.value)
    for part in ("xgboost", "of the test rows", "native model gives", "1e-05", "nearest split is", "Amount="):
        assert part in message


def test_a_model_without_trees_is_reported_without_a_split(data):
    model = fitted("logistic_regression", data)
    wrong = changed_initializer(serialised(model), shifted_probability)

    with pytest.raises(ParityError) as raised:
        check_parity(model, wrong, {"test": data.features}, THRESHOLDS)

    assert "nearest split" not in str(raised.value)


def test_another_decision_stops_the_export_within_the_tolerance_too(data):
    model = fitted("xgboost", data)
    wrong = changed_initializer(serialised(model), shifted_probability)
    native = model.probability(data.features).astype(np.float32)
    row = int(np.argmin(np.abs(native - 0.5)))
    between = float(native[row])

    report_thresholds = (np.nextafter(np.float32(between), np.float32(1)).item(),)
    with pytest.raises(ParityError, match="two sides of the decision threshold"):
        # Within this tolerance only the decision can part them.
        check_parity(model, wrong, {"row": data.features}, report_thresholds, tolerance=1.0)


def test_a_graph_that_gives_nan_is_refused(data):
    model = fitted("xgboost", data)

    def spoil(graph: onnx.ModelProto) -> None:
        for constant in graph.graph.initializer:
            if constant.dims == [1, 1]:
                constant.CopyFrom(numpy_helper.from_array(np.array([[np.nan]], np.float32), constant.name))

    with pytest.raises(ParityError, match="the graph nan"):
        check_parity(model, changed_initializer(serialised(model), spoil), {"test": data.features}, ())


def test_a_graph_that_scores_what_is_no_number_is_refused(data):
    model = fitted("xgboost", data)

    def forget(graph: onnx.ModelProto) -> None:
        """Let the graph end where the probability is made, without the check for numbers."""
        clipped = next(node for node in graph.graph.node if node.op_type == "Clip")
        next(node for node in graph.graph.node if node.op_type == "Squeeze").input[0] = clipped.output[0]

    rows = rows_not_finite(data.features)
    check_parity(model, serialised(model), {"not finite": rows}, THRESHOLDS)
    with pytest.raises(ParityError, match="of the not finite rows the native model gives nan"):
        check_parity(model, changed_initializer(serialised(model), forget), {"not finite": rows}, THRESHOLDS)


def test_every_feature_is_once_nan_and_once_infinite_on_either_side(data):
    rows = rows_not_finite(data.features)

    assert rows.shape == (12, 4)
    for feature in range(4):
        spoilt = rows[~np.isfinite(rows[:, feature])]
        assert len(spoilt) == 3
        assert np.isnan(spoilt[:, feature]).sum() == 1
        assert np.isfinite(np.delete(spoilt, feature, axis=1)).all()


def test_a_report_survives_json(data):
    model = fitted("logistic_regression", data)
    report = check_parity(model, serialised(model), {"test": data.features}, THRESHOLDS)

    assert type(report).model_validate_json(report.model_dump_json()) == report


def test_an_empty_set_of_rows_passes(data):
    model = fitted("logistic_regression", data)

    report = check_parity(model, serialised(model), {"none": data.features[:0]}, THRESHOLDS)

    assert report.row_sets["none"].rows == 0


def test_no_more_splits_are_counted_as_probed_than_there_are_rows_for(data, monkeypatch):
    model = fitted("random_forest", data)
    monkeypatch.setattr("fraud_kedro.pipelines.export.edge_rows.MAX_PROBED_SPLITS", 100)

    report = check_parity(model, serialised(model), {"test": data.features}, ())

    assert report.probed_splits == 100 < report.splits < MAX_PROBED_SPLITS
