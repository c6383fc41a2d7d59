"""Numbers, shares and moments as a reader wants them."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from fraud_kedro.profiling.profile import ColumnProfile
from fraud_kedro.schema import SECONDS_PER_DAY

# Nearly ten thousand years; what is beyond is no time that days would tell.
_MOST_SECONDS = 3e11


def number(value: float | None) -> str:
    """Four significant digits, thousands apart, an exponent where it must be."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e7:
        return f"{value:.3g}".replace("-", "−")
    decimals = max(3 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:,.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", "−")


def decimals(value: float | None) -> str:
    """Three decimals, for what lies between 0 and 1."""
    return "–" if value is None else f"{value:.3f}"


def share(value: float | None) -> str:
    """A share in per cent, with three significant digits below one per cent."""
    if value is None:
        return "–"
    percent = 100 * value
    if percent in (0, 100) or percent >= 1:
        text = f"{percent:.2f}".rstrip("0").rstrip(".")
    else:
        text = f"{percent:.3g}"
    return f"{text} %"


def moment(seconds: float, origin: datetime | None) -> str:
    """A moment as date and time, or as day and time since second 0."""
    if origin is not None:
        try:
            return f"{origin + timedelta(seconds=seconds):%Y-%m-%d %H:%M}"
        except OverflowError:
            return f"second {number(seconds)}"
    if abs(seconds) > _MOST_SECONDS:
        return f"second {number(seconds)}"
    day, rest = divmod(int(seconds), SECONDS_PER_DAY)
    return f"day {day:,} {rest // 3600:02}:{rest % 3600 // 60:02}".replace("-", "−")


def bin_label(column: ColumnProfile, index: int) -> str:
    """Which values the bin of a column holds; 0 lies below the first edge."""
    edges = column.edges
    if index == 0:
        return f"below {number(edges[0])}"
    if index == len(edges):
        return f"from {number(edges[-1])} on"
    if column.scale == "values":
        return number(edges[index - 1])
    return f"{number(edges[index - 1])} to {number(edges[index])}"
