"""One Optuna study of one algorithm."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from scipy.special import expit
from sqlalchemy.exc import SQLAlchemyError

from fraud_kedro.algorithms.base import Algorithm
from fraud_kedro.champion.tracking_store import first_line, without_password
from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.metrics import OBJECTIVES, ScoredRows
from fraud_kedro.pipelines.tuning.options import SearchBudget, TuningOptions
from fraud_kedro.pipelines.tuning.search_rows import SearchRows
from fraud_kedro.pipelines.tuning.trial_runs import log_trial

logger = logging.getLogger(__name__)

_FIXED = "parameters"
_FOLD_VALUES = "fold_values"


class Search:
    """A study that can be interrupted and resumed.

    Parameters
    ----------
    algorithm : Algorithm
    rows : SearchRows
    options : TuningOptions
    budget : SearchBudget
    seed : int
    """

    def __init__(
        self, algorithm: Algorithm, rows: SearchRows, options: TuningOptions, budget: SearchBudget, seed: int
    ) -> None:
        self._algorithm, self._rows, self._options = algorithm, rows, options
        self._budget, self._seed = budget, seed
        self._figure = OBJECTIVES[options.objective]
        self._started, self._done_before = time.monotonic(), 0

    def run(self) -> optuna.Study:
        """Search until the budget is spent.

        Returns
        -------
        optuna.Study
            With at least one complete trial.

        Raises
        ------
        TrainingError
            If no trial was completed, or the storage cannot be reached.
        """
        study = self._open()
        done = sum(trial.state.is_finished() for trial in study.trials)
        # A resumed sampler must not draw again what it drew before.
        study.sampler = optuna.samplers.TPESampler(seed=self._seed + done, multivariate=True)
        self._started, self._done_before = time.monotonic(), done
        remaining = self._budget.trials - done
        if done == 0:
            self._enqueue_defaults(study)
        if remaining > 0:
            study.optimize(
                self._objective,
                n_trials=remaining,
                timeout=self._budget.seconds,
                # A point of the space that a library refuses is a failed trial, not a failed study.
                catch=(ValueError, ArithmeticError, TrainingError),
                callbacks=[self._report],
            )
        else:
            logger.info("%s: all %d trials were done before", self._algorithm.name, self._budget.trials)
        if not study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):
            raise TrainingError(
                f"No trial of {self._algorithm.name} was completed. Give it a larger budget "
                f"({self._algorithm.name}.budget), or see the failed trials in MLflow."
            )
        return study

    def _open(self) -> optuna.Study:
        storage = self._options.storage
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            if storage.startswith("sqlite:///"):
                Path(storage.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            study = optuna.create_study(
                study_name=self._name(),
                storage=storage,
                direction="maximize",
                # The first fold alone decides too much with so few frauds.
                pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
                load_if_exists=True,
            )
        # An ImportError is a database whose driver is not installed.
        except (OSError, ImportError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise TrainingError(
                f"The studies at {without_password(storage)} cannot be opened ({first_line(error)}). "
                "Check tuning.storage and that its database is running."
            ) from error
        study.set_user_attr("algorithm", self._algorithm.name)
        return study

    def _name(self) -> str:
        """A study belongs to rows, space, objective and seed: another of these is another study."""
        space = {name: distribution_to_json(d) for name, d in sorted(self._space().items())}
        parts = [self._rows.fingerprint, space, self._options.objective, self._seed]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
        return f"{self._algorithm.name}-{digest}"

    def _space(self) -> dict[str, BaseDistribution]:
        blank = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
        self._algorithm.suggest(blank)
        return blank.distributions

    def _enqueue_defaults(self, study: optuna.Study) -> None:
        """Known good parameters first: a short search must not end below them by chance."""
        known = self._algorithm.defaults
        defaults = {name: known[name] for name in self._space() if name in known}
        study.enqueue_trial(defaults, skip_if_exists=True)

    def _objective(self, trial: optuna.Trial) -> float:
        parameters = self._algorithm.suggest(trial)
        values: list[float] = []
        fixed: list[dict[str, Any]] = []
        for step, fold in enumerate(self._rows.folds):
            estimator = self._algorithm.fit(
                fold.fit,
                parameters,
                seed=self._seed,
                n_jobs=self._options.n_jobs,
                stopping=fold.judge,
            )
            log_odds = self._algorithm.log_odds(estimator, fold.judge.features)
            judged = ScoredRows(fold.judge.labels, expit(log_odds), fold.judge.weights, fold.judge.amounts)
            values.append(self._figure(judged))
            fixed.append(self._algorithm.fixed_parameters(estimator, parameters))
            trial.set_user_attr(_FOLD_VALUES, values)
            trial.report(float(np.mean(values)), step)
            if step + 1 < len(self._rows.folds) and trial.should_prune():
                raise optuna.TrialPruned
        trial.set_user_attr(_FIXED, _typical(fixed))
        return float(np.mean(values))

    def _report(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        log_trial(study, trial, trial.user_attrs.get(_FOLD_VALUES, []))
        done = sum(t.state.is_finished() for t in study.trials)
        complete = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
        best = f"{study.best_value:.4f}" if complete else "none yet"
        result = f"{trial.value:.4f}" if trial.state.name == "COMPLETE" else trial.state.name.lower()
        logger.info(
            "%s trial %d/%d: %s, best %s, at most %.0f s left",
            self._algorithm.name,
            done,
            self._budget.trials,
            result,
            best,
            self._seconds_left(done),
        )

    def _seconds_left(self, done: int) -> float:
        elapsed = time.monotonic() - self._started
        by_trials = elapsed / max(done - self._done_before, 1) * (self._budget.trials - done)
        if self._budget.seconds is None:
            return by_trials
        return max(0.0, min(by_trials, self._budget.seconds - elapsed))


def best_parameters(study: optuna.Study) -> tuple[dict[str, Any], tuple[float, ...]]:
    """The best trial's parameters with its rounds fixed, and its value on each fold."""
    best = study.best_trial
    return best.user_attrs[_FIXED], tuple(best.user_attrs[_FOLD_VALUES])


def _typical(fixed: list[dict[str, Any]]) -> dict[str, Any]:
    """One set of parameters for all folds: the median where early stopping made them differ."""
    first = fixed[0]
    return {
        name: value
        if all(other[name] == value for other in fixed)
        else type(value)(np.median([other[name] for other in fixed]))
        for name, value in first.items()
    }
