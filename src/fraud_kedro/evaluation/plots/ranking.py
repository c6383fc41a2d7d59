"""How well scores rank: ROC, precision and recall, lift."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from fraud_kedro.evaluation.measures import FALSE_POSITIVE_RATES
from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.evaluation.plots.style import FAINT, FRAUD, LEAST_SHARE, logarithmic, panels, share_axis
from fraud_kedro.evaluation.thresholds import reaches

_F1 = (0.2, 0.4, 0.6, 0.8)


def ranking_figure(title: str, rows: ScoredRows, flag: float) -> Figure:
    """ROC, precision-recall with lines of equal F1, and lift; a dot at the threshold.

    Parameters
    ----------
    title : str
    rows : ScoredRows
        Of both classes.
    flag : float
    """
    figure, (roc, precision_recall, lifted) = panels(
        title, ("ROC", "Precision and recall, lines of equal F1", "Lift")
    )
    flagged = reaches(rows.scores, flag)
    weight, fraud = rows.weights, rows.labels == 1
    caught, alarms = weight[flagged & fraud].sum(), weight[flagged & ~fraud].sum()
    recall = caught / weight[fraud].sum()
    _draw_roc(roc, rows)
    roc.plot(max(alarms / weight[~fraud].sum(), LEAST_SHARE), recall, "o", color=FRAUD, clip_on=False)
    _draw_precision_recall(precision_recall, rows)
    _draw_lift(lifted, rows)
    if caught + alarms > 0:
        precision, share = caught / (caught + alarms), (caught + alarms) / weight.sum()
        precision_recall.plot(recall, precision, "o", color=FRAUD, clip_on=False)
        lifted.plot(max(share, LEAST_SHARE), precision / base_rate(rows), "o", color=FRAUD, clip_on=False)
    return figure


def base_rate(rows: ScoredRows) -> float:
    """Weighted share of frauds."""
    return float(rows.weights[rows.labels == 1].sum() / rows.weights.sum())


def lift(rows: ScoredRows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many times the base rate the precision is, by the share of transactions flagged.

    Returns
    -------
    shares : ndarray of shape (n_distinct_scores,), increasing, ends with 1
    lift : ndarray of the same shape, ends with 1
    """
    order = np.argsort(-rows.scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(rows.scores[order])), len(order) - 1)
    taken = np.cumsum(rows.weights[order])[last]
    caught = np.cumsum((rows.weights * rows.labels)[order])[last]
    counted = taken > 0
    return taken[counted] / taken[-1], caught[counted] / taken[counted] / base_rate(rows)


def _draw_roc(axes: Axes, rows: ScoredRows) -> None:
    false_positives, recall, _ = roc_curve(rows.labels, rows.scores, sample_weight=rows.weights)
    axes.step(np.maximum(false_positives, LEAST_SHARE), recall, where="post", color=FRAUD)
    chance = np.geomspace(LEAST_SHARE, 1.0, 100)
    axes.plot(chance, chance, "--", color=FAINT)
    for rate in FALSE_POSITIVE_RATES.values():
        axes.axvline(rate, color=FAINT, linewidth=0.8)
    share_axis(axes, "false-positive rate")
    axes.set_ylim(0, 1)
    axes.set_ylabel("recall")


def _draw_precision_recall(axes: Axes, rows: ScoredRows) -> None:
    recalls = np.linspace(0.01, 1.0, 100)
    for f1 in _F1:
        with np.errstate(divide="ignore"):
            precisions = f1 * recalls / (2 * recalls - f1)
        shown = (precisions > 0) & (precisions <= 1)
        axes.plot(recalls[shown], precisions[shown], color=FAINT, linewidth=0.8)
        axes.annotate(f"{f1:g}", (0.9, f1 * 0.9 / (2 * 0.9 - f1)), fontsize="small", color=FAINT)
    precision, recall, _ = precision_recall_curve(
        rows.labels, rows.scores, sample_weight=rows.weights, drop_intermediate=True
    )
    axes.step(recall, precision, where="post", color=FRAUD)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision")


def _draw_lift(axes: Axes, rows: ScoredRows) -> None:
    shares, lifts = lift(rows)
    # Beyond the first few, a thousand points are as good as all.
    chosen = np.unique(np.geomspace(1, len(shares), 1000).astype(int)) - 1
    axes.plot(np.maximum(shares[chosen], LEAST_SHARE), lifts[chosen], color=FRAUD)
    axes.axhline(1.0, linestyle="--", color=FAINT)
    share_axis(axes, "share of transactions flagged")
    logarithmic(axes, "y")
    axes.set_ylabel("precision / share of frauds")
