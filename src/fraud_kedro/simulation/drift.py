"""Changes that can be injected into a simulated table from some time on."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]


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


_KINDS = ("shift", "scale", "fraud_rate", "new_pattern")


def _kind(value: Any) -> str | None:
    if not isinstance(value, dict):
        return next((kind for kind in _KINDS if hasattr(value, kind)), None)
    kinds = [kind for kind in _KINDS if kind in value]
    return kinds[0] if len(kinds) == 1 else None


Drift = Annotated[
    Annotated[Shift, Tag("shift")]
    | Annotated[Scale, Tag("scale")]
    | Annotated[FraudRate, Tag("fraud_rate")]
    | Annotated[NewPattern, Tag("new_pattern")],
    Discriminator(
        _kind,
        custom_error_type="drift_kind",
        custom_error_message=(
            "A drift is a mapping with exactly one of `shift`, `scale` (both with `column`), `fraud_rate` or "
            "`new_pattern`, and optionally `from`, the second it begins at"
        ),
    ),
]
