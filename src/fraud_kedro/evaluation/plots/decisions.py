"""What decisions cost, and whom they meet."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.evaluation.plots.style import (
    FAINT,
    FRAUD,
    LEAST_SHARE,
    LEGITIMATE,
    logarithmic,
    panels,
    share_axis,
)
from fraud_kedro.evaluation.thresholds import Costs, Cuts, cost_curve

_POINTS = 400


def decision_figure(
    title: str,
    held_out: ScoredRows,
    test: ScoredRows,
    cuts: Cuts,
    costs: Costs,
    decisions: Mapping[str, Mapping[str, float]],
) -> Figure:
    """The cost of every threshold to flag from, and the confusion matrix of the decisions.

    Parameters
    ----------
    title : str
    held_out, test : ScoredRows
        The rows the thresholds were chosen on, and those they are judged on.
    cuts : Cuts
    costs : Costs
    decisions : mapping of str to mapping of str to float
        Weighted numbers of test rows, by decision and class.
    """
    figure, (curve, matrix) = panels(title, ("Cost of a transaction by threshold", "Decisions on test rows"))
    flags, least = np.append(np.geomspace(LEAST_SHARE, 1.0, _POINTS), 1.01), np.inf
    for rows, name, colour in ((held_out, "validation", LEGITIMATE), (test, "test", FRAUD)):
        values = cost_curve(rows, costs, flags, cuts.decline)
        least = min(least, values.min())
        curve.plot(flags[:-1], values[:-1], color=colour, label=name)
        curve.axhline(values[-1], linestyle=":", color=colour)
    for threshold, name in ((cuts.flag, "flag"), (cuts.decline, "decline")):
        shown = max(threshold, LEAST_SHARE)
        curve.axvline(shown, color=FAINT, linewidth=0.8)
        curve.annotate(
            name,
            (shown, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-2, -3),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="top",
            fontsize="small",
        )
    share_axis(curve, "flag (dotted: nothing is flagged)")
    if least > 0:
        logarithmic(curve, "y")
    curve.set_ylabel("currency of the table")
    curve.legend(fontsize="small", loc="center left")
    _draw_matrix(matrix, decisions)
    return figure


def _draw_matrix(axes: Axes, decisions: Mapping[str, Mapping[str, float]]) -> None:
    names = list(decisions)
    classes = list(decisions[names[0]])
    counts = np.array([[decisions[name][label] for name in names] for label in classes])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    for row, column in np.ndindex(counts.shape):
        shown = f"{counts[row, column]:,.0f}\n{shares[row, column]:.2%}"
        axes.text(column, row, shown, ha="center", va="center")
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(classes)), classes, rotation=90, va="center")
    axes.grid(visible=False)
