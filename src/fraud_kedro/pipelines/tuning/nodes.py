"""The search for each algorithm's parameters, on training rows alone."""

from __future__ import annotations

import hashlib

import pandas as pd
import polars as pl

from fraud_kedro.algorithms.registry import get_algorithm
from fraud_kedro.pipelines.data_processing.splits import SplitOptions, TemporalSplit
from fraud_kedro.pipelines.tuning.options import BestParameters, SearchBudget, TuningOptions
from fraud_kedro.pipelines.tuning.search_rows import SearchRows, draw_rows, make_folds
from fraud_kedro.pipelines.tuning.study import Search, best_parameters
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
    search_rows: SearchRows, tuning: TuningOptions, algorithm: str, budget: SearchBudget, seed: int
) -> tuple[BestParameters, pd.DataFrame]:
    """Search one algorithm's parameters.

    Returns
    -------
    best_parameters : BestParameters
    trials : DataFrame
        A row per trial: number, state, value, seconds and its parameters.
    """
    study = Search(get_algorithm(algorithm), search_rows, tuning, budget, seed).run()
    parameters, fold_values = best_parameters(study)
    trials = pd.DataFrame(
        [
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "seconds": trial.duration.total_seconds() if trial.duration else None,
                **trial.params,
            }
            for trial in study.trials
        ]
    )
    best = BestParameters(
        algorithm=algorithm,
        parameters=parameters,
        objective=tuning.objective,
        value=study.best_value,
        fold_values=fold_values,
        trials=len(study.trials),
        seconds=float(trials["seconds"].sum()),
    )
    return best, trials
