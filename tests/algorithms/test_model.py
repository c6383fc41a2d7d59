from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import logit

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.model import (
    PROBABILITY_CEILING,
    PROBABILITY_FLOOR,
    EnsembleModel,
    FraudModel,
    reduce_time,
    to_onnx,
)
from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, get_algorithm
from fraud_kedro.evaluation.calibration import (
    BetaCalibration,
    IdentityCalibration,
    IsotonicCalibration,
    PlattCalibration,
)
from fraud_kedro.schema import ResolvedSchema

QUICK = {
    "lightgbm": {"num_boost_round": 30},
    "xgboost": {"num_boost_round": 30},
    "random_forest": {"n_estimators": 15},
    "logistic_regression": {},
}
LINE = PlattCalibration(slope=0.7, intercept=-2.5)
every_algorithm = pytest.mark.parametrize("name", ALGORITHM_NAMES)


def session(model: FraudModel) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = to_onnx(model).SerializeToString(deterministic=True)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def graph_probability(model: FraudModel, rows: np.ndarray) -> np.ndarray:
    (probability,) = session(model).run(["probability"], {"features": rows})
    return probability


@pytest.fixture(scope="module")
def models(train, schema) -> dict[str, FraudModel]:
    return {
        name: FraudModel(name, get_algorithm(name).fit(train, QUICK[name], seed=1, n_jobs=1), LINE, schema)
        for name in ALGORITHM_NAMES
    }


@every_algorithm
def test_the_graph_scores_as_the_native_model(name, models, held_out):
    model = models[name]

    difference = model.probability(held_out.features) - graph_probability(model, held_out.features)

    assert np.abs(difference).max() <= 1e-6


@every_algorithm
def test_the_graph_scores_a_single_row_as_it_scores_a_batch(name, models, held_out):
    open_session = session(models[name])
    (batch,) = open_session.run(None, {"features": held_out.features[:50]})

    single = [open_session.run(None, {"features": held_out.features[[row]]})[0][0] for row in range(50)]

    np.testing.assert_allclose(single, batch, atol=1e-6, rtol=0)


@every_algorithm
def test_the_graph_has_one_input_one_output_and_an_open_batch(name, models):
    open_session = session(models[name])
    (taken,), (given_back,) = open_session.get_inputs(), open_session.get_outputs()

    assert (taken.name, taken.type, taken.shape) == ("features", "tensor(float)", ["n", 5])
    assert (given_back.name, given_back.type, given_back.shape) == ("probability", "tensor(float)", ["n"])
    assert open_session.run(None, {"features": np.empty((0, 5), dtype=np.float32)})[0].shape == (0,)


@every_algorithm
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_with_a_value_that_is_no_number_has_no_probability_on_either_side(
    name, value, models, held_out
):
    model = models[name]
    rows = held_out.features[:40].copy()
    rows[np.arange(0, 40, 2), np.arange(20) % 5] = value

    scored, native = graph_probability(model, rows), model.probability(rows)

    expected = np.arange(40) % 2 == 0
    np.testing.assert_array_equal(np.isnan(scored), expected)
    np.testing.assert_array_equal(np.isnan(native), expected)
    single = [graph_probability(model, rows[[row]])[0] for row in range(4)]
    np.testing.assert_array_equal(np.isnan(single), expected[:4])


@every_algorithm
def test_the_opset_is_the_lowest_that_has_the_operators(name, models):
    graph = to_onnx(models[name])
    opsets = {opset.domain: opset.version for opset in graph.opset_import}

    assert opsets[""] == 10
    assert opsets.get("ai.onnx.ml", 1) == 1
    graph.opset_import[0].version = 9
    with pytest.raises(onnx.checker.ValidationError, match="Mod"):
        onnx.checker.check_model(graph)


@every_algorithm
def test_the_graph_says_what_it_is(name, models, schema):
    graph = to_onnx(models[name])

    properties = {entry.key: entry.value for entry in graph.metadata_props}
    assert graph.producer_name == "fraud_kedro"
    assert properties["algorithm"] == name
    assert properties["schema_hash"] == schema.hash
    assert tuple(json.loads(properties["features"])) == schema.features
    assert not {"ZipMap", "ArgMax"} & {node.op_type for node in graph.graph.node}


