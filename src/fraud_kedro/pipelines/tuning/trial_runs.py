"""Trials as nested MLflow runs: the one place where tuning knows MLflow."""

from __future__ import annotations

import time
from collections.abc import Mapping

import mlflow
import plotly.graph_objects as go  # type: ignore[import-untyped]
from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.trial import FrozenTrial, TrialState

from fraud_kedro.pipelines.tuning.trial import failure, fold_values, was_interrupted


def log_trial(algorithm: str, trial: FrozenTrial) -> None:
    """Write a finished trial as a child of the active run; without one, do nothing.

    One call for the run and one for all its values: through the fluent API a
    trial costs several times as much.
    """
    parent = mlflow.active_run()
    if parent is None:
        return
    client = mlflow.MlflowClient()
    run = client.create_run(
        parent.info.experiment_id,
        start_time=int(trial.datetime_start.timestamp() * 1000) if trial.datetime_start else None,
        run_name=f"{algorithm} trial {trial.number}",
        tags={MLFLOW_PARENT_RUN_ID: parent.info.run_id},
    )
    now = int(time.time() * 1000)
    metrics = [Metric(f"fold_{n}", value, now, n) for n, value in enumerate(fold_values(trial), start=1)]
    if trial.value is not None:
        metrics.append(Metric("value", trial.value, now, 0))
    if trial.duration is not None:
        metrics.append(Metric("seconds", trial.duration.total_seconds(), now, 0))
    tags = [RunTag("algorithm", algorithm), RunTag("state", trial.state.name)]
    reason = failure(trial)
    if reason is not None:
        tags.append(RunTag("failure", reason))
    client.log_batch(
        run.info.run_id,
        metrics=metrics,
        params=[Param(name, str(value)) for name, value in trial.params.items()],
        tags=tags,
    )
    client.set_terminated(run.info.run_id, _status(trial))


def log_figures(algorithm: str, figures: Mapping[str, go.Figure]) -> None:
    """Add a study's plots to the active run, as pages that MLflow shows; without one, do nothing."""
    if mlflow.active_run() is None:
        return
    for name, figure in figures.items():
        mlflow.log_figure(figure, f"tuning/{algorithm}/{name}.html")


def _status(trial: FrozenTrial) -> str:
    if was_interrupted(trial):
        return "KILLED"
    return "FAILED" if trial.state == TrialState.FAIL else "FINISHED"
