"""Fit, calibrate, judge and compare the candidates."""

from __future__ import annotations

import logging

import pandas as pd
import polars as pl

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.model import FraudModel
from fraud_kedro.algorithms.registry import get_algorithm
from fraud_kedro.champion.bundle import Metric, Thresholds
from fraud_kedro.evaluation.bootstrap import bootstrap_interval
from fraud_kedro.evaluation.calibration import fit_calibration
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
        The validation part with its calibrated `probability`: held-out scores,
        from which thresholds, the choice of a champion and the reference for
        drift are made.
    """
    logger.info("%s: fitting on the training part", best_parameters.algorithm)
    estimator = _fit(labelled_matrix(train, resolved_schema), best_parameters, training, seed)
    held_out = labelled_matrix(validation, resolved_schema)
    log_odds = get_algorithm(best_parameters.algorithm).log_odds(estimator, held_out.features)
    calibration = fit_calibration(training.calibration, log_odds, held_out.labels, held_out.weights)
    model = FraudModel(best_parameters.algorithm, estimator, calibration, resolved_schema)
    scores = model.probability(held_out.features)
    return model, validation.with_columns(pl.Series(SCORE, scores))


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
    schema, calibration = selection_model.schema, selection_model.calibration

    def fitted_on(*frames: pl.DataFrame) -> FraudModel:
        logger.info("%s: fitting on %s rows", best_parameters.algorithm, f"{sum(map(len, frames)):,}")
        data = labelled_matrix(pl.concat(frames), schema)
        return FraudModel(
            best_parameters.algorithm, _fit(data, best_parameters, training, seed), calibration, schema
        )

    if training.refit == "train":
        return selection_model, selection_model
    evaluation_model = fitted_on(train, validation)
    if training.refit == "train_validation":
        return evaluation_model, evaluation_model
    return evaluation_model, fitted_on(train, validation, test)


def evaluate(
    evaluation_model: FraudModel,
    validation_scores: pl.DataFrame,
    test: pl.DataFrame,
    thresholds: Thresholds,
    best_parameters: BestParameters,
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
        algorithm=best_parameters.algorithm,
        parameters=best_parameters.parameters,
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


def _scored(frame: pl.DataFrame, schema: ResolvedSchema) -> ScoredRows:
    data = labelled_matrix(frame, schema)
    return ScoredRows(data.labels, frame[SCORE].to_numpy(), data.weights, data.amounts)
