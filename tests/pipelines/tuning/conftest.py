"""Rows and an algorithm small enough to search in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import optuna
import pytest

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.evaluation.thresholds import ExpectedCost, ThresholdPolicy
from fraud_kedro.pipelines.tuning.options import SearchBudget, TuningOptions
from fraud_kedro.pipelines.tuning.search_rows import SearchRows, make_folds
from fraud_kedro.pipelines.tuning.study import Search


class Ramp:
    """Scores by one feature; `tilt` turns its sign, so that the best value is known.

    `rounds` stands for what early stopping finds: the number of rows it was fitted on.
    """

    name = "ramp"
    defaults: ClassVar = {"tilt": 1.0, "noise": 0.0, "rounds": 10}

    def __init__(self, refuses=lambda tilt: False, error: type[Exception] = ValueError) -> None:
        self.refuses, self.error = refuses, error
        self.fits: list[dict[str, Any]] = []

    def suggest(self, trial):
        return {"tilt": trial.suggest_float("tilt", -1, 1), "noise": trial.suggest_float("noise", 0, 1)}

    def fit(self, data, parameters, *, seed, n_jobs, stopping=None):
        self.fits.append({"rows": len(data), "stopping": stopping, "seed": seed, **parameters})
        if self.refuses(parameters["tilt"]):
            raise self.error(f"no fit for tilt {parameters['tilt']}")
        return {"rounds": len(data), **parameters}

    def fixed_parameters(self, estimator, parameters):
        return {**self.defaults, **parameters, "rounds": estimator["rounds"]}

    def log_odds(self, estimator, features):
        noise = np.sin(1000.0 * features[:, 1].astype(np.float64))
        return estimator["tilt"] * features[:, 1].astype(np.float64) + 2 * estimator["noise"] * noise


@pytest.fixture(scope="session")
def policy() -> ThresholdPolicy:
    return ThresholdPolicy(ExpectedCost())


@pytest.fixture
def search(policy) -> Callable[..., optuna.Study]:
    """A function that runs a search."""

    def run(algorithm, rows, options, trials, *, seed=0, seconds=None):
        budget = SearchBudget(trials=trials, seconds=seconds)
        return Search(algorithm, rows, options, policy, budget, seed).run()

    return run


@pytest.fixture
def options() -> TuningOptions:
    """A study of one run; making a file's tables would be most of a test's time."""
    return TuningOptions(storage="sqlite:///:memory:")


@pytest.fixture
def kept(tmp_path) -> TuningOptions:
    """A study that a second run finds again."""
    return TuningOptions(storage=f"sqlite:///{tmp_path / 'studies.db'}")


@pytest.fixture
def ramp() -> type[Ramp]:
    return Ramp


@pytest.fixture(scope="session")
def search_rows() -> SearchRows:
    generator = np.random.default_rng(0)
    times = np.arange(600.0)
    labels = (generator.random(600) < 0.1).astype(np.int8)
    feature = generator.normal(size=600) + 1.5 * labels
    data = LabelledMatrix(
        np.column_stack([times, feature]).astype(np.float32),
        labels,
        np.ones(600),
        generator.gamma(2, 50, 600),
    )
    return SearchRows(make_folds(data, times, kind="temporal", folds=3, seed=0), "a1b2")
