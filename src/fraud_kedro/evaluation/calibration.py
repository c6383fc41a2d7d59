"""Calibration on log-odds: from a model's score to a probability that can be counted on.

A method is a frozen model of its coefficients and the function that fits it.
`fit_calibration` finds the function by name; the coefficients travel as JSON
and become nodes of the ONNX graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fraud_kedro.errors import TrainingError

Floats = NDArray[np.float64]


class IdentityCalibration(BaseModel):
    """Log-odds as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["none"] = "none"

    def apply(self, log_odds: Floats) -> Floats:
        """Return the log-odds unchanged."""
        return log_odds


class PlattCalibration(BaseModel):
    """A straight line on the log-odds.

    Attributes
    ----------
    slope : float
        Positive, so that the ranking is kept.
    intercept : float
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Literal["platt"] = "platt"
    slope: float = Field(gt=0)
    intercept: float

    def apply(self, log_odds: Floats) -> Floats:
        """Calibrated log-odds, same shape."""
        return self.slope * log_odds + self.intercept


Calibration = Annotated[IdentityCalibration | PlattCalibration, Field(discriminator="method")]


def fit_calibration(
    method: str,
    log_odds: Floats,
    labels: NDArray[np.integer],
    weights: Floats,
) -> IdentityCalibration | PlattCalibration:
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
    IdentityCalibration or PlattCalibration

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
    return _METHODS[method](np.asarray(log_odds, dtype=np.float64), labels == 1, weights)


def _fit_identity(log_odds: Floats, fraud: NDArray[np.bool_], weights: Floats) -> IdentityCalibration:
    return IdentityCalibration()


def _fit_platt(log_odds: Floats, fraud: NDArray[np.bool_], weights: Floats) -> PlattCalibration:
    """Platt (1999), "Probabilistic outputs for support vector machines", with weights.

    Minimises the weighted log loss against Platt's targets
    ``(W1 + 1) / (W1 + 2)`` and ``1 / (W0 + 2)``, W being the weight of each
    class: without them perfectly separated rows would have no finite slope.
    """
    from sklearn.linear_model import LogisticRegression

    # The targets count rows. Weights that sum to less than there are rows, to 1 perhaps, are no counts.
    total = float(weights.sum())
    if 0 < total < len(weights):
        weights = weights * (len(weights) / total)
    frauds, legitimate = float(weights[fraud].sum()), float(weights[~fraud].sum())
    if frauds <= 0 or legitimate <= 0:
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
    target = np.where(fraud, (frauds + 1) / (frauds + 2), 1 / (legitimate + 2))
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


_METHODS: dict[str, Callable[[Floats, NDArray[np.bool_], Floats], IdentityCalibration | PlattCalibration]] = {
    "none": _fit_identity,
    "platt": _fit_platt,
}

CALIBRATION_METHODS: tuple[str, ...] = tuple(_METHODS)
