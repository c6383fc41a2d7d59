from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.special import expit, logit
from sklearn.calibration import _sigmoid_calibration

from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.calibration import (
    BetaCalibration,
    Calibration,
    IdentityCalibration,
    IsotonicCalibration,
    PlattCalibration,
)
from fraud_kedro.evaluation.calibration_fit import CALIBRATION_METHODS, fit_calibration


def drawn(n_rows: int, seed: int, slope: float = 0.6, intercept: float = -2.0):
    """Scores whose true calibration is the given line."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(scale=3, size=n_rows)
    labels = (rng.random(n_rows) < expit(slope * log_odds + intercept)).astype(np.int8)
    return log_odds, labels, np.ones(n_rows)


def test_platt_finds_the_line_that_made_the_labels():
    line = fit_calibration("platt", *drawn(200_000, seed=1))

    assert line.slope == pytest.approx(0.6, abs=0.02)
    assert line.intercept == pytest.approx(-2.0, abs=0.05)


def test_platt_agrees_with_scikit_learn():
    log_odds, labels, _ = drawn(3000, seed=2)
    weights = np.random.default_rng(3).uniform(0.5, 4.0, 3000)

    line = fit_calibration("platt", log_odds, labels, weights)

    # Its sigmoid is 1 / (1 + exp(a x + b)).
    a, b = _sigmoid_calibration(log_odds, labels, weights)
    assert line.slope == pytest.approx(-a, rel=1e-3)
    assert line.intercept == pytest.approx(-b, rel=1e-3)


def test_a_weight_counts_as_that_many_rows():
    log_odds, labels, _ = drawn(2000, seed=4)
    weights = np.random.default_rng(5).integers(1, 5, 2000)

    weighted = fit_calibration("platt", log_odds, labels, weights.astype(float))
    repeated = fit_calibration(
        "platt", np.repeat(log_odds, weights), np.repeat(labels, weights), np.ones(weights.sum())
    )

    assert weighted.slope == pytest.approx(repeated.slope, rel=1e-6)
    assert weighted.intercept == pytest.approx(repeated.intercept, rel=1e-6)


def test_a_sample_with_weights_is_calibrated_for_the_table_it_stands_for():
    log_odds, labels, _ = drawn(200_000, seed=6)
    kept = (labels == 1) | (np.random.default_rng(7).random(len(labels)) < 0.05)
    weights = np.where(labels == 1, 1.0, 20.0)[kept]

    line = fit_calibration("platt", log_odds[kept], labels[kept], weights)

    expected = expit(line.apply(log_odds)).sum()
    assert expected == pytest.approx(labels.sum(), rel=0.05)


def test_perfectly_separated_rows_have_a_finite_slope():
    log_odds = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])

    line = fit_calibration("platt", log_odds, (log_odds > 0).astype(int), np.ones(6))

    assert 0 < line.slope < 100


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 30.0), st.floats(-50, 50))
def test_calibration_keeps_the_ranking(seed, scale, shift):
    log_odds, labels, weights = drawn(300, seed)
    assume(0 < labels.sum() < 300)
    log_odds = scale * log_odds + shift

    calibrated = fit_calibration("platt", log_odds, labels, weights).apply(log_odds)

    order = np.argsort(log_odds)
    assert (np.diff(calibrated[order]) >= 0).all()


def test_none_leaves_the_scores_alone():
    log_odds, labels, weights = drawn(50, seed=8)

    calibration = fit_calibration("none", log_odds, labels, weights)

    np.testing.assert_array_equal(calibration.apply(log_odds), log_odds)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_slope_that_turns_the_ranking_is_refused(value):
    with pytest.raises(ValidationError, match="slope"):
        PlattCalibration(slope=value, intercept=0.0)


@pytest.mark.parametrize(
    "calibration",
    [
        IdentityCalibration(),
        PlattCalibration(slope=0.4, intercept=-3.25),
        BetaCalibration(lower_slope=0.4, upper_slope=1.5, intercept=-3.25),
        IsotonicCalibration(log_odds=(-1.0, 2.5), calibrated=(-3.0, 0.5)),
    ],
)
def test_coefficients_survive_json(calibration):
    adapter = TypeAdapter(Calibration)

    assert adapter.validate_json(adapter.dump_json(calibration)) == calibration


def test_an_unknown_method_lists_those_that_exist():
    log_odds, labels, weights = drawn(50, seed=9)

    with pytest.raises(TrainingError) as raised:
        fit_calibration("magic", log_odds, labels, weights)

    assert all(method in str(raised.value) for method in ("'magic'", *CALIBRATION_METHODS))


def test_scores_that_rank_the_wrong_way_are_refused():
    log_odds, labels, weights = drawn(2000, seed=10)

    with pytest.raises(TrainingError, match="do not score above"):
        fit_calibration("platt", -log_odds, labels, weights)


def test_scores_that_are_all_the_same_are_refused():
    with pytest.raises(TrainingError, match="learnt nothing"):
        fit_calibration("platt", np.full(10, -6.0), np.array([1] + [0] * 9), np.ones(10))


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_class_are_refused(label):
    with pytest.raises(TrainingError, match="needs both classes"):
        fit_calibration("platt", np.arange(10.0), np.full(10, label), np.ones(10))


def test_scores_that_are_not_finite_are_refused():
    log_odds, labels, weights = drawn(50, seed=11)
    log_odds[3] = np.inf

    with pytest.raises(TrainingError, match="not finite"):
        fit_calibration("platt", log_odds, labels, weights)


def test_weights_that_sum_to_one_calibrate_as_equal_weights_do():
    log_odds, labels, ones = drawn(3000, seed=8)

    line = fit_calibration("platt", log_odds, labels, ones / len(ones))

    equal = fit_calibration("platt", log_odds, labels, ones)
    assert line.slope == pytest.approx(equal.slope, rel=1e-6)
    assert line.intercept == pytest.approx(equal.intercept, rel=1e-6)


def test_beta_finds_the_slopes_that_made_the_labels():
    rng = np.random.default_rng(12)
    log_odds = rng.normal(scale=3, size=300_000)
    truth = BetaCalibration(lower_slope=0.4, upper_slope=1.6, intercept=-1.0)
    labels = (rng.random(len(log_odds)) < expit(truth.apply(log_odds))).astype(np.int8)

    found = fit_calibration("beta", log_odds, labels, np.ones(len(log_odds)))

    assert found.lower_slope == pytest.approx(0.4, abs=0.03)
    assert found.upper_slope == pytest.approx(1.6, abs=0.08)
    assert found.intercept == pytest.approx(-1.0, abs=0.08)


def test_beta_is_the_published_formula():
    p = np.array([1e-6, 0.1, 0.5, 0.999])
    found = BetaCalibration(lower_slope=0.4, upper_slope=1.6, intercept=-1.0).apply(logit(p))
    # Kull, Silva Filho, Flach (2017), equation 2, on the log-odds.
    np.testing.assert_allclose(found, 0.4 * np.log(p) - 1.6 * np.log(1 - p) - 1.0, rtol=1e-9)


def test_isotonic_follows_a_bend_that_a_line_cannot():
    rng = np.random.default_rng(13)
    log_odds = rng.uniform(-6, 6, 400_000)
    truth = np.interp(log_odds, [-6, 0, 1, 6], [-5, -4, 0, 1])
    labels = (rng.random(len(log_odds)) < expit(truth)).astype(np.int8)

    found = fit_calibration("isotonic", log_odds, labels, np.ones(len(log_odds)))

    error = np.abs(expit(found.apply(log_odds)) - expit(truth))
    assert error.max() < 0.06
    assert error.mean() < 0.01


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(20, 400),
    decimals=st.integers(0, 6),
    method=st.sampled_from(["beta", "isotonic"]),
)
def test_every_method_keeps_the_ranking_and_no_two_scores_tie(seed, size, decimals, method):
    log_odds, labels, weights = drawn(size, seed)
    log_odds = np.round(log_odds, decimals)
    assume(0 < labels.sum() < size and log_odds.std() > 0)

    calibrated = fit_calibration(method, log_odds, labels, weights).apply(np.unique(log_odds))

    assert (np.diff(calibrated) > 0).all()


def test_knots_that_do_not_increase_are_refused():
    with pytest.raises(ValidationError, match="do not increase"):
        IsotonicCalibration(log_odds=(0.0, 1.0), calibrated=(1.0, 1.0))
    with pytest.raises(ValidationError, match="two coordinates"):
        IsotonicCalibration(log_odds=(0.0, 1.0), calibrated=(1.0,))
