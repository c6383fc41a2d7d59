"""The profile of a table: what its columns hold, by class and over time.

Rows are counted as they are; where the table has a sample weight, weighted
counts stand beside the raw ones.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from fraud_kedro.profiling.sketch import RELATIVE_ERROR
from fraud_kedro.schema import ResolvedSchema

QUANTILE_LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
HOURS = 24

Scale = Literal["values", "linear", "widening"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassProfile(_Record):
    """One class of one column.

    Attributes
    ----------
    count : int
        Rows with a finite value.
    quantiles : tuple of float
        At `QUANTILE_LEVELS`. Exact for a column of few distinct values, else
        within a thousandth of the value (of its distance from the column's
        middle, if the column lies far from zero).
    zeros : int
        Values equal to 0.
    bins : tuple of int
        Rows below the first edge, between consecutive edges, and from the last
        edge on: all of `count`.
    """

    count: int
    mean: float
    std: float
    low: float
    high: float
    quantiles: tuple[float, ...]
    zeros: int
    bins: tuple[int, ...]


class ColumnProfile(_Record):
    """One numeric column.

    Attributes
    ----------
    distinct : int or None
        Number of distinct values; None if there are many.
    scale : {"values", "linear", "widening"}
        One bin for each value, bins of equal width, or bins that widen with the
        distance from the middle.
    edges : tuple of float
        Common to both classes; none without values. With the scale ``values`` each
        bin starts at its value.
    legitimate, fraud : ClassProfile or None
        None if the class has no value.
    auc : float or None
        ROC AUC of the column by itself; below 0.5 if frauds have the smaller values.
    ks : float or None
        Kolmogorov-Smirnov distance between the classes.
    """

    name: str
    distinct: int | None
    scale: Scale
    edges: tuple[float, ...]
    legitimate: ClassProfile | None
    fraud: ClassProfile | None
    auc: float | None
    ks: float | None


class Share(_Record):
    """A share of frauds with its 95 % Wilson interval."""

    value: float
    low: float
    high: float


class Rate(_Record):
    """Frauds among rows.

    Attributes
    ----------
    share : Share or None
        None without rows.
    weighted_rows, weighted_frauds : float or None
        Sums of the sample weight, if there is one.
    weighted_share : Share or None
        `share` at the odds that the classes' mean weights make of it.
    """

    rows: int
    frauds: int
    share: Share | None
    weighted_rows: float | None = None
    weighted_frauds: float | None = None
    weighted_share: Share | None = None

    @property
    def estimate(self) -> Share | None:
        """The share in what the table stands for: weighted, if there are weights."""
        return self.weighted_share or self.share


class PeriodRate(_Record):
    """Label rate between two moments, in seconds as in the table."""

    start: float
    end: float
    rate: Rate


class HourShares(_Record):
    """Rows of each class in each hour of the day."""

    legitimate: tuple[int, ...]
    fraud: tuple[int, ...]


class DataProfile(_Record):
    """What a table holds.

    Attributes
    ----------
    roles : ResolvedSchema
    label_rate : Rate
        Over all rows.
    duplicates : int
        Rows left out because they equal an earlier one.
    missing : dict
        Cells without a finite value, by column.
    ranges : dict
        Lowest and highest value, by column.
    periods : tuple of PeriodRate
        Equal parts of the time from the first transaction to the last.
    hours : HourShares or None
        If the time is used as hour of the day.
    """

    roles: ResolvedSchema
    label_rate: Rate
    duplicates: int
    missing: dict[str, int]
    ranges: dict[str, tuple[float, float]]
    columns: tuple[ColumnProfile, ...]
    periods: tuple[PeriodRate, ...]
    hours: HourShares | None
    quantile_levels: tuple[float, ...] = QUANTILE_LEVELS
    quantile_error: float = RELATIVE_ERROR
