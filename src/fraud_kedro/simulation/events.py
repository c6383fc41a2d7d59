"""A simulated table as a stream: transactions in order of time, and their labels when they become known."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from fraud_kedro.simulation.label_delay import ConstantDelay, LabelDelay
from fraud_kedro.simulation.options import MAXIMUM_ROWS, OutsideOptions, SimulationOptions
from fraud_kedro.simulation.random_streams import Part, random_stream
from fraud_kedro.simulation.simulator import simulate
from fraud_kedro.simulation.statistics import ulb_statistics

# Midnight, so that the hours of the table are hours of the day.
DEFAULT_ORIGIN = datetime(2013, 9, 1, tzinfo=UTC)
# Far enough within the calendar for every delay.
_EARLIEST, _LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_ROW_DIGITS = len(str(MAXIMUM_ROWS - 1))

LabelsReported = Literal["fraud", "all", "none"]


@dataclass(frozen=True, slots=True)
class TransactionEvent:
    """A transaction, as a card system knows it: without its label.

    Attributes
    ----------
    transaction_id : str
        ``<prefix>-<seed>-<row>``; ids sort as the table does.
    event_time : datetime
        In UTC.
    features : mapping of str to float
        Every column of the table but the label.
    """

    transaction_id: str
    event_time: datetime
    features: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LabelEvent:
    """What has become known of an earlier transaction.

    Attributes
    ----------
    transaction_id : str
    event_time : datetime
        When it became known, in UTC.
    label : int
        1 is fraud, 0 legitimate.
    """

    transaction_id: str
    event_time: datetime
    label: int


Event = TransactionEvent | LabelEvent


class StreamOptions(OutsideOptions):
    """What is streamed, and when labels come.

    Attributes
    ----------
    table : SimulationOptions
        The table that is streamed, row by row.
    label_delay : LabelDelay, default 7 days
        From a transaction to its label.
    labels : {"fraud", "all", "none"}, default "fraud"
        Chargebacks report frauds only; of the rest nothing is ever heard.
    origin : datetime, default 2013-09-01 in UTC
        The moment that second 0 of the table stands for, with its time zone.
    id_prefix : str, default "sim"
        Beginning of the ids, to tell streams of one seed apart.
    """

    purpose: ClassVar[str] = "stream this"

    table: SimulationOptions = SimulationOptions()
    label_delay: LabelDelay = ConstantDelay(seconds=7 * 86_400)
    labels: LabelsReported = "fraud"
    origin: Annotated[AwareDatetime, Field(ge=_EARLIEST, lt=_LATEST)] = DEFAULT_ORIGIN
    id_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "sim"

    def transaction_id(self, row: int) -> str:
        """Name the transaction in a row of the table, counted from 0."""
        return f"{self.id_prefix}-{self.table.seed}-{row:0{_ROW_DIGITS}}"


def stream(options: StreamOptions) -> Iterator[Event]:
    """Go through a simulated table as time does.

    Parameters
    ----------
    options : StreamOptions

    Yields
    ------
    TransactionEvent or LabelEvent
        In order of event time. Each row of the table is one transaction event;
        its label event, if it is reported, comes once, never before it. At the
        same moment transactions come first.

    Raises
    ------
    SimulationError
        If a drift cannot be reached.

    Notes
    -----
    The rows are those of `simulate` with ``options.table``. Memory holds a block
    of the table and one short entry per label that is still to come.
    """
    statistics = ulb_statistics()
    origin = options.origin.astimezone(UTC)
    # Due second, row, label: in the order they are to be reported.
    pending: list[tuple[float, int, int]] = []

    def report() -> LabelEvent:
        due, row, label = heapq.heappop(pending)
        return LabelEvent(options.transaction_id(row), origin + timedelta(seconds=due), label)

    row = 0
    for number, block in enumerate(simulate(options.table)):
        # Drawn for every row, so that a fraud's delay does not depend on which labels are reported.
        rng = random_stream(options.table.seed, Part.LABEL_DELAY, number)
        due = block[statistics.time_column].to_numpy() + options.label_delay.draw(block.height, rng)
        labels = block[statistics.label_column].to_list()
        features = block.drop(statistics.label_column).iter_rows(named=True)
        for seconds, label, values in zip(due.tolist(), labels, features, strict=True):
            now = values[statistics.time_column]
            while pending and pending[0][0] < now:
                yield report()
            yield TransactionEvent(options.transaction_id(row), origin + timedelta(seconds=now), values)
            if options.labels == "all" or (options.labels == "fraud" and label):
                heapq.heappush(pending, (seconds, row, label))
            row += 1
    while pending:
        yield report()
