"""One trial: a point of the search space, judged on every fold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from scipy.special import expit

from fraud_kedro.algorithms.base import Algorithm
from fraud_kedro.champion.tracking_store import first_line
from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.pipelines.tuning.objectives import Objective
from fraud_kedro.pipelines.tuning.search_rows import SearchRows

# A point of the space that a library refuses is a failed trial, not a failed study.
REFUSALS = (ValueError, ArithmeticError, TrainingError)

_PARAMETERS = "parameters"
_FOLD_VALUES = "fold_values"
_FAILURE = "failure"
_RUN = "run"


class OutOfTimeError(Exception):
    """The search's time is over: a trial that is not finished counts as interrupted."""


# What ends a trial, and leaves the search to go on or to end by its own rules.
CAUGHT = (*REFUSALS, OutOfTimeError)


class TrialOfFolds:
    """What Optuna calls for each trial.

    Parameters
    ----------
    algorithm : Algorithm
    rows : SearchRows
    objective : callable
    seed : int
        Of every fit.
    threads : int
        Of one fit.
    until : float, optional
        Moment of `time.time` after which no fold is begun once the study has a complete trial.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        rows: SearchRows,
        objective: Objective,
        *,
        seed: int,
        threads: int,
        until: float | None = None,
    ) -> None:
        self._algorithm, self._rows, self._objective = algorithm, rows, objective
        self._seed, self._threads, self._until = seed, threads, until

    def __call__(self, trial: optuna.Trial) -> float:
        """Mean of the objective over the folds; what a library refuses is noted with its reason."""
        trial.set_user_attr(_RUN, self._rows.run)
        try:
            return self._judge(trial)
        except REFUSALS as error:
            trial.set_user_attr(_FAILURE, first_line(error))
            raise

    def _judge(self, trial: optuna.Trial) -> float:
        parameters = self._algorithm.suggest(trial)
        values: list[float] = []
        fixed: list[dict[str, Any]] = []
        for step, fold in enumerate(self._rows.folds):
            if step and self._is_out_of_time(trial):
                raise OutOfTimeError
            estimator = self._algorithm.fit(
                fold.fit, parameters, seed=self._seed, n_jobs=self._threads, stopping=fold.judge
            )
            log_odds = self._algorithm.log_odds(estimator, fold.judge.features)
            judged = ScoredRows(fold.judge.labels, expit(log_odds), fold.judge.weights, fold.judge.amounts)
            values.append(self._objective(judged))
            if not np.isfinite(values[-1]):
                raise TrainingError(f"the objective is {values[-1]} on fold {step + 1}")
            fixed.append(self._algorithm.fixed_parameters(estimator, parameters))
            trial.set_user_attr(_FOLD_VALUES, values)
            # The first fold alone decides too much with so few frauds: what is compared is the mean.
            trial.report(float(np.mean(values)), step)
            if step + 1 < len(self._rows.folds) and trial.should_prune():
                raise optuna.TrialPruned
        trial.set_user_attr(_PARAMETERS, _typical(fixed))
        return float(np.mean(values))

    def _is_out_of_time(self, trial: optuna.Trial) -> bool:
        if self._until is None or time.time() < self._until:
            return False
        return bool(trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def search_space(algorithm: Algorithm) -> dict[str, BaseDistribution]:
    """Names and ranges an algorithm searches.

    Raises
    ------
    TrainingError
        If it suggests a parameter that its fit does not know.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    blank = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    algorithm.suggest(blank)
    unknown = sorted(set(blank.distributions) - set(algorithm.defaults))
    if unknown:
        raise TrainingError(
            f"The search space of {algorithm.name} has {', '.join(map(repr, unknown))}, which its fit does "
            f"not know. It knows: {', '.join(sorted(algorithm.defaults))}."
        )
    return blank.distributions


def best_parameters(study: optuna.Study) -> tuple[dict[str, Any], tuple[float, ...]]:
    """The best trial's parameters with its rounds fixed, and its value on each fold."""
    best = study.best_trial
    return parameters_of(best), tuple(fold_values(best))


def parameters_of(trial: FrozenTrial) -> dict[str, Any]:
    """A complete trial's parameters with its rounds fixed."""
    parameters: dict[str, Any] = trial.user_attrs[_PARAMETERS]
    return parameters


def fold_values(trial: FrozenTrial) -> Sequence[float]:
    """Its value on each fold that was reached."""
    values: Sequence[float] = trial.user_attrs.get(_FOLD_VALUES, ())
    return values


def failure(trial: FrozenTrial) -> str | None:
    """Why a trial failed; None if it did not, or was interrupted."""
    reason: str | None = trial.user_attrs.get(_FAILURE)
    return reason


def run_of(trial: FrozenTrial) -> str | None:
    """The run that tried it."""
    run: str | None = trial.user_attrs.get(_RUN)
    return run


def was_interrupted(trial: FrozenTrial) -> bool:
    """Whether it ended without a result of its own: its process was stopped."""
    return trial.state == TrialState.FAIL and failure(trial) is None


def is_spent(trial: FrozenTrial) -> bool:
    """Whether it counts against the budget."""
    return trial.state.is_finished() and not was_interrupted(trial)


def _typical(fixed: list[dict[str, Any]]) -> dict[str, Any]:
    """One set of parameters for all folds: the median where early stopping made them differ."""
    first = fixed[0]
    return {
        name: value
        if all(other[name] == value for other in fixed)
        else type(value)(np.median([other[name] for other in fixed]))
        for name, value in first.items()
    }
