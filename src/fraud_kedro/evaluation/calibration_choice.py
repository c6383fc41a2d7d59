"""Chooses a calibration, and scores its rows as if it had not seen them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.calibration import Calibration, Floats
from fraud_kedro.evaluation.calibration_fit import CALIBRATION_METHODS, fit_calibration

AUTO = "auto"
FOLDS = 5
# A broken line through fewer frauds follows their noise.
_FRAUDS_FOR_ISOTONIC = 200


@dataclass(frozen=True)
class ChosenCalibration:
    """A calibration, with what it gives for the rows it was fitted on.

    Attributes
    ----------
    calibration : Calibration
        Fitted on all rows.
    log_odds : ndarray of shape (n_transactions,), float64
        Cross-fitted: each row calibrated by a fit without it, so that thresholds
        and figures taken from these rows are not flattered.
    log_losses : dict of str to float
        Weighted cross-fitted log loss of each method that was tried.
    """

    calibration: Calibration
    log_odds: Floats
    log_losses: dict[str, float]


def choose_calibration(
    method: str, log_odds: Floats, labels: NDArray[np.integer], weights: Floats, seed: int
) -> ChosenCalibration:
    """Fit a calibration by name, or the one with the least cross-fitted log loss.

    Parameters
    ----------
    method : str
        A method of `CALIBRATION_METHODS`, or ``auto``: the least weighted log loss
        over `FOLDS` stratified folds; isotonic takes part from 200 frauds on.
    log_odds : ndarray of shape (n_transactions,), float64
        Uncalibrated, of rows the model has not seen.
    labels : ndarray of shape (n_transactions,)
    weights : ndarray of shape (n_transactions,), float64
    seed : int
        Of the folds.

    Returns
    -------
    ChosenCalibration

    Raises
    ------
    TrainingError
        If the method is unknown, or nothing can be fitted to these rows.
    """
    if method != AUTO and method not in CALIBRATION_METHODS:
        raise TrainingError(
            f"Calibration method {method!r} is unknown. It should be one of: "
            f"{', '.join((AUTO, *CALIBRATION_METHODS))}."
        )
    counted = (labels == 1) & (weights > 0)
    tried = CALIBRATION_METHODS if method == AUTO else (method,)
    if method == AUTO and counted.sum() < _FRAUDS_FOR_ISOTONIC:
        tried = tuple(name for name in tried if name != "isotonic")
    folds = _folds(labels, weights, seed)
    scored = {name: _cross_fitted(name, log_odds, labels, weights, folds) for name in tried}
    losses = {
        name: float(log_loss(labels, expit(scores), sample_weight=weights, labels=[0, 1]))
        for name, scores in scored.items()
    }
    best = min(losses, key=losses.__getitem__)
    return ChosenCalibration(fit_calibration(best, log_odds, labels, weights), scored[best], losses)


def _folds(
    labels: NDArray[np.integer], weights: Floats, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to fit on and rows to score, each side with both classes of positive weight."""
    classes = np.where(weights > 0, labels, 2)
    rarest = min(int((classes == label).sum()) for label in (0, 1))
    if rarest < 2:
        raise TrainingError(
            "Calibration needs two frauds and two legitimate transactions of positive weight; there are "
            f"{int((classes == 1).sum())} and {int((classes == 0).sum())}. "
            "Give the validation part more rows."
        )
    splitter = StratifiedKFold(min(FOLDS, rarest), shuffle=True, random_state=seed)
    counted = np.flatnonzero(classes < 2)
    silent = np.flatnonzero(classes == 2)
    parts = [(counted[fit], counted[score]) for fit, score in splitter.split(counted, classes[counted])]
    # Rows of weight 0 teach nothing; any fit may score them.
    return [
        (fit, np.concatenate([score, silent[number :: len(parts)]]))
        for number, (fit, score) in enumerate(parts)
    ]


def _cross_fitted(
    method: str,
    log_odds: Floats,
    labels: NDArray[np.integer],
    weights: Floats,
    folds: list[tuple[NDArray[np.intp], NDArray[np.intp]]],
) -> Floats:
    scores = np.empty(len(labels))
    for fit, score in folds:
        found = fit_calibration(method, log_odds[fit], labels[fit], weights[fit])
        scores[score] = found.apply(log_odds[score])
    return scores
