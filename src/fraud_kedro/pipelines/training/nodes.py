"""Fit, calibrate, judge and compare the candidates."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from scipy.special import logit

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.model import EnsembleModel, FraudModel, ScoringModel, bounded_probability
from fraud_kedro.algorithms.registry import ENSEMBLE, get_algorithm
from fraud_kedro.champion.bundle import Metric, Thresholds
from fraud_kedro.evaluation.bootstrap import bootstrap_interval
from fraud_kedro.evaluation.calibration_choice import ChosenCalibration, choose_calibration
from fraud_kedro.evaluation.metrics import ScoredRows, average_precision, figures, roc_auc
from fraud_kedro.evaluation.thresholds import choose_thresholds
from fraud_kedro.pipelines.model_input import labelled_matrix
from fraud_kedro.pipelines.training.options import Comparison, Evaluation, TrainingOptions
from fraud_kedro.pipelines.tuning.options import BestParameters, TuningOptions
from fraud_kedro.schema import ResolvedSchema

logger = logging.getLogger(__name__)

SCORE = "probability"

# Figures with an interval; the others follow from a threshold or are cheap to see.
_WITH_INTERVAL = {"average_precision": average_precision, "roc_auc": roc_auc}


def fit_on_train(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    resolved_schema: ResolvedSchema,
    best_parameters: BestParameters,
    training: TrainingOptions,
    seed: int,
) -> tuple[FraudModel, pl.DataFrame]:
    """Fit on the training part and calibrate on the validation part, which it has not seen.

    Returns
    -------
    selection_model : FraudModel
    validation_scores : DataFrame
        The validation part with its calibrated `probability`: of a model that has
        not seen the rows, calibrated by a fit without the row. Thresholds, the
        choice of a champion and the reference for drift are made from them.
    """
    name = best_parameters.algorithm
    logger.info("%s: fitting on the training part", name)
    estimator = _fit(labelled_matrix(train, resolved_schema), best_parameters, training, seed)
    held_out = labelled_matrix(validation, resolved_schema)
    log_odds = get_algorithm(name).log_odds(estimator, held_out.features)
    chosen = _calibrate(name, log_odds, held_out, training, seed)
    model = FraudModel(name, estimator, chosen.calibration, resolved_schema, best_parameters.parameters)
    return model, _with_scores(validation, chosen.log_odds)


def select_thresholds(
    validation_scores: pl.DataFrame, resolved_schema: ResolvedSchema, training: TrainingOptions
) -> Thresholds:
    """Choose where to flag and where to decline on the held-out validation scores."""
    rows = _scored(validation_scores, resolved_schema)
    return choose_thresholds(training.thresholds, rows, validation_scores[resolved_schema.amount].to_numpy())


def refit(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    test: pl.DataFrame,
    selection_model: FraudModel,
    best_parameters: BestParameters,
    training: TrainingOptions,
    seed: int,
) -> tuple[FraudModel, FraudModel]:
    """Fit the recipe for its test figures, and on the rows it is to be served from.

    The calibration stays that of the held-out validation rows.

    Returns
    -------
    evaluation_model : FraudModel
        Has not seen the test part.
    model : FraudModel
        The one to serve; the same unless ``training.refit`` is ``all``.
    """
    schema = selection_model.schema

    def fitted_on(*frames: pl.DataFrame) -> FraudModel:
        logger.info("%s: fitting on %s rows", best_parameters.algorithm, f"{sum(map(len, frames)):,}")
        estimator = _fit(labelled_matrix(pl.concat(frames), schema), best_parameters, training, seed)
        return replace(selection_model, estimator=estimator)

    if training.refit == "train":
        return selection_model, selection_model
    evaluation_model = fitted_on(train, validation)
    if training.refit == "train_validation":
        return evaluation_model, evaluation_model
    return evaluation_model, fitted_on(train, validation, test)


def combine(
    training: TrainingOptions,
    resolved_schema: ResolvedSchema,
    seed: int,
    *candidates: FraudModel | pl.DataFrame,
) -> tuple[EnsembleModel, EnsembleModel, pl.DataFrame]:
    """Make the ensemble of the candidates.

    Parameters
    ----------
    training : TrainingOptions
    resolved_schema : ResolvedSchema
    seed : int
    *candidates : FraudModel, FraudModel and DataFrame, in turn
        Each member's evaluation model, model and validation scores.

    Returns
    -------
    evaluation_model, model : EnsembleModel
    validation_scores : DataFrame
        As `fit_on_train` makes them.
    """
    models = [item for item in candidates if isinstance(item, FraudModel)]
    scores = [item for item in candidates if isinstance(item, pl.DataFrame)]
    held_out = labelled_matrix(scores[0], resolved_schema)
    mean = np.mean([logit(frame[SCORE].to_numpy()) for frame in scores], axis=0)
    chosen = _calibrate(ENSEMBLE, mean, held_out, training, seed)
    evaluation_model, model = (EnsembleModel(tuple(models[first::2]), chosen.calibration) for first in (0, 1))
    return evaluation_model, model, _with_scores(scores[0], chosen.log_odds)


def evaluate(
    evaluation_model: ScoringModel,
    validation_scores: pl.DataFrame,
    test: pl.DataFrame,
    thresholds: Thresholds,
    training: TrainingOptions,
    seed: int,
) -> Evaluation:
    """Judge a candidate on the untouched test rows."""
    schema = evaluation_model.schema
    data = labelled_matrix(test, schema)
    rows = ScoredRows(data.labels, evaluation_model.probability(data.features), data.weights, data.amounts)
    test_figures = {name: Metric(value=value) for name, value in figures(rows, thresholds.flag).items()}
    for name, figure in _WITH_INTERVAL.items():
        low, high = bootstrap_interval(figure, rows, repetitions=training.bootstrap_repetitions, seed=seed)
        test_figures[name] = Metric(value=test_figures[name].value, low=low, high=high)
    held_out = figures(_scored(validation_scores, schema), thresholds.flag)
    return Evaluation(
        algorithm=evaluation_model.algorithm,
        parameters=dict(evaluation_model.parameters),
        thresholds=thresholds,
        validation={name: Metric(value=value) for name, value in held_out.items()},
        test=test_figures,
    )


def compare(tuning: TuningOptions, *evaluations: Evaluation) -> tuple[Comparison, pd.DataFrame]:
    """Rank the candidates by their objective on validation rows; the first is the champion-elect.

    Returns
    -------
    comparison : Comparison
    comparison_table : DataFrame
        A row per candidate, for people.
    """
    objective = tuning.objective
    ranked = tuple(sorted(evaluations, key=lambda e: (-e.validation[objective].value, e.algorithm)))
    shown = ("average_precision", "roc_auc", "precision", "recall", "f1")
    table = pd.DataFrame(
        [
            {
                "algorithm": candidate.algorithm,
                **{f"validation_{name}": candidate.validation[name].value for name in shown},
                **{f"test_{name}": candidate.test[name].value for name in shown},
                "test_average_precision_low": candidate.test["average_precision"].low,
                "test_average_precision_high": candidate.test["average_precision"].high,
            }
            for candidate in ranked
        ]
    )
    return Comparison(objective=objective, champion=ranked[0].algorithm, candidates=ranked), table


def _fit(data: LabelledMatrix, best: BestParameters, training: TrainingOptions, seed: int) -> object:
    return get_algorithm(best.algorithm).fit(data, best.parameters, seed=seed, n_jobs=training.n_jobs)


def _calibrate(
    name: str, log_odds: NDArray[np.float64], held_out: LabelledMatrix, training: TrainingOptions, seed: int
) -> ChosenCalibration:
    chosen = choose_calibration(training.calibration, log_odds, held_out.labels, held_out.weights, seed)
    losses = ", ".join(f"{method} {loss:.5f}" for method, loss in chosen.log_losses.items())
    logger.info("%s: calibration %s (log loss: %s)", name, chosen.calibration.method, losses)
    return chosen


def _with_scores(frame: pl.DataFrame, log_odds: NDArray[np.float64]) -> pl.DataFrame:
    return frame.with_columns(pl.Series(SCORE, bounded_probability(log_odds)))


def _scored(frame: pl.DataFrame, schema: ResolvedSchema) -> ScoredRows:
    data = labelled_matrix(frame, schema)
    return ScoredRows(data.labels, frame[SCORE].to_numpy(), data.weights, data.amounts)
