"""Figures of a score on labelled rows, weighted, after scikit-learn's definitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

Scores = NDArray[np.float64]
Labels = NDArray[np.int8]
Weights = NDArray[np.float64]
Amounts = NDArray[np.float64]

CALIBRATION_BINS = 10


@dataclass(frozen=True)
class ScoredRows:
    """Calibrated probabilities beside the truth.

    Attributes
    ----------
    labels : ndarray of shape (n_transactions,), int8
    scores : ndarray of shape (n_transactions,), calibrated probability of fraud
    weights : ndarray of shape (n_transactions,), float64
    amounts : ndarray of shape (n_transactions,), float64, optional
        In the table's currency, for figures of cost.
    """

    labels: Labels
    scores: Scores
    weights: Weights
    amounts: Amounts | None = None

    def take(self, rows: NDArray[np.intp]) -> ScoredRows:
        """The given rows, in the given order."""
        amounts = None if self.amounts is None else self.amounts[rows]
        return ScoredRows(self.labels[rows], self.scores[rows], self.weights[rows], amounts)


def average_precision(rows: ScoredRows) -> float:
    """Weighted average precision, `sklearn.metrics.average_precision_score`."""
    return float(average_precision_score(rows.labels, rows.scores, sample_weight=rows.weights))


def roc_auc(rows: ScoredRows) -> float:
    """Weighted area under the ROC curve, `sklearn.metrics.roc_auc_score`."""
    return float(roc_auc_score(rows.labels, rows.scores, sample_weight=rows.weights))


# What tuning and the choice of a champion may maximise; a new one is one line here.
OBJECTIVES: Mapping[str, Callable[[ScoredRows], float]] = {
    "average_precision": average_precision,
    "roc_auc": roc_auc,
}


def recall_at(rows: ScoredRows, false_positive_rate: float) -> float:
    """Largest recall whose false-positive rate does not exceed the given one."""
    # Every point: one in the middle of a slope may be the best within the limit.
    fpr, tpr, _ = roc_curve(rows.labels, rows.scores, sample_weight=rows.weights, drop_intermediate=False)
    return float(tpr[fpr <= false_positive_rate].max())


def expected_calibration_error(rows: ScoredRows, bins: int = CALIBRATION_BINS) -> float:
    """Weighted mean distance of predicted and observed share of fraud over score bins.

    Bins hold equal weight, since almost all scores of so rare a class lie near 0.
    Definition after Naeini, Cooper, Hauskrecht (2015), "Obtaining Well Calibrated
    Probabilities Using Bayesian Binning", with quantile bins.
    """
    order = np.argsort(rows.scores, kind="stable")
    weights = rows.weights[order]
    position = np.cumsum(weights) - weights / 2
    index = np.minimum((position / weights.sum() * bins).astype(int), bins - 1)
    gap = np.bincount(index, weights * (rows.scores[order] - rows.labels[order]), minlength=bins)
    return float(np.abs(gap).sum() / weights.sum())


def figures(rows: ScoredRows, flag: float) -> dict[str, float]:
    """Every figure of a candidate.

    Parameters
    ----------
    rows : ScoredRows
    flag : float
        Threshold from which a transaction is flagged; precision, recall and F1
        are those of this decision.

    Returns
    -------
    dict of str to float
    """
    flagged = rows.scores.astype(np.float32) >= np.float32(flag)
    precision, recall, f1, _ = precision_recall_fscore_support(
        rows.labels, flagged, average="binary", sample_weight=rows.weights, zero_division=0.0
    )
    return {
        "average_precision": average_precision(rows),
        "roc_auc": roc_auc(rows),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "recall_at_1_percent_fpr": recall_at(rows, 0.01),
        "recall_at_0.1_percent_fpr": recall_at(rows, 0.001),
        "brier_score": float(brier_score_loss(rows.labels, rows.scores, sample_weight=rows.weights)),
        "log_loss": float(log_loss(rows.labels, rows.scores, sample_weight=rows.weights, labels=[0, 1])),
        "expected_calibration_error": expected_calibration_error(rows),
    }
