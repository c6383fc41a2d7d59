"""Finds the coefficients of a calibration on rows the model has not seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.calibration import (
    BetaCalibration,
    Calibration,
    Floats,
    IdentityCalibration,
    IsotonicCalibration,
    PlattCalibration,
)

# A graph scores in float32: on a steeper line its error would show in the probability.
_STEEPEST, _FLATTEST = 5.0, 0.02
# Knots closer together on the log-odds than this are one.
_KNOT_DISTANCE = 0.25


def fit_calibration(
    method: str,
    log_odds: Floats,
    labels: NDArray[np.integer],
    weights: Floats,
) -> Calibration:
    """Fit a calibration on rows the model has not seen.

    Parameters
    ----------
    method : str
        One of `CALIBRATION_METHODS`.
    log_odds : ndarray of shape (n_transactions,), float64
        Uncalibrated log-odds of fraud, finite.
    labels : ndarray of shape (n_transactions,)
        1 is fraud.
    weights : ndarray of shape (n_transactions,), float64
        How many transactions of the full table a row stands for.

    Returns
    -------
    Calibration

    Raises
    ------
    TrainingError
        If the method is unknown, the rows hold one class only, or the scores
        do not rank frauds above legitimate transactions.
    """
    if method not in _METHODS:
        raise TrainingError(
            f"Calibration method {method!r} is unknown. It should be one of: {', '.join(_METHODS)}."
        )
    # Rows of weight 0 would still shift centres and spreads.
    counted = weights > 0
    return _METHODS[method](
        np.asarray(log_odds, dtype=np.float64)[counted], labels[counted] == 1, weights[counted]
    )


def _fit_identity(log_odds: Floats, fraud: NDArray[np.bool_], weights: Floats) -> Calibration:
    return IdentityCalibration()


def _fit_platt(log_odds: Floats, fraud: NDArray[np.bool_], weights: Floats) -> Calibration:
    """Platt (1999), "Probabilistic outputs for support vector machines", with weights.

    Minimises the weighted log loss against `_targets`.
    """
    weights = _counts(weights)
    _require_usable(log_odds, fraud, weights)
    target = _targets(fraud, weights)
    centre, spread = float(log_odds.mean()), float(log_odds.std())
    scaled = (log_odds - centre) / spread
    line = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=500).fit(
        np.concatenate([scaled, scaled]).reshape(-1, 1),
        np.repeat([1, 0], len(scaled)),
        sample_weight=np.concatenate([weights * target, weights * (1 - target)]),
    )
    slope = float(line.coef_[0, 0]) / spread
    if not np.isfinite(slope) or slope <= 0:
        raise TrainingError(
            f"Calibration found a slope of {slope:.3g}: on these {len(log_odds)} rows frauds do not score "
            "above legitimate transactions. Check the labels, or give the model more frauds to learn from."
        )
    return PlattCalibration(slope=slope, intercept=float(line.intercept_[0]) - slope * centre)


def _fit_beta(log_odds: Floats, fraud: NDArray[np.bool_], weights: Floats) -> Calibration:
    """Kull, Silva Filho, Flach (2017), with weights and Platt's targets, slopes held positive."""
    weights = _counts(weights)
    _require_usable(log_odds, fraud, weights)
    target = _targets(fraud, weights)
    share = weights / weights.sum()
    columns = np.column_stack(
        [-np.logaddexp(0.0, -log_odds), np.logaddexp(0.0, log_odds), np.ones(len(share))]
    )

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        score = columns @ coefficients
        value = share @ (np.logaddexp(0.0, score) - target * score)
        error = share * (1 / (1 + np.exp(-np.clip(score, -700, 700))) - target)
        return float(value), error @ columns

    start = np.array([1.0, 1.0, 0.0])
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[(1e-3, 1e3), (1e-3, 1e3), (None, None)]
    )
    lower, upper, intercept = map(float, found.x)
    return BetaCalibration(lower_slope=lower, upper_slope=upper, intercept=intercept)


