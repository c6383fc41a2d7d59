"""Scored rows, and what tuning and the choice of a champion may maximise.

Every other figure of a candidate is in `fraud_kedro.evaluation.measures`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

Scores = NDArray[np.float64]
Labels = NDArray[np.int8]
Weights = NDArray[np.float64]
Amounts = NDArray[np.float64]
Seconds = NDArray[np.float64]


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
    seconds : ndarray of shape (n_transactions,), float64, optional
        On the table's clock, for what is counted by day and hour.
    """

    labels: Labels
    scores: Scores
    weights: Weights
    amounts: Amounts | None = None
    seconds: Seconds | None = None

    def take(self, rows: NDArray[np.intp]) -> ScoredRows:
        """The given rows, in the given order."""
        amounts = None if self.amounts is None else self.amounts[rows]
        seconds = None if self.seconds is None else self.seconds[rows]
        return ScoredRows(self.labels[rows], self.scores[rows], self.weights[rows], amounts, seconds)


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
