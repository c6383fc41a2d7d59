from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from scipy.special import expit

from fraud_kedro.algorithms.model import EnsembleModel
from fraud_kedro.algorithms.registry import get_algorithm
from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.calibration_choice import choose_calibration
from fraud_kedro.evaluation.thresholds import choose_thresholds
from fraud_kedro.pipelines.model_input import labelled_matrix
from fraud_kedro.pipelines.training.nodes import fit_on_train, refit, select_thresholds
from fraud_kedro.pipelines.training.options import TrainingOptions
from fraud_kedro.pipelines.training.scored import SCORE, scored_rows

ALGORITHM = get_algorithm("logistic_regression")


def fitted_on(parts, best, *names):
    data = labelled_matrix(pl.concat(getattr(parts, name) for name in names), parts.schema)
    return ALGORITHM.fit(data, best.parameters, seed=0, n_jobs=1)


def coefficients(estimator):
    return estimator.named_steps["classifier"].coef_


def refitted(parts, candidate, mode, **changes):
    training = candidate.training.model_copy(update={"refit": mode})
    frames = {name: changes.get(name, getattr(parts, name)) for name in ("train", "validation", "test")}
    return refit(
        **frames,
        selection_model=candidate.selection_model,
        best_parameters=candidate.best,
        training=training,
        seed=0,
    )


def test_the_selection_model_is_fitted_on_the_training_part_alone(parts, candidate):
    expected = fitted_on(parts, candidate.best, "train")
    np.testing.assert_array_equal(coefficients(candidate.selection_model.estimator), coefficients(expected))


def test_it_is_calibrated_on_the_validation_part(parts, candidate):
    held_out = labelled_matrix(parts.validation, parts.schema)
    log_odds = ALGORITHM.log_odds(candidate.selection_model.estimator, held_out.features)
    chosen = choose_calibration(
        candidate.training.calibration, log_odds, held_out.labels, held_out.weights, 0
    )
    assert candidate.selection_model.calibration == chosen.calibration


def test_validation_scores_are_its_probabilities_beside_the_rows(parts, candidate):
    scores = candidate.validation_scores
    assert scores.drop(SCORE).equals(parts.validation)
    held_out = labelled_matrix(parts.validation, parts.schema)
    margin = candidate.selection_model.margin(held_out.features)
    chosen = choose_calibration(candidate.training.calibration, margin, held_out.labels, held_out.weights, 0)
    # Cross-fitted: near to, but not the same as the final calibration's.
    np.testing.assert_array_equal(scores[SCORE], expit(chosen.log_odds))
    final = candidate.selection_model.log_odds(held_out.features)
    assert 0 < np.abs(chosen.log_odds - final).max() < 2


def test_thresholds_are_chosen_on_validation_scores(parts, candidate):
    rows = scored_rows(candidate.validation_scores, parts.schema)
    amounts = parts.validation["Amount"].to_numpy()
    assert candidate.thresholds == choose_thresholds(candidate.training.thresholds, rows, amounts)
    assert 0 < candidate.thresholds.flag < candidate.thresholds.decline


def test_an_alert_budget_is_kept_on_validation_rows(parts, candidate):
    training = TrainingOptions.model_validate(
        {"thresholds": {"kind": "alert_budget", "flagged_share": 0.02, "declined_share": 0.005}}
    )
    chosen = select_thresholds(candidate.validation_scores, parts.schema, parts.record, training)
    legitimate = candidate.validation_scores.filter(pl.col("Class") == 0)[SCORE].to_numpy()
    for threshold, share in ((chosen.flag, 0.02), (chosen.decline, 0.005)):
        flagged = (legitimate.astype(np.float32) >= np.float32(threshold)).sum()
        assert flagged == int(share * len(legitimate))


def test_refit_on_train_keeps_the_selection_model(parts, candidate):
    twin, model = refitted(parts, candidate, "train")
    assert twin is model is candidate.selection_model


def test_refit_on_train_and_validation_is_one_fit_on_both(parts, candidate):
    twin, model = refitted(parts, candidate, "train_validation")
    assert twin is model
    expected = fitted_on(parts, candidate.best, "train", "validation")
    np.testing.assert_array_equal(coefficients(model.estimator), coefficients(expected))


