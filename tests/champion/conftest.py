"""Small trained models whose graphs are explained, and Shapley values by their definition."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.model import EnsembleModel, FraudModel, ScoringModel, to_onnx
from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, get_algorithm
from fraud_kedro.champion.bundle import Bundle, SelfTest
from fraud_kedro.champion.scorer import Scorer
from fraud_kedro.evaluation.calibration import (
    BetaCalibration,
    Calibration,
    IdentityCalibration,
    IsotonicCalibration,
    PlattCalibration,
)
from fraud_kedro.schema import SECONDS_PER_DAY, ResolvedSchema

SMALL = {
    "lightgbm": {"num_boost_round": 40},
    "xgboost": {"num_boost_round": 40},
    "random_forest": {"n_estimators": 25},
    "logistic_regression": {},
}
CALIBRATIONS: dict[str, Calibration] = {
    "none": IdentityCalibration(),
    "platt": PlattCalibration(slope=0.7, intercept=-2.5),
    "beta": BetaCalibration(lower_slope=0.6, upper_slope=1.4, intercept=-1.0),
    "isotonic": IsotonicCalibration(log_odds=(-5.0, -1.0, 0.0, 2.0), calibrated=(-7.0, -5.0, 0.5, 4.0)),
}
# No model can learn from the last one.
NAMES = ("Time", "V1", "V2", "V3", "Amount", "Constant")


@pytest.fixture(scope="session")
def small_schema() -> ResolvedSchema:
    return ResolvedSchema(time="Time", time_use="hour_of_day", amount="Amount", label="Class", features=NAMES)


def _draw(n_rows: int, seed: int) -> LabelledMatrix:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n_rows) < 0.12).astype(np.int8)
    features = rng.normal(size=(n_rows, len(NAMES)))
    features[:, 1:4] += 1.2 * labels[:, None] * np.array([1, -1, 0.5])
    features[:, 0] = rng.uniform(0, SECONDS_PER_DAY, n_rows)
    # Cents and tenths: values that lie exactly on thresholds.
    features[:, 3] = np.round(features[:, 3], 1)
    features[:, 4] = np.round(rng.exponential(60, n_rows) * (1 + labels), 2)
    features[:, 5] = 3.0
    return LabelledMatrix(features.astype(np.float32), labels, np.where(labels == 1, 1.0, 5.0))


@pytest.fixture(scope="session")
def transactions_of() -> Callable[[int, int], np.ndarray]:
    """A function that draws rows as the models read them, by number and seed."""
    return lambda n_rows, seed: _draw(n_rows, seed).features


@pytest.fixture(scope="session")
def small_models(small_schema) -> dict[str, FraudModel]:
    """One model of each algorithm, each calibrated in another way."""
    train = _draw(1500, seed=1)
    return {
        name: FraudModel(
            name, get_algorithm(name).fit(train, SMALL[name], seed=1, n_jobs=1), calibration, small_schema
        )
        for name, calibration in zip(ALGORITHM_NAMES, CALIBRATIONS.values(), strict=True)
    }


@pytest.fixture(scope="session")
def candidates(small_models) -> dict[str, ScoringModel]:
    """Each algorithm and the ensemble with each calibration, and an ensemble of two."""
    found: dict[str, ScoringModel] = {
        f"{name}-{method}": replace(model, calibration=calibration)
        for name, model in small_models.items()
        for method, calibration in CALIBRATIONS.items()
    }
    members = tuple(small_models.values())
    for method, calibration in CALIBRATIONS.items():
        found[f"ensemble-{method}"] = EnsembleModel(members, calibration)
    return found | {"pair-platt": EnsembleModel(members[:2], CALIBRATIONS["platt"])}


MakeExplained = Callable[..., Bundle]


@pytest.fixture(scope="session")
def bundle_of(make_bundle, small_schema, tmp_path_factory) -> MakeExplained:
    """A function that makes a bundle of a model and a background."""
    folder = tmp_path_factory.mktemp("explained")
    numbers = itertools.count()

    def make(
        model: ScoringModel | bytes, background: np.ndarray, schema: ResolvedSchema = small_schema
    ) -> Bundle:
        graph = model if isinstance(model, bytes) else to_onnx(model).SerializeToString(deterministic=True)
        rows = _draw(16, seed=3).features
        plain = make_bundle(
            folder / "plain", schema=schema, model=graph, self_test=SelfTest(rows=(), probabilities=())
        )
        promised = Scorer(plain).probabilities(schema.model_matrix(rows.astype(np.float64)))
        test = SelfTest(
            rows=tuple(map(tuple, rows.astype(np.float64).tolist())),
            probabilities=tuple(promised.astype(np.float64).tolist()),
        )
        return make_bundle(
            folder / str(next(numbers)), schema=schema, model=graph, self_test=test, background=background
        )

    return make


Score = Callable[[np.ndarray], np.ndarray]


def _shapley(score: Score, rows: np.ndarray, background: np.ndarray) -> np.ndarray:
    width = rows.shape[1]
    coalitions = np.array(list(itertools.product((False, True), repeat=width)))
    mixed = np.where(coalitions[:, None, None, :], rows[None, :, None, :], background[None, None, :, :])
    scores = score(mixed.reshape(-1, width).astype(np.float32)).reshape(len(coalitions), len(rows), -1)
    worth = scores.mean(axis=2)
    powers = 2 ** np.arange(width)[::-1]
    found = np.zeros((len(rows), width))
    for number, members in enumerate(coalitions):
        size = members.sum()
        for feature in np.flatnonzero(~members):
            weight = math.factorial(size) * math.factorial(width - size - 1) / math.factorial(width)
            found[:, feature] += weight * (worth[number + powers[feature]] - worth[number])
    return found


@pytest.fixture(scope="session")
def shapley() -> Callable[[Score, np.ndarray, np.ndarray], np.ndarray]:
    """Interventional Shapley values by their definition: over all coalitions of features."""
    return _shapley
