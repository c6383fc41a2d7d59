"""Parameters and results of tuning."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fraud_kedro.options import Options


class TuningOptions(Options):
    """What all studies have in common.

    Attributes
    ----------
    objective : {"average_precision", "roc_auc"}
        What a trial maximises, as the mean over the folds.
    folds : int
        Rolling origins in time, or stratified folds, as the split is.
    legitimate_rows : int
        At most so many legitimate rows take part, drawn at random; their weights
        make up for the others. Frauds all take part.
    storage : str
        SQLAlchemy URL of the studies. A second run goes on where the first stopped.
    n_jobs : int
        Threads of one fit.
    """

    objective: Literal["average_precision", "roc_auc"] = "average_precision"
    folds: int = Field(default=3, ge=2)
    legitimate_rows: int = Field(default=40_000, ge=100)
    storage: str
    n_jobs: int = Field(default=2, ge=1)


class SearchBudget(Options):
    """One algorithm's budget: the search ends at the first limit it reaches.

    Attributes
    ----------
    trials : int
        In all, over resumed runs.
    seconds : float
        Of one run. Leave it out for runs that must be identical bit for bit.
    """

    trials: int = Field(ge=1)
    seconds: float | None = Field(default=None, gt=0)


class BestParameters(Options):
    """What a study found."""

    algorithm: str
    parameters: dict[str, Any]
    objective: str
    value: float
    fold_values: tuple[float, ...]
    trials: int
    seconds: float
