"""Which features moved a score: Shapley values on the calibrated log-odds.

Trees are explained by the path-dependent TreeSHAP of Lundberg et al. (2020), "From
local explanations to global understanding with explainable AI for trees", by the
library shap. What is calibrated or averaged afterwards is carried over by the rescale
rule of Chen, Lundberg, Lee (2022), "Explaining a series of models by propagating
Shapley values": contributions keep their proportions and add up to the new score. So a
random forest, whose trees add up to a probability, and every calibrated model are
comparable: with contributions on another scale, compare shares of their sum.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.algorithms.model import EnsembleModel, FraudModel, ScoringModel, reduce_time
from fraud_kedro.algorithms.random_forest import SMOOTHING
from fraud_kedro.algorithms.registry import get_algorithm
from fraud_kedro.errors import TrainingError

Floats = NDArray[np.float64]

# Steps that stand for a derivative: of log-odds, in which boosters add up as float32, and of a probability.
_STEP, _PROBABILITY_STEP = 1e-4, 1e-8
# Rows a method without knowledge of the model compares with.
_BACKGROUND_ROWS = 50


@dataclass(frozen=True)
class Explanation:
    """Contributions of features to scores.

    Attributes
    ----------
    base : float
        The score of a transaction of which nothing is known.
    contributions : ndarray of shape (n_transactions, n_features)
    scores : ndarray of shape (n_transactions,)
        `base` plus the row's contributions.
    """

    base: float
    contributions: Floats
    scores: Floats

    def rescaled(self, link: Callable[[Floats], Floats], scores: Floats, step: float = _STEP) -> Explanation:
        """Carry the contributions over to a monotone function of the score.

        Parameters
        ----------
        link : callable
            The function.
        scores : ndarray of shape (n_transactions,)
            Its value for each row.
        step : float
            Rows that are moved by less take the slope at the base.
        """
        below, base, above = link(self.base + np.array([-step, 0.0, step]))
        moved = self.contributions.sum(axis=1)
        still = np.abs(moved) < step
        slope = np.where(still, (above - below) / (2 * step), (scores - base) / np.where(still, 1.0, moved))
        return Explanation(float(base), self.contributions * slope[:, None], scores)


def explain(model: ScoringModel, features: NDArray[np.float32]) -> Explanation:
    """Explain the calibrated log-odds of each row.

    Parameters
    ----------
    model : ScoringModel
    features : ndarray of shape (n_transactions, n_features), float32
        As for `ScoringModel.log_odds`.

    Returns
    -------
    Explanation
        Of an ensemble: the mean of its members' contributions, rescaled.
    """
    if isinstance(model, EnsembleModel):
        members = [explain(member, features) for member in model.members]
        mean = Explanation(
            float(np.mean([member.base for member in members])),
            np.asarray(np.mean([member.contributions for member in members], axis=0)),
            np.asarray(np.mean([member.scores for member in members], axis=0)),
        )
        return mean.rescaled(model.calibration.apply, model.calibration.apply(mean.scores))
    if not isinstance(model, FraudModel):
        raise TrainingError(f"A model of type {type(model).__name__} cannot be explained.")
    raw = _uncalibrated(model, reduce_time(features, model.schema))
    return raw.rescaled(model.calibration.apply, model.log_odds(features))


def _uncalibrated(model: FraudModel, features: NDArray[np.float32]) -> Explanation:
    algorithm, estimator = get_algorithm(model.algorithm), model.estimator
    scores = algorithm.log_odds(estimator, features)
    if algorithm.trees(estimator) is not None:
        return _of_trees(estimator, features, scores)
    if hasattr(estimator, "steps") and hasattr(estimator[-1], "coef_"):
        return _of_linear(estimator, features, scores)
    return _of_any(lambda rows: algorithm.log_odds(estimator, rows.astype(np.float32)), features, scores)


def _of_trees(estimator: object, features: NDArray[np.float32], scores: Floats) -> Explanation:
    import shap  # seconds, which other commands need not wait for

    explainer = shap.TreeExplainer(estimator)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LightGBM binary classifier with TreeExplainer")
        values = np.asarray(explainer.shap_values(features), dtype=np.float64)
    base = float(np.ravel(explainer.expected_value)[-1])
    if values.ndim == 2:
        return Explanation(base, values, scores)
    # A forest's are those of each class's probability; the last one is fraud.
    of_probability = Explanation(base, values[..., -1], base + values[..., -1].sum(axis=1))
    return of_probability.rescaled(_forest_log_odds, scores, _PROBABILITY_STEP)


def _forest_log_odds(probability: Floats) -> Floats:
    return np.asarray(np.log((probability + SMOOTHING) / (1 - probability + SMOOTHING)))


def _of_linear(estimator: object, features: NDArray[np.float32], scores: Floats) -> Explanation:
    """Coefficient times standardised input, whose mean is 0.

    The Shapley values of a linear model with independent features: Lundberg, Lee
    (2017), "A Unified Approach to Interpreting Model Predictions", corollary 1.
    """
    inputs = estimator[:-1].transform(features.astype(np.float64))  # type: ignore[index]
    linear = estimator[-1]  # type: ignore[index]
    return Explanation(float(linear.intercept_[0]), inputs * linear.coef_[0], scores)


def _of_any(score: Callable[[Floats], Floats], features: NDArray[np.float32], scores: Floats) -> Explanation:
    """Sampled permutations (Štrumbelj, Kononenko 2014), for what has neither trees nor coefficients."""
    import shap

    background = features[np.linspace(0, len(features) - 1, min(_BACKGROUND_ROWS, len(features))).astype(int)]
    found = shap.PermutationExplainer(score, background, seed=0)(features, silent=True)
    return Explanation(
        float(np.ravel(found.base_values)[0]), np.asarray(found.values, dtype=np.float64), scores
    )