@every_algorithm
def test_the_same_model_gives_the_same_bytes(name, train, schema):
    def content() -> bytes:
        estimator = get_algorithm(name).fit(train, QUICK[name], seed=1, n_jobs=1)
        return to_onnx(FraudModel(name, estimator, LINE, schema)).SerializeToString(deterministic=True)

    assert content() == content()


@every_algorithm
@pytest.mark.parametrize("n_rows", [1, 2, 31, 1000])
def test_onnxruntime_has_nothing_to_warn_of(name, n_rows, models, capfd):
    rows = np.zeros((n_rows, 5), dtype=np.float32)

    session(models[name]).run(None, {"features": rows})

    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("time_use", ["hour_of_day", "raw", "none"])
@pytest.mark.parametrize("position", [0, 2, 4])
def test_the_graph_treats_raw_time_as_the_schema_does(time_use, position, train):
    features = [f"V{i}" for i in range(4)]
    features.insert(position, "Time")
    schema = ResolvedSchema(
        time="Time", time_use=time_use, amount="V0", label="Class", features=tuple(features)
    )
    order = np.insert(np.arange(1, 5), position, 0)
    data = LabelledMatrix(np.ascontiguousarray(train.features[:, order]), train.labels, train.weights)
    estimator = get_algorithm("xgboost").fit(data, QUICK["xgboost"], seed=1, n_jobs=1)
    model = FraudModel("xgboost", estimator, LINE, schema)
    raw = data.features.astype(np.float64)
    raw[:, position] += 86_400 * np.arange(len(raw)) % 7 - 86_400 * 3
    rows = raw.astype(np.float32)

    native = model.probability(rows)

    np.testing.assert_allclose(graph_probability(model, rows), native, atol=1e-6, rtol=0)
    exact = schema.model_matrix(rows.astype(np.float64))
    np.testing.assert_allclose(model.probability(exact), native, atol=1e-9)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_reduced_time_is_a_second_of_the_day_and_stays_one(seconds):
    schema = ResolvedSchema(
        time="Time", time_use="hour_of_day", amount="A", label="C", features=("Time", "A")
    )
    row = np.array([[seconds, 1.0]], dtype=np.float32)

    once = reduce_time(row, schema)

    assert 0 <= once[0, 0] < 86_400
    np.testing.assert_array_equal(reduce_time(once, schema), once)
    np.testing.assert_array_equal(once, schema.model_matrix(row.astype(np.float64)))


@pytest.mark.parametrize("intercept", [-60.0, 60.0])
@every_algorithm
def test_probabilities_stay_where_their_log_odds_are_finite(name, intercept, train, held_out, schema):
    estimator = get_algorithm(name).fit(train, QUICK[name], seed=1, n_jobs=1)
    model = FraudModel(name, estimator, PlattCalibration(slope=1.0, intercept=intercept), schema)

    for probability in (model.probability(held_out.features), graph_probability(model, held_out.features)):
        assert probability.min() >= np.float32(PROBABILITY_FLOOR)
        assert probability.max() <= PROBABILITY_CEILING
        assert np.isfinite(logit(probability)).all()


