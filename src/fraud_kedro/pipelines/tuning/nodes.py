"""The search for each algorithm's parameters, on training rows alone."""

from __future__ import annotations

import hashlib

import pandas as pd
import plotly.graph_objects as go  # type: ignore[import-untyped]
import polars as pl

from fraud_kedro.algorithms.registry import get_algorithm
from fraud_kedro.pipelines.data_processing.splits import SplitOptions, TemporalSplit
from fraud_kedro.pipelines.training.options import TrainingOptions
from fraud_kedro.pipelines.tuning.figures import history, importance, parallel_coordinates, slices
from fraud_kedro.pipelines.tuning.options import BestParameters, SearchBudget, TuningOptions
from fraud_kedro.pipelines.tuning.search_rows import SearchRows, draw_rows, make_folds
from fraud_kedro.pipelines.tuning.study import Search
from fraud_kedro.pipelines.tuning.trial import best_parameters, failure
from fraud_kedro.pipelines.tuning.trial_runs import log_figures
from fraud_kedro.schema import ResolvedSchema


def draw_search_rows(
    train: pl.DataFrame,
    resolved_schema: ResolvedSchema,
    split: SplitOptions,
    tuning: TuningOptions,
    seed: int,
) -> SearchRows:
    """Draw the rows and folds that the trials of every algorithm share."""
    data, times = draw_rows(train, resolved_schema, tuning.legitimate_rows, seed)
    gap_seconds = split.root.gap_seconds if isinstance(split.root, TemporalSplit) else 0.0
    folds = make_folds(
        data, times, kind=split.root.kind, folds=tuning.folds, seed=seed, gap_seconds=gap_seconds
    )
    digest = hashlib.sha256(data.features.tobytes() + data.labels.tobytes() + data.weights.tobytes())
    digest.update(f"{split.model_dump_json()} {tuning.folds}".encode())
    return SearchRows(folds, digest.hexdigest()[:16])


def tune(
    search_rows: SearchRows,
    tuning: TuningOptions,
    training: TrainingOptions,
    algorithm: str,
    budget: SearchBudget,
    seed: int,
) -> tuple[BestParameters, pd.DataFrame, go.Figure, go.Figure, go.Figure, go.Figure]:
    """Search one algorithm's parameters.

    Returns
    -------
    best_parameters : BestParameters
    trials : DataFrame
        A row per trial: number, state, value, seconds, why it failed, and its parameters.
    history, importance, slices, parallel_coordinates : Figure
    """
    search = Search(get_algorithm(algorithm), search_rows, tuning, training.thresholds, budget, seed)
    study = search.run()
    parameters, fold_values = best_parameters(study)
    trials = pd.DataFrame(
        [
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "seconds": trial.duration.total_seconds() if trial.duration else None,
                "failure": failure(trial),
                **trial.params,
            }
            for trial in study.trials
            if trial.state.is_finished()
        ]
    )
    best = BestParameters(
        algorithm=algorithm,
        parameters=parameters,
        objective=tuning.objective,
        value=study.best_value,
        fold_values=fold_values,
        trials=len(trials),
        seconds=float(trials["seconds"].sum()),
    )
    plots = {plot.__name__: plot(study) for plot in (history, importance, slices, parallel_coordinates)}
    log_figures(algorithm, plots)
    return best, trials, *plots.values()
