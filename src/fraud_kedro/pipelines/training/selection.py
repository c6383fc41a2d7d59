"""Choose the champion-elect on validation rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from fraud_kedro.algorithms.registry import CANDIDATE_NAMES, ENSEMBLE
from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.measures import costs_of_decisions, measure, ranking
from fraud_kedro.evaluation.selection import Lead, paired_figures
from fraud_kedro.pipelines.training.options import Choice, Standing, TrainingOptions, figure_of
from fraud_kedro.pipelines.training.scored import scored_rows
from fraud_kedro.pipelines.tuning.options import TuningOptions
from fraud_kedro.schema import ResolvedSchema


def choose_champion(
    tuning: TuningOptions,
    training: TrainingOptions,
    resolved_schema: ResolvedSchema,
    seed: int,
    *validated: Any,
) -> Choice:
    """Take the best on validation rows, or the ensemble if it is as good within a standard error.

    A mean hangs less on the luck of one search than its members do.

    Parameters
    ----------
    tuning : TuningOptions
    training : TrainingOptions
    resolved_schema : ResolvedSchema
    seed : int
    *validated : DataFrame and Thresholds, in turn
        Validation scores and thresholds of the candidates, in the order of `CANDIDATE_NAMES`.
    """
    figure = figure_of(tuning.objective)
    candidates = {}
    for name, scores, thresholds in zip(CANDIDATE_NAMES, validated[::2], validated[1::2], strict=True):
        rows = scored_rows(scores, resolved_schema)
        measured = (
            costs_of_decisions(rows, thresholds, training.costs) if figure == "savings" else ranking(rows)
        )
        if figure not in measure(rows, [measured]):
            raise TrainingError(
                f"The objective {tuning.objective} is not defined on the validation part, whose frauds have "
                "no amount. Choose another tuning.objective, or name the column of amounts (schema.amount)."
            )
        candidates[name] = (rows, measured)
    figures = paired_figures(candidates, figure, repetitions=training.bootstrap_repetitions, seed=seed)
    order = sorted(candidates, key=lambda name: (-figures.values[name], name))
    behind = {name: figures.lead(order[0], name) for name in order}
    champion = order[0] if behind[ENSEMBLE].is_clear else ENSEMBLE
    return Choice(
        objective=tuning.objective,
        champion=champion,
        reason=_reason(figure, champion, order[0], behind[ENSEMBLE]),
        standings=tuple(
            Standing(
                algorithm=name,
                value=figures.values[name],
                behind=behind[name].value,
                standard_error=behind[name].standard_error
                if np.isfinite(behind[name].standard_error)
                else None,
            )
            for name in order
        ),
    )


def _reason(figure: str, champion: str, best: str, lead: Lead) -> str:
    if champion != ENSEMBLE:
        return (
            f"{champion} has the best {figure} on validation rows, {lead.value:.4f} ahead of the ensemble: "
            f"more than one standard error ({lead.standard_error:.4f})"
        )
    if best == ENSEMBLE:
        return f"the ensemble has the best {figure} on validation rows"
    return (
        f"the ensemble is as good as {best}: behind by {lead.value:.4f} of {figure} on validation rows, "
        f"within one standard error ({lead.standard_error:.4f})"
    )