def test_small_probabilities_are_told_apart_by_the_graph(train, held_out, schema):
    estimator = get_algorithm("logistic_regression").fit(train, {}, seed=1, n_jobs=1)
    model = FraudModel("logistic_regression", estimator, PlattCalibration(slope=1, intercept=-12), schema)

    native, scored = model.probability(held_out.features), graph_probability(model, held_out.features)

    small = (native > 1.1 * PROBABILITY_FLOOR) & (native < 1e-6)
    assert small.sum() > 100
    np.testing.assert_allclose(scored[small], native[small], rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("lightgbm", {"min_data_in_leaf": 5000}), ("xgboost", {"gamma": 1e9})],
)
def test_a_booster_that_never_splits_gives_one_probability_on_both_sides(
    name, parameters, train, held_out, schema
):
    estimator = get_algorithm(name).fit(train, {**QUICK[name], **parameters}, seed=1, n_jobs=1)
    model = FraudModel(name, estimator, IdentityCalibration(), schema)

    native, scored = model.probability(held_out.features), graph_probability(model, held_out.features)

    assert len(np.unique(native)) == 1
    np.testing.assert_allclose(scored, native, atol=1e-6)
    onnx.checker.check_model(to_onnx(model), full_check=True)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(ALGORITHM_NAMES),
    seed=st.integers(0, 10_000),
    decimals=st.integers(0, 3),
    slope=st.floats(0.1, 3.0),
    intercept=st.floats(-8.0, 3.0),
)
def test_graph_and_native_model_agree_whatever_the_table(name, seed, decimals, slope, intercept):
    rng = np.random.default_rng(seed)
    # Few distinct values: many rows lie on thresholds.
    features = np.round(rng.normal(scale=3, size=(300, 4)), decimals).astype(np.float32)
    labels = (features[:, 0] + rng.normal(size=300) > 2).astype(np.int8)
    labels[:2] = (0, 1)
    data = LabelledMatrix(features, labels, rng.uniform(0.5, 5, 300))
    schema = ResolvedSchema(time="T", time_use="raw", amount="A", label="C", features=("T", "A", "V1", "V2"))
    estimator = get_algorithm(name).fit(data, QUICK[name], seed=seed, n_jobs=1)
    model = FraudModel(name, estimator, PlattCalibration(slope=slope, intercept=intercept), schema)

    difference = model.probability(features) - graph_probability(model, features)

    assert np.abs(difference).max() <= 2e-6


CALIBRATIONS = st.one_of(
    st.just(IdentityCalibration()),
    st.builds(PlattCalibration, slope=st.floats(0.1, 3.0), intercept=st.floats(-8.0, 3.0)),
    st.builds(
        BetaCalibration,
        lower_slope=st.floats(0.1, 3.0),
        upper_slope=st.floats(0.1, 3.0),
        intercept=st.floats(-8.0, 3.0),
    ),
    st.integers(0, 10_000).map(lambda seed: bent_line(np.random.default_rng(seed))),
)


def bent_line(rng):
    """As the fit makes them: knots at least a quarter apart, no piece steeper than 5."""
    steps = rng.uniform(0.25, 3.0, rng.integers(1, 12))
    knots = np.cumsum(np.concatenate([[-8.0], steps]))
    values = np.cumsum(np.concatenate([[-9.0], steps * rng.uniform(0.02, 5.0, len(steps))]))
    return IsotonicCalibration(log_odds=tuple(knots), calibrated=tuple(values))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calibration=CALIBRATIONS)
def test_every_calibration_is_the_same_in_the_graph(models, held_out, calibration):
    model = replace(models["lightgbm"], calibration=calibration)

    difference = model.probability(held_out.features) - graph_probability(model, held_out.features)

    assert np.abs(difference).max() <= 5e-6


def test_an_ensemble_is_the_mean_of_calibrated_log_odds_in_one_graph(models, held_out):
    ensemble = EnsembleModel(tuple(models.values()), PlattCalibration(slope=1.3, intercept=0.2))
    mean = np.mean([model.log_odds(held_out.features) for model in models.values()], axis=0)

    np.testing.assert_allclose(ensemble.log_odds(held_out.features), 1.3 * mean + 0.2, rtol=1e-12)
    difference = ensemble.probability(held_out.features) - graph_probability(ensemble, held_out.features)
    assert np.abs(difference).max() <= 1e-6
    assert ensemble.algorithm == "ensemble"
    assert set(ensemble.parameters) == set(models)
    assert len(ensemble.tree_ensembles()) == 3


def test_an_ensemble_of_one_scores_as_its_member(models, held_out):
    member = models["xgboost"]
    ensemble = EnsembleModel((member,), IdentityCalibration())
    np.testing.assert_array_equal(
        graph_probability(ensemble, held_out.features), graph_probability(member, held_out.features)
    )
