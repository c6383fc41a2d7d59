"""Which features a candidate's scores come from, on a sample of the test rows."""

from __future__ import annotations

import logging

import polars as pl

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.model import EnsembleModel, FraudModel
from fraud_kedro.evaluation.explanations import explain as explain_scores
from fraud_kedro.evaluation.importance import class_sample, permutation_importance
from fraud_kedro.pipelines.model_input import labelled_matrix
from fraud_kedro.pipelines.training.options import TrainingOptions

logger = logging.getLogger(__name__)

BASE, LABEL, LOG_ODDS, ROW, WEIGHT = "base_value", "label", "log_odds", "row", "weight"
# Before the names of features, which may be any of the above.
VALUE, CONTRIBUTION = "value_", "contribution_"


def explain(
    evaluation_model: FraudModel | EnsembleModel, test: pl.DataFrame, training: TrainingOptions, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Explain a sample of the test rows, which the model has not seen.

    Returns
    -------
    contributions : DataFrame
        A row per transaction: its number in the test part, label, weight, for each
        feature its `value_` as the model reads it and its `contribution_`; `base_value`
        plus all of them is `log_odds`, the calibrated margin.
    permutation_importance : DataFrame
        A row per feature: the fall of average precision, mean and each repeat.
    """
    schema, options = evaluation_model.schema, training.explanation
    logger.info("%s: explaining %d test rows", evaluation_model.algorithm, options.shap_rows)
    data = labelled_matrix(test, schema)
    chosen, weights = class_sample(data.labels, data.weights, options.shap_rows, seed)
    explanation = explain_scores(evaluation_model, data.features[chosen])
    contributions = pl.DataFrame(
        {
            ROW: chosen,
            LABEL: data.labels[chosen],
            WEIGHT: weights,
            BASE: [explanation.base] * len(chosen),
            LOG_ODDS: explanation.scores,
            **{f"{VALUE}{name}": data.features[chosen, i] for i, name in enumerate(schema.features)},
            **{
                f"{CONTRIBUTION}{name}": explanation.contributions[:, i]
                for i, name in enumerate(schema.features)
            },
        }
    )
    chosen, weights = class_sample(data.labels, data.weights, options.permutation_rows, seed)
    sample = LabelledMatrix(data.features[chosen], data.labels[chosen], weights)
    falls = permutation_importance(
        evaluation_model.log_odds, sample, repeats=options.permutation_repeats, seed=seed
    )
    importance = pl.DataFrame(
        {
            "feature": schema.features,
            "fall": falls.mean(axis=0),
            **{f"repeat_{number}": fall for number, fall in enumerate(falls, start=1)},
        }
    )
    return contributions, importance
