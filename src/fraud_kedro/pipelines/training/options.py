"""Parameters and results of training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fraud_kedro.champion.bundle import Metric, Thresholds
from fraud_kedro.evaluation.thresholds import ThresholdPolicy
from fraud_kedro.options import Options


class TrainingOptions(Options):
    """How a candidate is fitted and judged.

    Attributes
    ----------
    refit : {"train", "train_validation", "all"}
        The rows of the final fit. Whatever it is, the figures on test rows come
        from a fit without them.
    calibration : str
        A method that `fraud_kedro.evaluation.calibration_fit` knows, or ``auto``.
    thresholds : ThresholdPolicy
    bootstrap_repetitions : int
        For the 95 % intervals on test rows.
    n_jobs : int
        Threads of one fit.
    """

    refit: Literal["train", "train_validation", "all"] = "train_validation"
    calibration: str = "auto"
    thresholds: ThresholdPolicy
    bootstrap_repetitions: int = Field(default=200, ge=10)
    n_jobs: int = Field(default=2, ge=1)


class Evaluation(Options):
    """One candidate's figures.

    Attributes
    ----------
    thresholds : Thresholds
        Chosen on validation rows.
    validation, test : dict of str to Metric
        The validation figures are of a fit on the training part alone, the test
        figures of the recipe fitted without the test part, with intervals.
    """

    algorithm: str
    parameters: dict[str, Any]
    thresholds: Thresholds
    validation: dict[str, Metric]
    test: dict[str, Metric]


class Comparison(Options):
    """The candidates side by side, the best on validation rows first."""

    objective: str
    champion: str
    candidates: tuple[Evaluation, ...]
