"""Whether probabilities are true: calibration, and how scores are distributed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import norm

from fraud_kedro.evaluation.bootstrap import LEVEL
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

Floats = NDArray[np.float64]

# Of so rare a class, bins of equal width or weight would show one point.
_EDGES = np.array([0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 0.5, 0.7, 0.9, 1])
_HISTOGRAM = np.geomspace(LEAST_SHARE, 1.0, 51)


@dataclass(frozen=True)
class Reliability:
    """Bins of scores: what was predicted, what came true, and its interval."""

    predicted: Floats
    observed: Floats
    low: Floats
    high: Floats


def reliability(rows: ScoredRows, edges: Floats = _EDGES) -> Reliability:
    """Weighted mean score and share of frauds between edges; empty bins are left out.

    The interval is Wilson's (1927), with the effective number of rows of Kish (1965)
    where they have weights.
    """
    index = np.clip(np.searchsorted(edges, rows.scores, side="right") - 1, 0, len(edges) - 2)

    def summed(values: Floats) -> Floats:
        return np.asarray(np.bincount(index, values, minlength=len(edges) - 1), dtype=np.float64)

    total = summed(rows.weights)
    used = total > 0
    observed = summed(rows.weights * rows.labels)[used] / total[used]
    predicted = summed(rows.weights * rows.scores)[used] / total[used]
    effective = total[used] ** 2 / summed(rows.weights**2)[used]
    z = norm.ppf((1 + LEVEL) / 2)
    centre = (observed + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = (
        z
        / (1 + z**2 / effective)
        * np.sqrt(observed * (1 - observed) / effective + z**2 / (4 * effective**2))
    )
    # Rounding must not put an end on the wrong side.
    return Reliability(
        predicted, observed, np.minimum(centre - half, observed), np.maximum(centre + half, observed)
    )


def probability_figure(title: str, rows: ScoredRows) -> Figure:
    """Predicted against observed shares of fraud, and the scores of both classes."""
    figure, (calibration, scores) = panels(title, ("Calibration, with 95 % intervals", "Scores by class"))
    found = reliability(rows)
    observed, low = (np.maximum(values, LEAST_SHARE) for values in (found.observed, found.low))
    calibration.plot([LEAST_SHARE, 1], [LEAST_SHARE, 1], "--", color=FAINT)
    calibration.errorbar(
        np.maximum(found.predicted, LEAST_SHARE),
        observed,
        yerr=[observed - low, np.maximum(found.high, LEAST_SHARE) - observed],
        fmt="o",
        markersize=4,
        color=FRAUD,
    )
    share_axis(calibration, "predicted probability")
    logarithmic(calibration, "y")
    calibration.set(ylim=(LEAST_SHARE, 1), ylabel="observed share of frauds")
    for label, name, colour in ((0, "legitimate", LEGITIMATE), (1, "fraud", FRAUD)):
        of_class = rows.labels == label
        weights = rows.weights[of_class]
        scores.hist(
            np.clip(rows.scores[of_class], LEAST_SHARE, 1.0),
            bins=_HISTOGRAM.tolist(),
            weights=weights / weights.sum(),
            histtype="stepfilled",
            alpha=0.6,
            color=colour,
            label=name,
        )
    share_axis(scores, "probability")
    logarithmic(scores, "y")
    scores.set_ylabel("share of class")
    scores.legend(fontsize="small")
    return figure
