"""One Optuna study of one algorithm."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState

from fraud_kedro.algorithms.base import Algorithm
from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.thresholds import ThresholdPolicy
from fraud_kedro.pipelines.tuning.objectives import get_objective
from fraud_kedro.pipelines.tuning.options import SearchBudget, TuningOptions
from fraud_kedro.pipelines.tuning.processes import Assignment, trials_in_processes
from fraud_kedro.pipelines.tuning.sampling import open_study, sampler
from fraud_kedro.pipelines.tuning.search_rows import SearchRows
from fraud_kedro.pipelines.tuning.shared_budget import share, write_down
from fraud_kedro.pipelines.tuning.starting_points import ALGORITHM, enqueue_interrupted, enqueue_known
from fraud_kedro.pipelines.tuning.storage import close_dead, in_memory, open_storage, told_in_one_line
from fraud_kedro.pipelines.tuning.trial import (
    CAUGHT,
    TrialOfFolds,
    failure,
    is_spent,
    run_of,
    search_space,
    was_interrupted,
)
from fraud_kedro.pipelines.tuning.trial_runs import log_trial

logger = logging.getLogger(__name__)


class Search:
    """A study that can be interrupted and resumed.

    Parameters
    ----------
    algorithm : Algorithm
    rows : SearchRows
    options : TuningOptions
    policy : ThresholdPolicy
        Whose prices the objective of cost takes.
    budget : SearchBudget
    seed : int
    """

    def __init__(
        self,
        algorithm: Algorithm,
        rows: SearchRows,
        options: TuningOptions,
        policy: ThresholdPolicy,
        budget: SearchBudget,
        seed: int,
    ) -> None:
        self._algorithm, self._rows, self._options = algorithm, rows, options
        self._policy, self._budget, self._seed = policy, budget, seed
        self._space = search_space(algorithm)
        self._started, self._done_before, self._done = time.monotonic(), 0, 0
        self._sampler_seed = seed
        self._until: float | None = None
        self._told: set[int] = set()

    def run(self) -> optuna.Study:
        """Search until the budget is spent.

        Returns
        -------
        optuna.Study
            With at least one complete trial.

        Raises
        ------
        TrainingError
            If no trial was completed, the storage cannot be reached, or the user
            interrupts; what was finished is kept in each case.
        """
        if self._options.n_jobs > 1 and in_memory(self._options.storage):
            raise TrainingError(
                f"{self._options.n_jobs} processes cannot share a study in memory. "
                "Set tuning.storage to a database, or tuning.n_jobs to 1."
            )
        with told_in_one_line(self._options.storage):
            storage = open_storage(self._options.storage)
            study = open_study(self._name(), storage)
            self._prepare(study)
            try:
                self._spend(study)
            except KeyboardInterrupt:
                raise TrainingError(self._how_to_go_on(study)) from None
            finally:
                self._close_what_ran(study)
            write_down(
                study,
                trials=self._done,
                seconds=self._elapsed(),
                run=self._rows.run,
            )
            self._require_a_complete_trial(study)
        return study

    def _prepare(self, study: optuna.Study) -> None:
        """Take up what an earlier run left, or begin with what is known to be good."""
        study.set_user_attr(ALGORITHM, self._algorithm.name)
        close_dead(study)
        if study.get_trials(deepcopy=False):
            enqueue_interrupted(study)
        else:
            earlier = enqueue_known(study, self._algorithm, self._space, warm_start=self._options.warm_start)
            if earlier is not None:
                logger.info("%s: starts with the best parameters of %s too", self._algorithm.name, earlier)
        self._budget = share(study, self._budget, self._options.budget, self._rows.run)
        self._done = self._done_before = sum(is_spent(trial) for trial in study.get_trials(deepcopy=False))
        # A resumed sampler must not draw again what it drew before.
        drawn = sum(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False))
        self._sampler_seed = self._seed + drawn
        self._started = time.monotonic()
        if self._budget.seconds is not None:
            self._until = time.time() + self._budget.seconds

    def _spend(self, study: optuna.Study) -> None:
        remaining = self._budget.trials - self._done
        if remaining <= 0:
            logger.info("%s: all %d trials were done before", self._algorithm.name, self._budget.trials)
        elif min(self._options.n_jobs, remaining) == 1:
            self._one_after_the_other(study, remaining)
        else:
            self._side_by_side(study, remaining)

    def _one_after_the_other(self, study: optuna.Study, remaining: int) -> None:
        study.sampler = sampler(self._sampler_seed)
        study.optimize(
            TrialOfFolds(
                self._algorithm,
                self._rows,
                get_objective(self._options.objective, self._policy),
                seed=self._seed,
                threads=self._options.fit_threads,
                until=self._until,
            ),
            n_trials=remaining,
            catch=CAUGHT,
            callbacks=[self._tell, self._stop_in_time],
        )

    def _stop_in_time(self, study: optuna.Study, _trial: FrozenTrial) -> None:
        """After the first trial at the earliest, which Optuna's own timeout does not promise."""
        if self._budget.seconds is not None and self._elapsed() >= self._budget.seconds:
            study.stop()

    def _side_by_side(self, study: optuna.Study, remaining: int) -> None:
        assignment = Assignment(
            self._algorithm.name, study.study_name, self._options, self._policy, self._seed, self._until
        )
        numbers = trials_in_processes(
            assignment, self._rows, self._seeds(remaining), processes=min(self._options.n_jobs, remaining)
        )
        with closing(numbers):
            for number in numbers:
                self._tell(study, study.get_trials(deepcopy=False)[number])

    def _seeds(self, remaining: int) -> Iterator[int]:
        """One for each trial's sampler, until the time is over."""
        for position in range(remaining):
            if self._budget.seconds is not None and position and self._elapsed() >= self._budget.seconds:
                return
            yield self._sampler_seed + position

    def _close_what_ran(self, study: optuna.Study) -> None:
        """See that no trial of this run stays open, and none is missing from MLflow."""
        for trial in study.get_trials(deepcopy=False):
            if run_of(trial) != self._rows.run or trial.number in self._told:
                continue
            if trial.state == TrialState.RUNNING:
                study.tell(trial.number, state=TrialState.FAIL)
            self._told.add(trial.number)
            log_trial(self._algorithm.name, study.get_trials(deepcopy=False)[trial.number])

    def _how_to_go_on(self, study: optuna.Study) -> str:
        done = sum(is_spent(trial) for trial in study.get_trials(deepcopy=False))
        return (
            f"Interrupted. {self._algorithm.name} has {done} of {self._budget.trials} trials, and they are "
            "kept: run the same command again to go on from here."
        )

    def _tell(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Log a trial that has ended, and write its line of progress."""
        self._told.add(trial.number)
        log_trial(self._algorithm.name, trial)
        self._done += is_spent(trial)
        logger.info(
            "%s trial %d/%d: %s, best %s, about %.0f s left",
            self._algorithm.name,
            self._done,
            self._budget.trials,
            _result(trial),
            _best(study),
            self._seconds_left(),
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _seconds_left(self) -> float:
        done_here = max(self._done - self._done_before, 1)
        by_trials = self._elapsed() / done_here * (self._budget.trials - self._done)
        if self._budget.seconds is None:
            return by_trials
        return max(0.0, min(by_trials, self._budget.seconds - self._elapsed()))

    def _require_a_complete_trial(self, study: optuna.Study) -> None:
        trials = study.get_trials(deepcopy=False)
        if any(trial.state == TrialState.COMPLETE for trial in trials):
            return
        reasons = [reason for trial in trials if (reason := failure(trial)) is not None]
        why = f" All {len(reasons)} failed, the last one thus: {reasons[-1]}." if reasons else ""
        raise TrainingError(
            f"No trial of {self._algorithm.name} was completed.{why} Give it a larger budget "
            f"({self._algorithm.name}.budget), or see its trials in MLflow."
        )

    def _name(self) -> str:
        """A study belongs to rows, space, objective and seed: another of these is another study."""
        space = {name: distribution_to_json(d) for name, d in sorted(self._space.items())}
        parts: list[Any] = [self._rows.fingerprint, space, self._options.objective, self._seed]
        if self._options.objective == "expected_cost":
            parts.append(self._policy.model_dump(mode="json"))
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
        return f"{self._algorithm.name}-{digest}"


def _result(trial: FrozenTrial) -> str:
    if trial.state == TrialState.COMPLETE:
        return f"{trial.value:.4f}"
    if was_interrupted(trial):
        return "interrupted"
    reason = failure(trial)
    return f"failed ({reason})" if reason is not None else trial.state.name.lower()


def _best(study: optuna.Study) -> str:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return f"{study.best_value:.4f}" if complete else "none yet"
