"""Parameters and results of tuning."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_serializer, field_validator

from fraud_kedro.champion.tracking_store import without_password
from fraud_kedro.options import Options


class SearchBudget(Options):
    """One algorithm's budget: the search ends at the first limit it reaches.

    Attributes
    ----------
    trials : int
        In all, over resumed runs.
    seconds : float
        Of one run. Leave it out for runs that must be identical bit for bit.
    """

    trials: int
    seconds: float | None = None

    @field_validator("trials", "seconds")
    @classmethod
    def _buys_a_trial(cls, value: float | None) -> float | None:
        return _not_zero(value)


class TotalBudget(Options):
    """What all studies together may use; each gets an equal part of what the earlier ones left.

    Attributes
    ----------
    trials : int, optional
        In all, over resumed runs.
    seconds : float, optional
        Of one run.
    """

    trials: int | None = None
    seconds: float | None = None

    @field_validator("trials", "seconds")
    @classmethod
    def _buys_a_trial(cls, value: float | None) -> float | None:
        return _not_zero(value)


def _not_zero(value: float | None) -> float | None:
    if value is not None and not value > 0:
        raise ValueError(
            f"a budget of {value:g} buys no trial; give it more, or leave the algorithm out "
            "(`kedro run --pipeline=tuning --tags=NAME` tunes one alone)"
        )
    return value


class TuningOptions(Options):
    """What all studies have in common.

    Attributes
    ----------
    objective : {"average_precision", "roc_auc", "expected_cost"}
        What a trial maximises, as the mean over the folds.
    folds : int
        Rolling origins in time, or stratified folds, as the split is.
    legitimate_rows : int
        At most so many legitimate rows take part, drawn at random; their weights
        make up for the others. Frauds all take part.
    storage : str
        SQLAlchemy URL of the studies. A second run goes on where the first stopped.
        Written down, in MLflow for one, it has no password.
    n_jobs : int
        Processes that share one study. With one, nothing but the seed decides
        which points are tried.
    fit_threads : int
        Threads of one fit.
    budget : TotalBudget
    warm_start : bool
        Whether a new study begins with the best parameters of an earlier one of
        the same algorithm, next to the defaults.
    """

    objective: Literal["average_precision", "roc_auc", "expected_cost"] = "average_precision"
    folds: int = Field(default=3, ge=2)
    legitimate_rows: int = Field(default=40_000, ge=100)
    storage: str = Field(repr=False)
    n_jobs: int = Field(default=1, ge=1)
    fit_threads: int = Field(default=1, ge=1)
    budget: TotalBudget = TotalBudget()
    warm_start: bool = False

    @field_serializer("storage")
    def _without_password(self, storage: str) -> str:
        return without_password(storage)


class BestParameters(Options):
    """What a study found."""

    algorithm: str
    parameters: dict[str, Any]
    objective: str
    value: float
    fold_values: tuple[float, ...]
    trials: int
    seconds: float
