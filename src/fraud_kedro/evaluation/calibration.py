"""Calibration on log-odds: from a model's score to a probability that can be counted on.

A method is a frozen model of its coefficients; `fraud_kedro.evaluation.calibration_fit`
finds them. They travel as JSON and become nodes of the ONNX graph.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Floats = NDArray[np.float64]


class _Calibration(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class IdentityCalibration(_Calibration):
    """Log-odds as they are."""

    method: Literal["none"] = "none"

    def apply(self, log_odds: Floats) -> Floats:
        """Return the log-odds unchanged."""
        return log_odds


class PlattCalibration(_Calibration):
    """A straight line on the log-odds.

    Attributes
    ----------
    slope : float
        Positive, so that the ranking is kept.
    intercept : float
    """

    method: Literal["platt"] = "platt"
    slope: float = Field(gt=0)
    intercept: float

    def apply(self, log_odds: Floats) -> Floats:
        """Calibrated log-odds, same shape."""
        return self.slope * log_odds + self.intercept


class BetaCalibration(_Calibration):
    """A line in ln(p) and -ln(1 - p): another slope for small and for large scores.

    Kull, Silva Filho, Flach (2017), "Beta calibration: a well-founded and easily
    implemented improvement on logistic calibration for binary classifiers".

    Attributes
    ----------
    lower_slope, upper_slope : float
        Factors of ln(p) and -ln(1 - p), positive, so that the ranking is kept.
    intercept : float
    """

    method: Literal["beta"] = "beta"
    lower_slope: float = Field(gt=0)
    upper_slope: float = Field(gt=0)
    intercept: float

    def apply(self, log_odds: Floats) -> Floats:
        """Calibrated log-odds, same shape."""
        # ln(p) = -softplus(-z) and -ln(1 - p) = softplus(z), for z the log-odds of p.
        lower, upper = np.logaddexp(0.0, -log_odds), np.logaddexp(0.0, log_odds)
        return np.asarray(self.upper_slope * upper - self.lower_slope * lower + self.intercept)


class IsotonicCalibration(_Calibration):
    """A monotone broken line between knots, of slope 1 beyond them.

    Attributes
    ----------
    log_odds, calibrated : tuple of float
        The knots, both strictly increasing.
    """

    method: Literal["isotonic"] = "isotonic"
    log_odds: tuple[float, ...] = Field(min_length=1)
    calibrated: tuple[float, ...]

    @model_validator(mode="after")
    def _increases(self) -> IsotonicCalibration:
        for name in ("log_odds", "calibrated"):
            if (np.diff(getattr(self, name)) <= 0).any():
                raise ValueError(f"the knots' {name} do not increase")
        if len(self.log_odds) != len(self.calibrated):
            raise ValueError("a knot has two coordinates: log_odds and calibrated differ in length")
        return self

    def apply(self, log_odds: Floats) -> Floats:
        """Calibrated log-odds, same shape."""
        beyond = log_odds - np.clip(log_odds, self.log_odds[0], self.log_odds[-1])
        return np.asarray(np.interp(log_odds, self.log_odds, self.calibrated) + beyond)


Calibration = Annotated[
    IdentityCalibration | PlattCalibration | BetaCalibration | IsotonicCalibration,
    Field(discriminator="method"),
]
