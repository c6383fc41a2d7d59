"""Which features a score comes from: permutation, mean contributions, each row's contributions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import rankdata

from fraud_kedro.evaluation.plots.style import FRAUD, LEGITIMATE, panels

Floats = NDArray[np.float64]

_SHOWN = 15


def explanation_figure(
    title: str,
    names: Sequence[str],
    falls: Floats,
    features: Floats,
    contributions: Floats,
    weights: Floats,
) -> Figure:
    """Permutation importance, SHAP importance and SHAP summary of the leading features.

    Parameters
    ----------
    title : str
    names : sequence of str
    falls : ndarray of shape (n_repeats, n_features)
        As `permutation_importance` finds them.
    features, contributions : ndarray of shape (n_transactions, n_features)
    weights : ndarray of shape (n_transactions,)
    """
    figure, (permuted, mean, summary) = panels(
        title,
        (
            "Fall of average precision when drawn anew",
            "Mean size of contribution",
            "Contributions, red for high values",
        ),
        long_labels=True,
    )
    _draw_bars(permuted, names, falls.mean(axis=0), np.array([falls.min(axis=0), falls.max(axis=0)]))
    sizes = weights @ np.abs(contributions) / weights.sum()
    _draw_bars(mean, names, sizes, None)
    mean.set_xlabel("calibrated log-odds")
    leading = np.argsort(sizes, kind="stable")[-_SHOWN:]
    _draw_summary(summary, [names[i] for i in leading], features[:, leading], contributions[:, leading])
    return figure


def _draw_bars(axes: Axes, names: Sequence[str], values: Floats, ends: Floats | None) -> None:
    leading = np.argsort(values, kind="stable")[-_SHOWN:]
    errors = None if ends is None else np.abs(ends[:, leading] - values[leading])
    axes.barh([names[i] for i in leading], values[leading], xerr=errors, color=LEGITIMATE)
    axes.tick_params(axis="y", labelsize="small")


def _draw_summary(axes: Axes, names: Sequence[str], features: Floats, contributions: Floats) -> None:
    rows, count = features.shape
    # The colour is the value's rank: one far value would make all others look alike.
    ranks = np.apply_along_axis(rankdata, 0, features) / rows
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, (rows, count))
    places = (np.arange(count) + spread).ravel()
    axes.scatter(contributions.ravel(), places, c=ranks.ravel(), s=3, cmap="coolwarm")
    axes.axvline(0.0, color=FRAUD, linewidth=0.8)
    axes.set_yticks(range(count), names, fontsize="small")
    axes.set_xlabel("calibrated log-odds")
