"""Judge each candidate on the untouched test rows, and all of them side by side."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import polars as pl

from fraud_kedro.algorithms.model import EnsembleModel, FraudModel
from fraud_kedro.champion.bundle import DataRecord, Metric, Thresholds
from fraud_kedro.evaluation.bootstrap import bootstrap, interval
from fraud_kedro.evaluation.measures import (
    Measure,
    alert_precision,
    costs_of_decisions,
    decisions,
    left_out,
    measure,
    probabilities,
    ranking,
)
from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.evaluation.slices import slices
from fraud_kedro.evaluation.thresholds import covered_days
from fraud_kedro.pipelines.model_input import labelled_matrix
from fraud_kedro.pipelines.training.options import (
    NOISE,
    Choice,
    Comparison,
    Difference,
    Evaluation,
    JudgedRows,
    TrainingOptions,
)
from fraud_kedro.pipelines.training.scored import scored_rows, scored_table, share_of_days

# Figures of which less is better.
SMALLER_IS_BETTER = frozenset(
    {"expected_cost", "brier_score", "log_loss", "expected_calibration_error", "false_positive_rate"}
)
# Figures whose differences are of use to a choice.
COMPARED = (
    "average_precision",
    "roc_auc",
    "recall_at_1_percent_fpr",
    "recall_at_0.1_percent_fpr",
    "savings",
    "log_loss",
)


def evaluate(
    evaluation_model: FraudModel | EnsembleModel,
    validation_scores: pl.DataFrame,
    test: pl.DataFrame,
    thresholds: Thresholds,
    data_record: DataRecord,
    training: TrainingOptions,
    seed: int,
) -> tuple[Evaluation, pl.DataFrame, pl.DataFrame]:
    """Judge a candidate on the untouched test rows.

    Returns
    -------
    evaluation : Evaluation
    test_scores : DataFrame
        The test part with its `probability`, without features.
    bootstrap : DataFrame
        A row per resample, a column per figure; the resamples are the same for every
        candidate, so that figures can be subtracted.
    """
    schema = evaluation_model.schema
    features = labelled_matrix(test, schema).features
    test_scores = scored_table(test, schema, evaluation_model.probability(features))
    rows, held_out = scored_rows(test_scores, schema), scored_rows(validation_scores, schema)
    share = share_of_days(data_record, len(rows.labels))
    measures = _measures(rows, thresholds, training, share)
    drawn = bootstrap(rows, measures, repetitions=training.bootstrap_repetitions, seed=seed)
    validation_share = share_of_days(data_record, len(held_out.labels))
    of_validation = measure(held_out, _measures(held_out, thresholds, training, validation_share))
    evaluation = Evaluation(
        algorithm=evaluation_model.algorithm,
        parameters=dict(evaluation_model.parameters),
        thresholds=thresholds,
        validation={name: Metric(value=value) for name, value in of_validation.items()},
        test={name: _with_interval(value, drawn[name]) for name, value in measure(rows, measures).items()},
        calibration=evaluation_model.calibration.method,
        refit=evaluation_model.refit,
        costs=training.costs,
        rows=JudgedRows(
            rows=len(rows.labels),
            frauds=int(rows.labels.sum()),
            transactions=float(rows.weights.sum()),
            weighted_frauds=float(rows.weights[rows.labels == 1].sum()),
            days=covered_days(test_scores[schema.time].to_numpy(), share),
            weighted=schema.sample_weight is not None,
        ),
        decisions=_decision_counts(rows, thresholds),
        left_out=left_out(rows, measures),
        slices=slices(
            rows, thresholds, training.amount_bands, repetitions=training.bootstrap_repetitions, seed=seed
        ),
    )
    return evaluation, test_scores, pl.DataFrame(drawn)


def compare(
    choice: Choice, *judged: Evaluation | pl.DataFrame
) -> tuple[Comparison, pd.DataFrame, pd.DataFrame]:
    """Put the candidates side by side: the champion-elect, then the others as they stand on validation rows.

    Parameters
    ----------
    choice : Choice
    *judged : Evaluation and DataFrame, in turn
        Each candidate's evaluation and the figures of its resamples.

    Returns
    -------
    comparison : Comparison
    comparison_table : DataFrame
        A row per candidate, for people.
    differences_table : DataFrame
        A row per pair of candidates and figure: the difference on test rows, and
        whether it is noise.
    """
    evaluations = [item for item in judged if isinstance(item, Evaluation)]
    draws = [item for item in judged if isinstance(item, pl.DataFrame)]
    drawn = {each.algorithm: frame for each, frame in zip(evaluations, draws, strict=True)}
    place = {standing.algorithm: number for number, standing in enumerate(choice.standings)}
    place[choice.champion] = -1
    ranked = tuple(sorted(evaluations, key=lambda each: place[each.algorithm]))
    differences = tuple(
        _difference(figure, first, second, drawn[first.algorithm], drawn[second.algorithm])
        for first, second in combinations(ranked, 2)
        for figure in COMPARED
        if figure in first.test and figure in second.test
    )
    comparison = Comparison(
        objective=choice.objective,
        champion=choice.champion,
        reason=choice.reason,
        candidates=ranked,
        differences=differences,
    )
    table = pd.DataFrame([_table_row(candidate) for candidate in ranked])
    return comparison, table, pd.DataFrame([each.model_dump() for each in differences])


def _measures(
    rows: ScoredRows, thresholds: Thresholds, training: TrainingOptions, share: float
) -> tuple[Measure, ...]:
    return (
        ranking(rows),
        decisions(rows, thresholds),
        alert_precision(rows, training.alerts_per_day, share),
        costs_of_decisions(rows, thresholds, training.costs),
        probabilities(rows),
    )


def _with_interval(value: float, drawn: np.ndarray) -> Metric:
    low, high = interval(drawn) or (None, None)
    return Metric(value=value, low=low, high=high)


def _decision_counts(rows: ScoredRows, thresholds: Thresholds) -> dict[str, dict[str, float]]:
    scores = rows.scores.astype(np.float32)
    decline = scores >= np.float32(thresholds.decline)
    review = (scores >= np.float32(thresholds.flag)) & ~decline
    return {
        name: {
            kind: float(rows.weights[decided & (rows.labels == label)].sum())
            for kind, label in (("legitimate", 0), ("fraud", 1))
        }
        for name, decided in (("approve", ~review & ~decline), ("review", review), ("decline", decline))
    }


def _difference(
    figure: str, first: Evaluation, second: Evaluation, of_first: pl.DataFrame, of_second: pl.DataFrame
) -> Difference:
    value = first.test[figure].value - second.test[figure].value
    low, high = interval((of_first[figure] - of_second[figure]).to_numpy()) or (None, None)
    verdict = NOISE
    if low is not None and high is not None and (low > 0 or high < 0):
        larger, smaller = (first, second) if low > 0 else (second, first)
        verdict = smaller.algorithm if figure in SMALLER_IS_BETTER else larger.algorithm
    return Difference(
        figure=figure,
        first=first.algorithm,
        second=second.algorithm,
        value=value,
        low=low,
        high=high,
        verdict=verdict,
    )


def _table_row(candidate: Evaluation) -> dict[str, object]:
    row: dict[str, object] = {"algorithm": candidate.algorithm}
    for name, metric in candidate.validation.items():
        row[f"validation_{name}"] = metric.value
    for name, metric in candidate.test.items():
        row |= {
            f"test_{name}": metric.value,
            f"test_{name}_low": metric.low,
            f"test_{name}_high": metric.high,
        }
    return row
