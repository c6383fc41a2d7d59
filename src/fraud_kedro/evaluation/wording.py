"""What figures are called where people read them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fraud_kedro.champion.bundle import Metric

_TITLES = {
    "average_precision": "Average precision",
    "roc_auc": "AUC-ROC",
    "recall_at_1_percent_fpr": "Recall at 1 % false positives",
    "recall_at_0.1_percent_fpr": "Recall at 0.1 % false positives",
    "precision": "Precision at `flag`",
    "recall": "Recall at `flag`",
    "f1": "F1 at `flag`",
    "false_positive_rate": "False-positive rate at `flag`",
    "expected_cost": "Expected cost of a transaction",
    "savings": "Savings against flagging nothing",
    "brier_score": "Brier score",
    "log_loss": "Log loss",
    "expected_calibration_error": "Expected calibration error",
}
_ALERTS = re.compile(r"precision_at_(\d+)_per_day")


def figure_title(name: str) -> str:
    """A figure's title; its own name where it has none."""
    alerts = _ALERTS.fullmatch(name)
    return f"Precision of {alerts[1]} alerts a day" if alerts else _TITLES.get(name, name)


def listed(names: Iterable[str]) -> str:
    """Names as a sentence has them: ``a, b and c``."""
    return " and ".join(", ".join(names).rsplit(", ", 1))


def interval_text(low: float | None, high: float | None, sign: str = "") -> str:
    """Both ends, empty where there is no interval.

    Parameters
    ----------
    low, high : float, optional
    sign : {"", "+"}
        Whether positive numbers have one.
    """
    return "" if low is None or high is None else f"{low:{sign}.4g} to {high:{sign}.4g}"


def metric_text(metric: Metric | None) -> str:
    """A figure with its interval, empty where there is none."""
    if metric is None:
        return ""
    ends = interval_text(metric.low, metric.high)
    return f"{metric.value:.4g} ({ends})" if ends else f"{metric.value:.4g}"
