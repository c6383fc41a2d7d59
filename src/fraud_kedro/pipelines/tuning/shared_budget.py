"""How the studies of a run share one budget: what each used is written down with it."""

from __future__ import annotations

import optuna

from fraud_kedro.algorithms.registry import ALGORITHM_NAMES
from fraud_kedro.errors import TrainingError
from fraud_kedro.pipelines.tuning.options import SearchBudget, TotalBudget

_USED = "used"
# A study whose turn comes when the time is over still has its first trial.
_LEAST_SECONDS = 0.001


def share(study: optuna.Study, own: SearchBudget, total: TotalBudget, run: str) -> SearchBudget:
    """One study's part: its own budget, and an equal part of what the studies before it left.

    Parameters
    ----------
    study : Study
    own : SearchBudget
    total : TotalBudget
    run : str
        Only studies of this run count.

    Raises
    ------
    TrainingError
        If there are fewer trials than algorithms.
    """
    if total == TotalBudget():
        return own
    if total.trials is not None and total.trials < len(ALGORITHM_NAMES):
        raise TrainingError(
            f"tuning.budget.trials is {total.trials}, but {len(ALGORITHM_NAMES)} algorithms need one each "
            f"({', '.join(ALGORITHM_NAMES)}). To tune one alone, give it a budget of its own, such as "
            f"{ALGORITHM_NAMES[0]}.budget.trials."
        )
    used = [
        summary.user_attrs[_USED]
        for summary in optuna.get_all_study_summaries(study._storage, include_best_trial=False)
        if summary.study_name != study.study_name and summary.user_attrs.get(_USED, {}).get("run") == run
    ]
    waiting = max(1, len(ALGORITHM_NAMES) - len(used))
    trials, seconds = own.trials, own.seconds
    if total.trials is not None:
        trials = min(trials, max(1, (total.trials - sum(u["trials"] for u in used)) // waiting))
    if total.seconds is not None:
        left = max(_LEAST_SECONDS, (total.seconds - sum(u["seconds"] for u in used)) / waiting)
        seconds = left if seconds is None else min(seconds, left)
    return SearchBudget(trials=trials, seconds=seconds)


def write_down(study: optuna.Study, *, trials: int, seconds: float, run: str) -> None:
    """Note what a study used, for those that come after it."""
    study.set_user_attr(_USED, {"run": run, "trials": trials, "seconds": seconds})
