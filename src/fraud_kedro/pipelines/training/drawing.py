"""What a candidate ranks, says, costs and looks at, as figures for kedro-viz and MLflow."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from fraud_kedro.evaluation.plots.decisions import decision_figure
from fraud_kedro.evaluation.plots.explanation import explanation_figure
from fraud_kedro.evaluation.plots.probabilities import probability_figure
from fraud_kedro.evaluation.plots.ranking import ranking_figure
from fraud_kedro.pipelines.training.explaining import CONTRIBUTION, VALUE, WEIGHT
from fraud_kedro.pipelines.training.options import Evaluation
from fraud_kedro.pipelines.training.scored import scored_rows
from fraud_kedro.schema import ResolvedSchema


def draw(
    evaluation: Evaluation,
    validation_scores: pl.DataFrame,
    test_scores: pl.DataFrame,
    contributions: pl.DataFrame,
    permutation_importance: pl.DataFrame,
    resolved_schema: ResolvedSchema,
) -> tuple[Figure, Figure, Figure, Figure]:
    """Draw one candidate.

    Returns
    -------
    plot_ranking : Figure
        ROC, precision-recall, lift.
    plot_probability : Figure
        Calibration, scores by class.
    plot_decision : Figure
        Cost by threshold, confusion matrix.
    plot_explanation : Figure
        Permutation and SHAP importance, SHAP summary.
    """
    name, features = evaluation.algorithm, list(resolved_schema.features)
    held_out = scored_rows(validation_scores, resolved_schema)
    test = scored_rows(test_scores, resolved_schema)
    falls = permutation_importance.select(pl.col("^repeat_.*$")).to_numpy().T
    return (
        ranking_figure(f"{name} on test rows", test, evaluation.thresholds.flag),
        probability_figure(f"{name} on test rows", test),
        decision_figure(name, held_out, test, evaluation.thresholds, evaluation.costs, evaluation.decisions),
        explanation_figure(
            f"{name} on a sample of test rows",
            features,
            falls,
            contributions.select(f"{VALUE}{feature}" for feature in features).to_numpy().astype(np.float64),
            contributions.select(f"{CONTRIBUTION}{feature}" for feature in features).to_numpy(),
            contributions[WEIGHT].to_numpy(),
        ),
    )