def _fit_isotonic(log_odds: Floats, fraud: NDArray[np.bool_], weights: Floats) -> Calibration:
    """Pool adjacent violators (`sklearn.isotonic.IsotonicRegression`), then a line through the blocks.

    Each block of equal probability becomes a knot at its mean score. Steps would
    tie scores and hang on the last bit of a float32, so neighbouring knots are
    joined by lines of bounded slope.
    """
    weights = _counts(weights)
    _require_usable(log_odds, fraud, weights)
    rates = IsotonicRegression(y_min=0.0, y_max=1.0).fit_transform(log_odds, fraud, sample_weight=weights)
    _, block = np.unique(rates, return_inverse=True)
    mass = np.bincount(block, weights)
    frauds = np.bincount(block, weights * fraud)
    used = mass > 0
    centres = np.bincount(block, weights * log_odds)[used] / mass[used]
    # Platt's correction, block by block: a block of one class has no finite log-odds.
    rate = (frauds[used] + 1 / 2) / (mass[used] + 1)
    knots, values = _apart(centres, np.log(rate / (1 - rate)), mass[used].astype(np.float64))
    for left in range(len(knots) - 1):
        step = knots[left + 1] - knots[left]
        rise = np.clip(values[left + 1] - values[left], _FLATTEST * step, _STEEPEST * step)
        values[left + 1] = values[left] + rise
    return IsotonicCalibration(log_odds=tuple(knots.tolist()), calibrated=tuple(values.tolist()))


def _apart(centres: Floats, values: Floats, mass: Floats) -> tuple[Floats, Floats]:
    """Merge knots that lie closer together than `_KNOT_DISTANCE`, by mass."""
    merged: list[tuple[float, float, float]] = []
    for centre, value, weight in zip(centres, values, mass, strict=True):
        if merged and centre - merged[-1][0] < _KNOT_DISTANCE:
            earlier, known, heavy = merged.pop()
            total = heavy + weight
            centre = (earlier * heavy + centre * weight) / total
            value = (known * heavy + value * weight) / total
            weight = total
        merged.append((centre, value, weight))
    return np.array([knot[0] for knot in merged]), np.array([knot[1] for knot in merged])


def _counts(weights: Floats) -> Floats:
    """Weights that sum to less than there are rows, to 1 perhaps, are no counts."""
    total = float(weights.sum())
    return weights * (len(weights) / total) if 0 < total < len(weights) else weights


def _targets(fraud: NDArray[np.bool_], weights: Floats) -> Floats:
    """Platt's targets ``(W1 + 1) / (W1 + 2)`` and ``1 / (W0 + 2)``, W being the weight of each class.

    Without them perfectly separated rows would have no finite slope.
    """
    frauds, legitimate = float(weights[fraud].sum()), float(weights[~fraud].sum())
    return np.where(fraud, (frauds + 1) / (frauds + 2), 1 / (legitimate + 2))


def _require_usable(log_odds: Floats, fraud: NDArray[np.bool_], weights: Floats) -> None:
    if float(weights[fraud].sum()) <= 0 or float(weights[~fraud].sum()) <= 0:
        raise TrainingError(
            f"Calibration needs both classes with positive weights; it got {int(fraud.sum())} frauds and "
            f"{int((~fraud).sum())} legitimate transactions. Give the validation part more rows."
        )
    if not np.isfinite(log_odds).all():
        raise TrainingError(
            f"Calibration needs finite scores; {int((~np.isfinite(log_odds)).sum())} of {len(log_odds)} are "
            "not finite. The model's fit did not converge: give it stronger regularisation."
        )
    centre, spread = float(log_odds.mean()), float(log_odds.std())
    if spread <= 1e-12 * max(1.0, abs(centre)):
        raise TrainingError(
            f"Calibration needs scores that differ; all {len(log_odds)} are {centre:.6g}. "
            "The model has learnt nothing: give it more frauds or weaker regularisation."
        )


# From the simplest to the most flexible.
_METHODS: dict[str, Callable[[Floats, NDArray[np.bool_], Floats], Calibration]] = {
    "none": _fit_identity,
    "platt": _fit_platt,
    "beta": _fit_beta,
    "isotonic": _fit_isotonic,
}

CALIBRATION_METHODS: tuple[str, ...] = tuple(_METHODS)
