"""The simulated table, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_kedro.simulation.drift import NewPattern, Scale, Shift, Zeroed, in_order, share_in_force
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.overlap import separation
from fraud_kedro.simulation.random_streams import Part, random_stream
from fraud_kedro.simulation.sampler import ClassSampler
from fraud_kedro.simulation.schedule import Block, Schedule
from fraud_kedro.simulation.statistics import TableStatistics, ulb_statistics

# A new pattern shows in this many of the columns that hardly told the classes apart.
_PATTERN_COLUMNS = 4
_PATTERN_MEAN, _PATTERN_SPREAD = 2.0, 0.5


def column_types() -> dict[str, type[pl.DataType]]:
    """Names and polars types of the table's columns, in order."""
    statistics = ulb_statistics()
    names = (statistics.time_column, *statistics.columns)
    return {**{name: pl.Float64 for name in names}, statistics.label_column: pl.Int8}


def simulate(options: SimulationOptions, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
    """Draw a table of card transactions, sorted by time.

    Parameters
    ----------
    options : SimulationOptions
        Rows, frauds, seed, duplicates and drift.
    columns : sequence of str, optional
        The columns to return, in this order; all by default. The values do not
        depend on the choice.

    Yields
    ------
    polars.DataFrame
        About 32,768 rows each: time in whole seconds (Float64), features
        (Float64), amount in euro with cents (Float64, not negative), label
        (Int8, 1 is fraud). Their sequence is the table, however it is cut.

    Raises
    ------
    SimulationError
        If a drift of the fraud rate or of the hours cannot be reached.

    Notes
    -----
    Frauds are exact in number. Memory holds one block and two counts per second
    of the time span, whatever the number of rows.
    """
    statistics = ulb_statistics()
    names = list(column_types()) if columns is None else list(columns)
    schedule = Schedule.draw(options, statistics, random_stream(options.seed, Part.SCHEDULE))
    schedule = schedule.retimed(options, statistics, random_stream(options.seed, Part.HOURS))
    repeated = _repeated_per_block(schedule, options, statistics)
    for block, repeats in zip(schedule.blocks(), repeated, strict=True):
        rng = random_stream(options.seed, Part.BLOCK, block.number)
        drawn = _draw(block, options, statistics, names, rng)
        yield drawn if not repeats.any() else drawn[_with_repeats(block, repeats, rng)]


@cache
def _samplers() -> tuple[ClassSampler, ClassSampler]:
    statistics = ulb_statistics()
    return ClassSampler.of(statistics, of_fraud=False), ClassSampler.of(statistics, of_fraud=True)


def _repeated_per_block(
    schedule: Schedule, options: SimulationOptions, statistics: TableStatistics
) -> NDArray[np.int64]:
    """How many legitimate rows and frauds of each block occur twice, shape (n_blocks, 2)."""
    sizes = np.array([(len(b.is_fraud) - b.is_fraud.sum(), b.is_fraud.sum()) for b in schedule.blocks()])
    counts = np.array(options.duplicate_counts(statistics))
    # A drift of the fraud rate may have left fewer rows of a class than are to be repeated.
    missing = np.maximum(counts - sizes.sum(axis=0), 0)
    counts += missing[::-1] - missing
    rng = random_stream(options.seed, Part.DUPLICATES)
    drawn = [
        rng.multivariate_hypergeometric(size, count, method="marginals")
        for size, count in zip(sizes.T, counts, strict=True)
    ]
    return np.stack(drawn, axis=1)


def _with_repeats(block: Block, repeats: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Row numbers of the block, with the chosen rows twice in succession."""
    times = np.ones(len(block.is_fraud), dtype=np.int64)
    for is_fraud, count in zip((False, True), repeats, strict=True):
        rows = np.flatnonzero(block.is_fraud == is_fraud)
        times[rng.choice(rows, size=int(count), replace=False)] = 2
    return np.repeat(np.arange(len(times)), times)


def _draw(
    block: Block,
    options: SimulationOptions,
    statistics: TableStatistics,
    names: Sequence[str],
    rng: np.random.Generator,
) -> pl.DataFrame:
    legitimate, fraud = _samplers()
    fraud_rows = np.flatnonzero(block.is_fraud)
    legitimate_rows = np.flatnonzero(~block.is_fraud)
    scores = legitimate.scores(len(legitimate_rows), rng)
    fraud_scores = fraud.scores(len(fraud_rows), rng)
    patterned = _new_pattern(block.seconds[fraud_rows], options, rng)
    pattern_scores = legitimate.scores(int(patterned.sum()), rng)
    shown = np.argsort(separation(statistics))[:_PATTERN_COLUMNS]
    pattern_scores[shown] = _PATTERN_MEAN + _PATTERN_SPREAD * pattern_scores[shown]

    data: dict[str, NDArray[np.generic]] = {}
    for name in names:
        if name == statistics.time_column:
            data[name] = block.seconds.astype(np.float64)
        elif name == statistics.label_column:
            data[name] = block.is_fraud.astype(np.int8)
        else:
            column = statistics.columns.index(name)
            values = np.empty(len(block.seconds))
            values[legitimate_rows] = legitimate.values(column, scores[column])
            values[fraud_rows] = fraud.values(column, fraud_scores[column])
            values[fraud_rows[patterned]] = legitimate.values(column, pattern_scores[column])
            values = _drifted(name, values, block.seconds, options)
            values[_zeroed(name, column, block, options)] = 0.0
            data[name] = _in_cents(values) if name == statistics.amount_column else values
    return pl.DataFrame(data)


def _new_pattern(
    seconds: NDArray[np.int64], options: SimulationOptions, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which of the frauds at the given times follow a new pattern."""
    chance = rng.random(len(seconds))
    changes = in_order(options.drift, NewPattern)
    return chance < share_in_force(seconds, ((change.start, change.new_pattern) for change in changes))


def _drifted(
    name: str, values: NDArray[np.float64], seconds: NDArray[np.int64], options: SimulationOptions
) -> NDArray[np.float64]:
    """Apply the column's changes, in the order they were given."""
    for change in options.drift:
        if isinstance(change, Shift) and change.column == name:
            values = np.where(seconds >= change.start, values + change.shift, values)
        elif isinstance(change, Scale) and change.column == name:
            values = np.where(seconds >= change.start, values * change.scale, values)
    return values


def _zeroed(name: str, column: int, block: Block, options: SimulationOptions) -> NDArray[np.bool_]:
    """Which of the block's rows have lost their value of the column."""
    changes = [change for change in in_order(options.drift, Zeroed) if change.column == name]
    if not changes:
        return np.zeros(len(block.seconds), dtype=bool)
    # A stream of its own for each column, so that values do not depend on which columns are asked for.
    chance = random_stream(options.seed, Part.ZEROED, block.number, column).random(len(block.seconds))
    return chance < share_in_force(block.seconds, ((change.start, change.zeroed) for change in changes))


def _in_cents(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.round(np.maximum(values, 0.0), 2), dtype=np.float64)
