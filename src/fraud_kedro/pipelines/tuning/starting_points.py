"""What a study tries first: points that are known to be good, and points that were interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from fraud_kedro.algorithms.base import Algorithm
from fraud_kedro.pipelines.tuning.trial import was_interrupted

Space = Mapping[str, BaseDistribution]

ALGORITHM = "algorithm"
_RETRY_OF = "retry_of"


def enqueue_known(study: optuna.Study, algorithm: Algorithm, space: Space, *, warm_start: bool) -> str | None:
    """Enqueue the defaults and, if asked for, the best point of the latest earlier study.

    A short search must not end below either by chance.

    Returns
    -------
    str or None
        The study the warm start is from.
    """
    known = {name: algorithm.defaults[name] for name in space if name in algorithm.defaults}
    study.enqueue_trial(known, skip_if_exists=True)
    if not warm_start:
        return None
    for earlier in _earlier_studies(study, algorithm.name):
        fitting = _fitting(earlier.best_params, space)
        if fitting:
            study.enqueue_trial({**known, **fitting}, skip_if_exists=True)
            return earlier.study_name
    return None


def enqueue_interrupted(study: optuna.Study) -> None:
    """Enqueue once more, and only once, what was running when a process was stopped.

    A point that brings its process down must not do so at every run.
    """
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get(_RETRY_OF) for trial in trials}
    for trial in trials:
        first_time = _RETRY_OF not in trial.user_attrs and trial.number not in retried
        if was_interrupted(trial) and trial.params and first_time:
            study.enqueue_trial(trial.params, user_attrs={_RETRY_OF: trial.number})


def _earlier_studies(study: optuna.Study, algorithm: str) -> list[optuna.Study]:
    """Other studies of the algorithm in the same storage with a result, the latest first."""
    storage = study._storage
    summaries = [
        summary
        for summary in optuna.get_all_study_summaries(storage)
        if summary.user_attrs.get(ALGORITHM) == algorithm
        and summary.study_name != study.study_name
        and summary.datetime_start is not None
    ]
    summaries.sort(key=lambda summary: (summary.datetime_start, summary.study_name), reverse=True)
    studies = (optuna.load_study(study_name=s.study_name, storage=storage) for s in summaries)
    return [s for s in studies if s.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]


def _fitting(parameters: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Those of the parameters that the space contains."""
    return {
        name: value for name, value in parameters.items() if name in space and _contains(space[name], value)
    }


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    # Of another kind: a name where the space has numbers, or a choice it does not know.
    except (ValueError, TypeError):
        return False
