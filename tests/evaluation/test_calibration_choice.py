from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.calibration import BetaCalibration, IdentityCalibration
from fraud_kedro.evaluation.calibration_choice import choose_calibration
from fraud_kedro.evaluation.calibration_fit import fit_calibration


def drawn(truth, size=60_000, seed=0):
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(scale=2.5, size=size)
    labels = (rng.random(size) < expit(truth(log_odds))).astype(np.int8)
    return log_odds, labels, np.ones(size)


@pytest.mark.parametrize(
    ("truth", "method"),
    [
        (lambda z: 0.4 * z - 2, "platt"),
        (BetaCalibration(lower_slope=0.2, upper_slope=2.0, intercept=-1).apply, "beta"),
        (lambda z: np.interp(z, [-6, 0, 0.5, 6], [-4, -3.5, 1.5, 2]), "isotonic"),
    ],
)
def test_the_method_that_fits_is_chosen(truth, method):
    chosen = choose_calibration("auto", *drawn(truth), seed=1)
    assert chosen.calibration.method == method
    assert min(chosen.log_losses, key=chosen.log_losses.get) == method
    assert set(chosen.log_losses) == {"none", "platt", "beta", "isotonic"}


def test_scores_that_are_right_are_hardly_changed():
    log_odds, labels, weights = drawn(lambda z: z)
    chosen = choose_calibration("auto", log_odds, labels, weights, seed=1)
    assert np.abs(expit(chosen.log_odds) - expit(log_odds)).max() < 0.03


def test_isotonic_needs_more_than_a_few_frauds():
    rows = drawn(lambda z: 0.4 * z - 5, size=3000)
    assert rows[1].sum() < 200
    assert "isotonic" not in choose_calibration("auto", *rows, seed=1).log_losses


def test_a_row_is_scored_by_a_fit_without_it():
    log_odds, labels, weights = drawn(lambda z: z - 2, size=400)
    before = choose_calibration("platt", log_odds, labels, weights, seed=1)
    row = int(np.flatnonzero(labels == 1)[0])
    weights[row] = 50.0
    after = choose_calibration("platt", log_odds, labels, weights, seed=1)
    moved = np.abs(after.log_odds - before.log_odds)
    assert moved[row] == 0
    assert (moved > 1e-3).mean() > 0.7
    assert after.calibration == fit_calibration("platt", log_odds, labels, weights)


def test_a_method_by_name_is_used_whatever_it_costs():
    chosen = choose_calibration("none", *drawn(lambda z: 0.2 * z - 3), seed=1)
    assert chosen.calibration == IdentityCalibration()
    assert set(chosen.log_losses) == {"none"}


def test_rows_of_weight_zero_teach_nothing_and_are_scored():
    log_odds, labels, weights = drawn(lambda z: 0.5 * z - 1, size=2000)
    silent = np.concatenate([log_odds, log_odds + 3]), np.concatenate([labels, 1 - labels])
    padded = choose_calibration("auto", *silent, np.concatenate([weights, 0 * weights]), seed=1)
    alone = choose_calibration("auto", log_odds, labels, weights, seed=1)
    assert padded.calibration == alone.calibration
    assert np.isfinite(padded.log_odds).all()
    np.testing.assert_array_equal(padded.log_odds[:2000], alone.log_odds)


def test_one_fraud_is_too_few():
    with pytest.raises(TrainingError, match="there are 1 and 9"):
        choose_calibration("auto", np.arange(10.0), np.array([1] + [0] * 9), np.ones(10), seed=1)


def test_an_unknown_method_lists_those_that_exist():
    with pytest.raises(TrainingError, match=r"'spline' is unknown.*auto, none, platt, beta, isotonic"):
        choose_calibration("spline", np.arange(10.0), np.tile([0, 1], 5), np.ones(10), seed=1)
