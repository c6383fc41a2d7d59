"""Trials as nested MLflow runs: the one place where tuning knows MLflow."""

from __future__ import annotations

import time
from collections.abc import Sequence

import mlflow
import optuna
from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

_STATUS = {
    optuna.trial.TrialState.COMPLETE: "FINISHED",
    optuna.trial.TrialState.PRUNED: "FINISHED",
    optuna.trial.TrialState.FAIL: "FAILED",
}


def log_trial(study: optuna.Study, trial: optuna.trial.FrozenTrial, fold_values: Sequence[float]) -> None:
    """Write a finished trial as a child of the active run; without one, do nothing.

    One call for the run and one for all its values: through the fluent API a
    trial costs several times as much.
    """
    parent = mlflow.active_run()
    if parent is None:
        return
    client = mlflow.MlflowClient()
    algorithm = study.user_attrs["algorithm"]
    run = client.create_run(
        parent.info.experiment_id,
        start_time=int(trial.datetime_start.timestamp() * 1000) if trial.datetime_start else None,
        run_name=f"{algorithm} trial {trial.number}",
        tags={MLFLOW_PARENT_RUN_ID: parent.info.run_id},
    )
    now = int(time.time() * 1000)
    metrics = [Metric(f"fold_{n}", value, now, n) for n, value in enumerate(fold_values, start=1)]
    if trial.value is not None:
        metrics.append(Metric("value", trial.value, now, 0))
    if trial.duration is not None:
        metrics.append(Metric("seconds", trial.duration.total_seconds(), now, 0))
    client.log_batch(
        run.info.run_id,
        metrics=metrics,
        params=[Param(name, str(value)) for name, value in trial.params.items()],
        tags=[RunTag("algorithm", algorithm), RunTag("state", trial.state.name)],
    )
    client.set_terminated(run.info.run_id, _STATUS.get(trial.state, "FINISHED"))
