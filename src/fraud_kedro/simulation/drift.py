"""Changes that can be injected into a simulated table from some time on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from fraud_kedro.simulation.statistics import HOURS_PER_DAY

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]


Hour = Annotated[int, Field(strict=True, ge=0, lt=HOURS_PER_DAY)]


def _distinct(hours: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(hours)) < len(hours):
        raise ValueError("an hour should be named once")
    return hours


class _Change(BaseModel):
    """A change with its beginning: the first second (in the table's time) it affects."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    start: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = Field(default=0.0, alias="from")


class Shift(_Change):
    """Every value of a column moves by a constant, in the column's own unit."""

    column: str
    shift: Number


class Scale(_Change):
    """Every value of a column is multiplied by a constant."""

    column: str
    scale: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


class FraudRate(_Change):
    """Another share of the transactions is fraud, until a later change of the rate."""

    fraud_rate: Share


class NewPattern(_Change):
    """A share of the frauds follows a pattern that no earlier fraud has.

    They look legitimate but in the columns that tell the classes apart least,
    whose values come from the upper end: a model of the old frauds is blind to
    them, a new model can learn them.
    """

    new_pattern: Share


class Hours(_Change):
    """A share of the transactions happens in some hours of the day, until a later change of the hours.

    Transactions keep their order, their values and their labels: what changes is
    when they happen.
    """

    hours: Annotated[
        tuple[Hour, ...], Field(min_length=1, max_length=HOURS_PER_DAY - 1), AfterValidator(_distinct)
    ]
    share: Share


class Zeroed(_Change):
    """A share of a column's values becomes 0, until a later change of that share.

    A feed that lost the column and sends 0 in its place: so it comes after any
    shift and scale.
    """

    column: str
    zeroed: Share


_KINDS = ("shift", "scale", "fraud_rate", "new_pattern", "hours", "zeroed")


def _kind(value: Any) -> str | None:
    if not isinstance(value, dict):
        return next((kind for kind in _KINDS if hasattr(value, kind)), None)
    kinds = [kind for kind in _KINDS if kind in value]
    return kinds[0] if len(kinds) == 1 else None


Drift = Annotated[
    Annotated[Shift, Tag("shift")]
    | Annotated[Scale, Tag("scale")]
    | Annotated[FraudRate, Tag("fraud_rate")]
    | Annotated[NewPattern, Tag("new_pattern")]
    | Annotated[Hours, Tag("hours")]
    | Annotated[Zeroed, Tag("zeroed")],
    Discriminator(
        _kind,
        custom_error_type="drift_kind",
        custom_error_message=(
            "A drift is a mapping with exactly one of `shift`, `scale`, `zeroed` (these with `column`), "
            "`fraud_rate`, `new_pattern` or `hours` (with `share`), and optionally `from`, the second it "
            "begins at"
        ),
    ),
]

AnyChange = TypeVar("AnyChange", bound=_Change)


def in_order(drift: Iterable[_Change], kind: type[AnyChange]) -> list[AnyChange]:
    """Pick the changes of one kind, by their beginning."""
    return sorted((change for change in drift if isinstance(change, kind)), key=lambda change: change.start)


def share_in_force(
    seconds: NDArray[np.int64], beginnings: Iterable[tuple[float, float]]
) -> NDArray[np.float64]:
    """Look up the share at given times: that of the last change that has begun.

    Parameters
    ----------
    seconds : ndarray of shape (n_rows,)
    beginnings : iterable of (float, float)
        From which second on which share holds, in order of time.

    Returns
    -------
    ndarray of shape (n_rows,)
        0 before the first change.
    """
    shares = np.zeros(len(seconds))
    for start, share in beginnings:
        shares[seconds >= start] = share
    return shares
