"""Durations as people write them on a command line."""

from __future__ import annotations

import re

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def seconds_of(text: str) -> float | None:
    """Read a duration such as ``30m``, ``12h`` or ``1.5d``.

    Returns
    -------
    float or None
        Seconds; None if it is no duration.
    """
    match = _DURATION.fullmatch(text)
    return None if match is None else float(match[1]) * _UNITS[match[2]]