def test_refit_on_all_serves_every_row_and_judges_by_a_twin_without_the_test(parts, candidate):
    twin, model = refitted(parts, candidate, "all")
    np.testing.assert_array_equal(
        coefficients(twin.estimator), coefficients(fitted_on(parts, candidate.best, "train", "validation"))
    )
    np.testing.assert_array_equal(
        coefficients(model.estimator),
        coefficients(fitted_on(parts, candidate.best, "train", "validation", "test")),
    )
    assert (coefficients(twin.estimator) != coefficients(model.estimator)).any()


@pytest.mark.parametrize("mode", ["train", "train_validation", "all"])
def test_the_evaluation_model_never_sees_the_test_part(parts, candidate, mode):
    flipped = parts.test.with_columns(Class=(1 - pl.col("Class")).cast(pl.Int8))
    twin, _ = refitted(parts, candidate, mode)
    other, _ = refitted(parts, candidate, mode, test=flipped)
    np.testing.assert_array_equal(coefficients(twin.estimator), coefficients(other.estimator))


@pytest.mark.parametrize("mode", ["train_validation", "all"])
def test_a_refitted_model_keeps_the_calibration_of_held_out_rows(parts, candidate, mode):
    for model in refitted(parts, candidate, mode):
        assert model.calibration == candidate.selection_model.calibration
        assert model.schema == parts.schema


def test_weights_take_part_in_fit_and_calibration(parts, candidate):
    schema = parts.schema.model_copy(update={"sample_weight": "weight"})
    heavy = [
        frame.with_columns(weight=pl.when(pl.col("Class") == 1).then(5.0).otherwise(1.0))
        for frame in (parts.train, parts.validation)
    ]
    model, scores = fit_on_train(heavy[0], heavy[1], schema, candidate.best, candidate.training, 0)
    assert (coefficients(model.estimator) != coefficients(candidate.selection_model.estimator)).any()
    # Five times as many frauds: that much higher is the mean probability.
    mean = np.average(scores[SCORE], weights=scores["weight"])
    assert mean == pytest.approx(np.average(scores["Class"], weights=scores["weight"]), rel=0.1)


def test_the_model_has_learnt_something(candidate):
    assert candidate.evaluation.test["roc_auc"].value > 0.85


def test_a_calibration_that_does_not_exist_is_told(parts, candidate):
    training = candidate.training.model_copy(update={"calibration": "spline"})
    with pytest.raises(TrainingError, match=r"'spline' is unknown.*auto, none, platt"):
        fit_on_train(parts.train, parts.validation, parts.schema, candidate.best, training, 0)


def test_alerts_a_day_are_kept_over_the_days_of_the_validation_part(parts, candidate):
    training = TrainingOptions.model_validate(
        {"thresholds": {"kind": "alerts_per_day", "flagged_per_day": 60, "declined_per_day": 20}}
    )
    chosen = select_thresholds(candidate.validation_scores, parts.schema, parts.record, training)
    seconds, scores = (candidate.validation_scores[name].to_numpy() for name in ("Time", SCORE))
    days = (seconds.max() - seconds.min()) / 86_400
    for threshold, limit in ((chosen.flag, 60), (chosen.decline, 20)):
        flagged = (scores.astype(np.float32) >= np.float32(threshold)).sum()
        assert flagged <= limit * days < flagged + 5
    # Rows that were drawn at random share their days with others.
    drawn = parts.record.model_copy(update={"split": "stratified"})
    assert select_thresholds(candidate.validation_scores, parts.schema, drawn, training).flag > chosen.flag


@pytest.mark.parametrize(
    "wrong", [{"refit": "test"}, {"bootstrap_repetitions": 1}, {"n_jobs": 0}, {"thresholds": {"kind": "x"}}]
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        TrainingOptions.model_validate({"thresholds": {"kind": "expected_cost"}, **wrong})


@pytest.mark.parametrize("mode", ["train", "train_validation", "all"])
def test_a_model_knows_the_rows_of_its_last_fit(parts, candidate, mode):
    assert {each.refit for each in refitted(parts, candidate, mode)} == {mode}


def test_an_ensemble_has_seen_what_one_of_its_members_has_seen(candidate):
    model = candidate.model
    members = (replace(model, refit="train"), replace(model, refit="all"))
    assert EnsembleModel(members, model.calibration).refit == "all"
