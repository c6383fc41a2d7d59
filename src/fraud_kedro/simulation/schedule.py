"""When transactions happen and which of them are frauds, before any is drawn.

The schedule holds a few counts per second of the table's time span, whatever the
number of rows. Blocks of consecutive rows follow from it one by one, so a table
sorted by time never has to be in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.simulation.drift import FraudRate, Hours, in_order
from fraud_kedro.simulation.options import SimulationError, SimulationOptions
from fraud_kedro.simulation.statistics import HOURS_PER_DAY, ClassStatistics, TableStatistics

BLOCK_ROWS = 32_768
SECONDS_PER_HOUR = 3_600


@dataclass(frozen=True)
class Block:
    """Consecutive distinct rows of the table.

    Attributes
    ----------
    number : int
        Position among the blocks; the seed of its values hangs on it.
    seconds : ndarray of shape (n_rows,), int64
        Time of each row, ascending.
    is_fraud : ndarray of shape (n_rows,), bool
    """

    number: int
    seconds: NDArray[np.int64]
    is_fraud: NDArray[np.bool_]


@dataclass(frozen=True)
class Schedule:
    """Transactions and frauds in each second.

    Attributes
    ----------
    transactions, frauds : ndarray of shape (time_span_seconds,), int64
        Counts of distinct rows.
    offsets : ndarray of shape (time_span_seconds,), int64
        Position of the first fraud among the second's transactions.
    times : ndarray of shape (time_span_seconds,), int64
        Transactions by the second they happen in, which a drift of the hours
        changes; `transactions` and `frauds` then fix their order alone.
    """

    transactions: NDArray[np.int64]
    frauds: NDArray[np.int64]
    offsets: NDArray[np.int64]
    times: NDArray[np.int64]

    @classmethod
    def draw(cls, options: SimulationOptions, statistics: TableStatistics, rng: np.random.Generator) -> Self:
        """Spread exact numbers of transactions over the seconds by hour-of-day shares.

        Raises
        ------
        SimulationError
            If the changes of the fraud rate leave a stretch of time no frauds or
            transactions to draw.
        """
        repeated_legitimate, repeated_frauds = options.duplicate_counts(statistics)
        fraud_count = options.fraud_count(statistics) - repeated_frauds
        legitimate_count = options.rows - options.fraud_count(statistics) - repeated_legitimate
        span = statistics.time_span_seconds
        legitimate = np.zeros(span, dtype=np.int64)
        frauds = np.zeros(span, dtype=np.int64)
        legitimate_share = _share_of_second(statistics.legitimate, span)
        fraud_share = _share_of_second(statistics.fraud, span)
        stretches = _stretches(options, legitimate_count, fraud_count, legitimate_share, fraud_share)
        for part, part_legitimate, part_frauds in stretches:
            for counts, count, share in (
                (legitimate, part_legitimate, legitimate_share[part]),
                (frauds, part_frauds, fraud_share[part]),
            ):
                if count and not share.sum():
                    raise SimulationError(
                        f"No transactions happen between the seconds {part.start:,} and {part.stop:,}: "
                        "let the drift begin earlier."
                    )
                counts[part] = rng.multinomial(count, share / share.sum()) if count else 0
        transactions = legitimate + frauds
        return cls(transactions, frauds, rng.integers(0, np.maximum(transactions, 1)), transactions)

    def retimed(
        self, options: SimulationOptions, statistics: TableStatistics, rng: np.random.Generator
    ) -> Self:
        """Move transactions between the hours of the day, as drifts of the hours say.

        The shares hold exactly in each stretch of time that a change of the hours
        or of the fraud rate begins or ends, so no transaction leaves its stretch.

        Raises
        ------
        SimulationError
            If a stretch has none of the hours that its transactions should move to.
        """
        span = len(self.transactions)
        busy = _share_of_second(statistics.legitimate, span)
        hour = _hour_of_second(span)
        times = self.times.copy()
        for part, change in _stretches_of_hours(options, span):
            count = int(self.transactions[part].sum())
            within = np.isin(hour[part], change.hours)
            inside = round(count * change.share)
            times[part] = 0
            for place, moved in ((within, inside), (~within, count - inside)):
                share = busy[part] * place
                if moved and not share.sum():
                    raise SimulationError(
                        f"Between the seconds {part.start:,} and {part.stop:,} there is no time "
                        f"{'in' if place is within else 'outside'} the hours {list(change.hours)}: let the "
                        "drift begin elsewhere."
                    )
                times[part] += rng.multinomial(moved, share / share.sum()) if moved else 0
        return replace(self, times=times)

    @property
    def rows(self) -> int:
        """Number of distinct rows."""
        return int(self.transactions.sum())

    def blocks(self) -> Iterator[Block]:
        """Go through the rows in order of time, `BLOCK_ROWS` at a time."""
        ends, times = np.cumsum(self.transactions), np.cumsum(self.times)
        for number, start in enumerate(range(0, self.rows, BLOCK_ROWS)):
            stop = min(start + BLOCK_ROWS, self.rows)
            first, last = np.searchsorted(ends, [start, stop - 1], side="right")
            seconds = np.arange(first, last + 1)
            begin = ends[seconds] - self.transactions[seconds]
            is_fraud = np.zeros(stop - start, dtype=bool)
            is_fraud[self._fraud_positions(seconds, begin, start, stop) - start] = True
            yield Block(number, np.searchsorted(times, np.arange(start, stop), side="right"), is_fraud)

    def _fraud_positions(
        self, seconds: NDArray[np.int64], begin: NDArray[np.int64], start: int, stop: int
    ) -> NDArray[np.int64]:
        """Spread frauds evenly among their second's transactions, from a random one on."""
        frauds = self.frauds[seconds]
        nth = np.arange(frauds.sum()) - np.repeat(np.cumsum(frauds) - frauds, frauds)
        here = np.repeat(np.arange(len(seconds)), frauds)
        transactions = self.transactions[seconds][here]
        place = (self.offsets[seconds][here] + nth * transactions // frauds[here]) % transactions
        positions = begin[here] + place
        return positions[(positions >= start) & (positions < stop)]


def _share_of_second(statistics: ClassStatistics, span: int) -> NDArray[np.float64]:
    share = np.array(statistics.hour_of_day_share)[_hour_of_second(span)]
    return np.asarray(share / share.sum())


def _hour_of_second(span: int) -> NDArray[np.int64]:
    return np.arange(span) // SECONDS_PER_HOUR % HOURS_PER_DAY


def _stretches_of_hours(options: SimulationOptions, span: int) -> Iterator[tuple[slice, Hours]]:
    """Stretches of one mix of hours and one fraud rate, from the first change of the hours on."""
    changes = in_order(options.drift, Hours)
    starts = [int(np.ceil(change.start)) for change in (*changes, *in_order(options.drift, FraudRate))]
    cuts = [*sorted(set(starts)), span]
    for start, stop in pairwise(cuts):
        begun = [change for change in changes if change.start <= start]
        if begun:
            yield slice(start, stop), begun[-1]


def _stretches(
    options: SimulationOptions,
    legitimate: int,
    frauds: int,
    legitimate_share: NDArray[np.float64],
    fraud_share: NDArray[np.float64],
) -> Iterator[tuple[slice, int, int]]:
    """Stretches of one fraud rate: seconds, legitimate transactions, frauds."""
    changes = in_order(options.drift, FraudRate)
    rows = legitimate + frauds
    rate = frauds / rows
    if not changes:
        yield slice(0, len(fraud_share)), legitimate, frauds
        return
    cuts = [0, *(int(np.ceil(change.start)) for change in changes), len(fraud_share)]
    busy = np.concatenate([[0.0], np.cumsum((1 - rate) * legitimate_share + rate * fraud_share)])
    borders = np.round(rows * busy[cuts]).astype(int)
    for position, stretch_rate in enumerate([rate, *(change.fraud_rate for change in changes)]):
        stretch_rows = int(borders[position + 1] - borders[position])
        stretch_frauds = round(stretch_rows * stretch_rate)
        yield slice(cuts[position], cuts[position + 1]), stretch_rows - stretch_frauds, stretch_frauds
