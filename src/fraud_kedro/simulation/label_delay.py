"""How long it takes until the label of a transaction is known."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fraud_kedro.durations import seconds_of
from fraud_kedro.options import Options
from fraud_kedro.simulation.options import SimulationError

LONGEST_DELAY = 10 * 365 * 86_400

Seconds = Annotated[float, Field(strict=True, ge=0, le=LONGEST_DELAY, allow_inf_nan=False)]


class ConstantDelay(Options):
    """Every label comes after the same time."""

    kind: Literal["constant"] = "constant"
    seconds: Seconds

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the delays in seconds, shape (count,)."""
        return np.full(count, float(self.seconds))


class ExponentialDelay(Options):
    """Delays of an exponential distribution; none is longer than the cap.

    Attributes
    ----------
    mean : float
        Seconds, before the cap.
    cap : float
        Seconds. What would take longer comes then, as claims do on the last
        day that they can be made.
    """

    kind: Literal["exponential"] = "exponential"
    mean: Annotated[Seconds, Field(gt=0)]
    cap: Annotated[Seconds, Field(gt=0)]

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw delays in seconds, shape (count,)."""
        return np.minimum(rng.exponential(self.mean, count), self.cap)


LabelDelay = Annotated[ConstantDelay | ExponentialDelay, Field(discriminator="kind")]


def parse_label_delay(text: str) -> ConstantDelay | ExponentialDelay:
    """Read a delay as the command line gives it.

    Parameters
    ----------
    text : str
        ``7d``, or ``exponential:7d:60d`` with mean and cap. Units are s, m, h
        and d.

    Raises
    ------
    SimulationError
        If it is neither.

    Examples
    --------
    >>> parse_label_delay("90m").seconds
    5400.0
    >>> parse_label_delay("exponential:7d:60d").mean
    604800.0
    """
    match text.split(":"):
        case [constant]:
            return ConstantDelay(seconds=_seconds(constant, text))
        case ["exponential", mean, cap]:
            durations = {"mean": _seconds(mean, text), "cap": _seconds(cap, text)}
            if 0 in durations.values():
                raise SimulationError(f"The label delay {text!r} should have a mean and a cap above 0.")
            return ExponentialDelay(**durations)
    raise _unreadable(text)


def _seconds(duration: str, text: str) -> float:
    seconds = seconds_of(duration)
    if seconds is None:
        raise _unreadable(text)
    if seconds > LONGEST_DELAY:
        raise SimulationError(f"The label delay {text!r} should be {LONGEST_DELAY // 86_400:,} days at most.")
    return seconds


def _unreadable(text: str) -> SimulationError:
    return SimulationError(
        f"The label delay {text!r} should be a duration such as 7d, 12h, 30m or 10s, "
        "or exponential:MEAN:CAP such as exponential:7d:60d."
    )
