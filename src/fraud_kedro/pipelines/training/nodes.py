"""Fit and calibrate the candidates, and choose their thresholds."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import logit

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.model import EnsembleModel, FraudModel, bounded_probability
from fraud_kedro.algorithms.registry import ENSEMBLE, get_algorithm
from fraud_kedro.champion.bundle import DataRecord, Thresholds
from fraud_kedro.evaluation.calibration_choice import ChosenCalibration, choose_calibration
from fraud_kedro.evaluation.selection import harmful_members
from fraud_kedro.evaluation.thresholds import choose_thresholds, covered_days
from fraud_kedro.pipelines.model_input import labelled_matrix
from fraud_kedro.pipelines.training.options import TrainingOptions
from fraud_kedro.pipelines.training.scored import SCORE, scored_rows, share_of_days
from fraud_kedro.pipelines.tuning.options import BestParameters, TuningOptions
from fraud_kedro.schema import ResolvedSchema

logger = logging.getLogger(__name__)


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
    validation_scores: pl.DataFrame,
    resolved_schema: ResolvedSchema,
    data_record: DataRecord,
    training: TrainingOptions,
) -> Thresholds:
    """Choose where to flag and where to decline on the held-out validation scores."""
    rows = scored_rows(validation_scores, resolved_schema)
    seconds = validation_scores[resolved_schema.time].to_numpy()
    days = covered_days(seconds, share_of_days(data_record, len(rows.labels)))
    return choose_thresholds(
        training.thresholds, rows, validation_scores[resolved_schema.amount].to_numpy(), days
    )


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
        return replace(selection_model, estimator=estimator, refit=training.refit)

    if training.refit == "train":
        return selection_model, selection_model
    evaluation_model = fitted_on(train, validation)
    if training.refit == "train_validation":
        return evaluation_model, evaluation_model
    return evaluation_model, fitted_on(train, validation, test)


def combine(
    tuning: TuningOptions,
    training: TrainingOptions,
    resolved_schema: ResolvedSchema,
    seed: int,
    *candidates: FraudModel | pl.DataFrame,
) -> tuple[EnsembleModel, EnsembleModel, pl.DataFrame]:
    """Make the ensemble of the candidates, without those it is clearly better off without.

    Parameters
    ----------
    tuning : TuningOptions
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
    log_odds = {
        model.algorithm: logit(frame[SCORE].to_numpy())
        for model, frame in zip(models[::2], scores, strict=True)
    }
    # A cost needs thresholds, which are chosen later; the ranking decides what they can be worth.
    figure = "roc_auc" if tuning.objective == "roc_auc" else "average_precision"
    harmful = harmful_members(
        log_odds,
        held_out.labels,
        held_out.weights,
        figure,
        repetitions=training.bootstrap_repetitions,
        seed=seed,
    )
    for name, lead in harmful.items():
        logger.info("%s: without %s, whose absence adds %.4f of %s", ENSEMBLE, name, lead.value, figure)
    mean = np.mean([each for name, each in log_odds.items() if name not in harmful], axis=0)
    chosen = _calibrate(ENSEMBLE, mean, held_out, training, seed)
    evaluation_model, model = (
        EnsembleModel(
            tuple(member for member in models[first::2] if member.algorithm not in harmful),
            chosen.calibration,
        )
        for first in (0, 1)
    )
    return evaluation_model, model, _with_scores(scores[0], chosen.log_odds)


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
