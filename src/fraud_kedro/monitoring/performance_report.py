"""What performance over time looks like: the document that pipelines write and the service answers."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fraud_kedro.evaluation.thresholds import Costs
from fraud_kedro.monitoring.settled import LabelOptions
from fraud_kedro.options import Options

Period = Literal["day", "week"]


class Figure(Options):
    """A figure with its 95 % bootstrap interval, null where too few draws define it."""

    value: float
    low: float | None = None
    high: float | None = None


class Figures(Options):
    """What labels say; `expected_cost` and `savings` are null where amounts are not logged."""

    recall: Figure
    precision: Figure
    average_precision: Figure
    expected_cost: Figure | None = None
    savings: Figure | None = None


class Estimate(Options):
    """What the calibrated probabilities promise, before any label: as true as the calibration is.

    A figure is null where nothing defines it, such as precision where nothing was
    flagged.
    """

    frauds: float
    recall: float | None
    precision: float | None
    average_precision: float | None
    expected_cost: float | None = None
    savings: float | None = None


class Declined(Options):
    """Declined transactions never mature: only reviewed ones have a label, and count in the figures."""

    transactions: int
    reviewed: int
    frauds: int


class Scored(Options):
    """One version's transactions of some time.

    Attributes
    ----------
    settled, waiting : int
        Transactions that are known to be one thing or the other, and those too
        young for that; of the rest nothing will be known.
    basis : {"labels", "estimate"}
        Whether `figures` are there, or the estimate has to do.
    """

    model_version: str
    predictions: int
    flagged: int
    settled: int
    waiting: int
    frauds: int
    declined: Declined
    basis: Literal["labels", "estimate"]
    figures: Figures | None
    figures_problem: str | None
    estimate: Estimate


class ScoredPeriod(Scored):
    """One version's transactions that arrived in ``[start, end)``, UTC."""

    start: datetime
    end: datetime


class Performance(Options):
    """Performance over time, from the prediction log and the labels that have come.

    Attributes
    ----------
    as_of : datetime
        What was known then.
    since, until : datetime
        First and last arrival looked at.
    is_all : bool
        Whether no older transaction within the days was left out.
    labels_without_prediction : int
        Labelled transactions that the log does not have (yet).
    from_the_future : int
        Transactions that arrived later than now, by the clock of another host.
    versions : tuple of Scored
        Each version over all of the time.
    periods : tuple of ScoredPeriod
        Oldest first.
    """

    as_of: datetime
    since: datetime
    until: datetime
    by: Period
    rows: int
    is_all: bool
    labels: LabelOptions
    prices: Costs
    labels_without_prediction: int
    from_the_future: int
    versions: tuple[Scored, ...]
    periods: tuple[ScoredPeriod, ...]

    def of_version(self, name: str) -> Scored | None:
        """One version over all of the time, None if it has scored nothing."""
        return next((version for version in self.versions if version.model_version == name), None)
