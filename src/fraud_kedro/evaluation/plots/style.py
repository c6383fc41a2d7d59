"""What all figures have in common: size, colours, axes of small shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

LEGITIMATE, FRAUD = "#4c8fd0", "#e0662f"
FAINT = "#9a9a9a"

_PANEL_INCHES = (4.4, 3.8)
# Fixed margins: to measure every label takes as long as all the rest.
_MARGINS = {"bottom": 0.15, "top": 0.85, "wspace": 0.3}
_SIDE_INCHES = (0.75, 0.25)
# Smaller shares are drawn at the edge.
LEAST_SHARE = 1e-5


def panels(title: str, names: Sequence[str], *, long_labels: bool = False) -> tuple[Figure, list[Axes]]:
    """A row of axes with titles, independent of pyplot's global state.

    Parameters
    ----------
    title : str
    names : sequence of str
        Of the axes.
    long_labels : bool
        Whether labels may need more room than usual.
    """
    width, height = _PANEL_INCHES[0] * len(names), _PANEL_INCHES[1]
    figure = Figure(figsize=(width, height), dpi=90, layout="constrained" if long_labels else None)
    if not long_labels:
        left, right = _SIDE_INCHES
        figure.subplots_adjust(left=left / width, right=1 - right / width, **_MARGINS)
    figure.suptitle(title)
    axes = list(figure.subplots(1, len(names), squeeze=False)[0])
    for each, name in zip(axes, names, strict=True):
        each.set_title(name, fontsize="medium")
        each.grid(alpha=0.3)
    return figure, axes


def share_axis(axes: Axes, label: str) -> None:
    """A logarithmic horizontal axis for shares and probabilities."""
    logarithmic(axes, "x")
    axes.set_xlim(LEAST_SHARE, 1.0)
    axes.set_xlabel(label)


def logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """A logarithmic axis with ticks at powers of ten."""
    if which == "x":
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
