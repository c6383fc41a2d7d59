"""Trials of one study in several processes."""

from __future__ import annotations

import signal
import tempfile
import warnings
from collections.abc import Generator, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import joblib  # type: ignore[import-untyped]
import optuna

from fraud_kedro.algorithms.registry import get_algorithm
from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.thresholds import ThresholdPolicy
from fraud_kedro.pipelines.tuning.objectives import get_objective
from fraud_kedro.pipelines.tuning.options import TuningOptions
from fraud_kedro.pipelines.tuning.sampling import open_study, sampler
from fraud_kedro.pipelines.tuning.search_rows import SearchRows
from fraud_kedro.pipelines.tuning.storage import open_storage
from fraud_kedro.pipelines.tuning.trial import CAUGHT, TrialOfFolds

# The processes serve the next study too, and end when none comes.
_IDLE_SECONDS = 20


@dataclass(frozen=True)
class Assignment:
    """What a process must know to take part in a search, but for the rows."""

    algorithm: str
    study: str
    options: TuningOptions
    policy: ThresholdPolicy
    seed: int
    until: float | None


def trials_in_processes(
    assignment: Assignment, rows: SearchRows, sampler_seeds: Iterator[int], *, processes: int
) -> Generator[int, None, None]:
    """Run a trial for every seed; each process opens the study itself and reads the rows once.

    Yields
    ------
    int
        Numbers of trials, as they end.

    Raises
    ------
    TrainingError
        If a process dies.
    """
    with tempfile.TemporaryDirectory(prefix="fraud-tuning-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "search_rows"
        joblib.dump(rows, file)
        parallel = joblib.Parallel(
            n_jobs=processes,
            backend="loky",
            return_as="generator_unordered",
            # Seeds are drawn when a process is free: a budget of time ends by having no more of them.
            pre_dispatch=processes,
            batch_size=1,
            idle_worker_timeout=_IDLE_SECONDS,
        )
        numbers = parallel(joblib.delayed(_run_one)(assignment, file, seed) for seed in sampler_seeds)
        try:
            # `yield from` would close it before the warning below is silenced.
            for number in numbers:  # noqa: UP028
                yield number
        except BrokenProcessPool as error:
            raise TrainingError(
                f"A process of the search for {assignment.algorithm} died, most likely for want of memory. "
                "Finished trials are kept and the same command goes on from there; lower tuning.n_jobs or "
                "tuning.legitimate_rows."
            ) from error
        finally:
            with warnings.catch_warnings():
                # Where a search is interrupted, joblib counts the tasks that were cut off.
                warnings.simplefilter("ignore")
                numbers.close()


def _run_one(assignment: Assignment, file: Path, sampler_seed: int) -> int:
    """Run in a process of its own."""
    # Ctrl-C reaches every process of a terminal; the first one decides what becomes of the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    study, trial_of_folds = _join(assignment, file)
    study.sampler = sampler(sampler_seed)
    numbers: list[int] = []
    study.optimize(
        trial_of_folds,
        n_trials=1,
        catch=CAUGHT,
        callbacks=[lambda _, trial: numbers.append(trial.number)],
    )
    return numbers[0]


@lru_cache(maxsize=1)
def _join(assignment: Assignment, file: Path) -> tuple[optuna.Study, TrialOfFolds]:
    study = open_study(assignment.study, open_storage(assignment.options.storage))
    trial_of_folds = TrialOfFolds(
        get_algorithm(assignment.algorithm),
        joblib.load(file, mmap_mode="r"),
        get_objective(assignment.options.objective, assignment.policy),
        seed=assignment.seed,
        threads=assignment.options.fit_threads,
        until=assignment.until,
    )
    return study, trial_of_folds
