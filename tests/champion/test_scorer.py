from __future__ import annotations

import threading

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from fraud_kedro.champion.bundle import SelfTest, Thresholds
from fraud_kedro.champion.scorer import Scorer, SplitRows, second_of_day
from fraud_kedro.errors import BundleError
from fraud_kedro.schema import ResolvedSchema

FLOAT32_MAX = float(np.finfo(np.float32).max)
in_float32 = st.floats(-FLOAT32_MAX, FLOAT32_MAX)


def schema(time_use):
    return ResolvedSchema(
        time="Time", time_use=time_use, amount="Amount", label="Class", features=("V1", "Time", "Amount")
    )


@pytest.fixture(scope="module")
def scorers(make_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return {
        use: Scorer(make_bundle(folder / use, schema=schema(use))) for use in ("hour_of_day", "raw", "none")
    }


@pytest.fixture
def bundle(make_bundle, tmp_path):
    return make_bundle(tmp_path / "bundle")


def test_a_bundle_scores_as_its_formula_does(bundle, logistic_probability):
    scorer = Scorer(bundle)
    rows = np.random.default_rng(3).normal(size=(200, 30)) * 3
    matrix = scorer.matrix(rows)
    probabilities = scorer.probabilities(matrix)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (200,)
    np.testing.assert_allclose(probabilities, logistic_probability(matrix), atol=1e-6)


@pytest.mark.parametrize("rows", [0, 1, 499, 500, 1001])
def test_a_batch_split_over_threads_has_the_same_scores_in_the_same_order(bundle, rows):
    matrix = np.random.default_rng(4).normal(size=(rows, 30)).astype(np.float32)

    split = Scorer(bundle, threads=3).probabilities(matrix)

    np.testing.assert_allclose(split, Scorer(bundle).probabilities(matrix), rtol=1e-6)


def test_large_batches_are_scored_by_as_many_threads_as_asked_for():
    by_thread = {}

    def score(rows):
        by_thread[threading.get_ident()] = by_thread.get(threading.get_ident(), 0) + len(rows)
        together.wait(timeout=30)
        return rows[:, 0]

    # Passes only when three threads are inside at once.
    together = threading.Barrier(3)
    matrix = np.arange(3000, dtype=np.float32).reshape(1500, 2)

    np.testing.assert_array_equal(SplitRows(score, 3)(matrix), matrix[:, 0])

    assert list(by_thread.values()) == [500] * 3


@pytest.mark.parametrize("use", ["hour_of_day", "raw", "none"])
@given(row=st.tuples(in_float32, in_float32, in_float32))
def test_one_row_is_read_as_many_rows_are(scorers, use, row):
    np.testing.assert_array_equal(scorers[use].few([row]), scorers[use].matrix([row]))


@given(seconds=st.floats(allow_nan=False, allow_infinity=False))
def test_a_second_of_the_day_lies_within_the_day_as_float32(seconds):
    second = np.float32(second_of_day(seconds))
    assert 0 <= second < 86_400


@given(day=st.integers(-30_000, 30_000), second=st.floats(0, 86_399.99))
def test_the_calendar_day_does_not_matter(day, second):
    difference = abs(second_of_day(day * 86_400 + second) - second)
    # What float64 can hold of a second 30,000 days away.
    assert min(difference, 86_400 - difference) < 1e-5


def test_epoch_seconds_keep_their_second(scorers):
    row = scorers["hour_of_day"].few([(0.0, 1_700_000_007.0, 0.0)])
    assert row[0, 1] == 1_700_000_007 % 86_400


def test_a_value_beyond_float32_is_an_error_for_one_row_and_infinite_for_many(scorers):
    with pytest.raises(OverflowError):
        scorers["raw"].few([(1e39, 0.0, 0.0)])
    assert np.isinf(scorers["raw"].matrix([(1e39, 0.0, 0.0)])[0, 0])


def test_thresholds_are_compared_as_float32(make_bundle, tmp_path):
    scorer = Scorer(make_bundle(tmp_path / "b", thresholds=Thresholds(flag=0.1, decline=0.7, policy="p")))
    # As float64 these lie above and below the thresholds.
    assert float(np.float32(0.1)) > 0.1
    assert float(np.float32(0.7)) < 0.7
    assert scorer.decision(float(np.float32(0.1))) == "review"
    assert scorer.decision(float(np.float32(0.7))) == "decline"
    assert scorer.decision(float(np.nextafter(np.float32(0.1), np.float32(0)))) == "approve"


@given(probability=st.floats(0, 1, width=32))
def test_a_prediction_is_one_exactly_when_the_decision_is_not_approve(scorers, probability):
    scorer = scorers["raw"]
    assert scorer.prediction(probability) == (scorer.decision(probability) != "approve")


def test_a_probability_that_is_no_number_is_declined(bundle):
    assert Scorer(bundle).decision(float("nan")) == "decline"


def test_other_thresholds_decide_in_place_of_the_bundles(bundle):
    scorer = Scorer(bundle, thresholds=Thresholds(flag=0.5, decline=0.6, policy="settings"))
    assert [scorer.decision(p) for p in (0.49, 0.55, 0.61)] == ["approve", "review", "decline"]


def test_a_good_bundle_passes_its_self_test(bundle):
    Scorer(bundle).self_test()


def test_a_model_that_scores_differently_from_its_promise_fails_the_self_test(make_bundle, tmp_path):
    rows = ((0.0,) * 30, (1.0,) * 30)
    bundle = make_bundle(tmp_path / "b", self_test=SelfTest(rows=rows, probabilities=(0.5, 0.5)))
    with pytest.raises(BundleError, match=r"fails its self-test: row 1 scores 0\.038"):
        Scorer(bundle).self_test()


def test_a_self_test_with_fewer_promises_than_rows_fails(make_bundle, tmp_path):
    test = SelfTest(rows=((0.0,) * 30, (1.0,) * 30), probabilities=(0.5,))
    with pytest.raises(BundleError, match="promised are 1"):
        Scorer(make_bundle(tmp_path / "b", self_test=test)).self_test()


def test_a_graph_that_gives_no_number_fails_the_self_test(make_bundle, tmp_path):
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["features", "axis"], ["sums"], keepdims=0),
            helper.make_node("Sub", ["sums", "sums"], ["zero"]),
            helper.make_node("Div", ["zero", "zero"], ["probability"]),
        ],
        "nan",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 30])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(BundleError, match="scores nan"):
        Scorer(make_bundle(tmp_path / "b", model=model.SerializeToString())).self_test()


def test_a_graph_for_another_number_of_features_is_refused(make_bundle, tmp_path, logistic_graph):
    with pytest.raises(BundleError, match=r"wants one float32 tensor of shape \(n, 30\)"):
        Scorer(make_bundle(tmp_path / "b", model=logistic_graph([1.0, 2.0], 0.0)))


def test_a_graph_with_another_output_is_refused(make_bundle, tmp_path, logistic_graph):
    model = onnx.load_from_string(logistic_graph([0.1] * 30, 0.0))
    model.graph.node[-1].output[0] = model.graph.output[0].name = "score"
    with pytest.raises(BundleError, match="gives score"):
        Scorer(make_bundle(tmp_path / "b", model=model.SerializeToString()))


def test_bytes_that_are_no_graph_are_refused(make_bundle, tmp_path):
    with pytest.raises(BundleError, match="does not load"):
        Scorer(make_bundle(tmp_path / "b", model=b"not a graph"))
