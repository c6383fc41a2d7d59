"""Makes a profile in one streamed pass: columns become sketches, times become bins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray
from scipy.stats import binomtest

from fraud_kedro.profiling.profile import (
    HOURS,
    QUANTILE_LEVELS,
    ClassProfile,
    ColumnProfile,
    DataProfile,
    HourShares,
    PeriodRate,
    Rate,
    Scale,
    Share,
)
from fraud_kedro.profiling.sketch import Sketch, pick_centre, separation
from fraud_kedro.schema import SECONDS_PER_DAY, ResolvedSchema

_TIME_BINS = 48
_BINS = 40
# Columns whose bins reach further than so many times their middle half get bins that widen outwards.
_HEAVY_TAIL = 8
_ROWS_FOR_CENTRE = 10_000
# Cells of the table in memory at once, a few times over.
_CELLS_PER_BATCH = 4_000_000

_LEGITIMATE, _FRAUD = 0, 1


def profile_transactions(
    frame: pl.LazyFrame, schema: ResolvedSchema, counts: Mapping[str, float]
) -> DataProfile:
    """Profile a validated table in one streamed pass.

    Parameters
    ----------
    frame : LazyFrame
        Validated, without duplicates.
    schema : ResolvedSchema
    counts : mapping
        ``duplicates``: how many rows were dropped.

    Returns
    -------
    DataProfile
    """
    scan = _Scan.prepare(frame, schema)
    rows_at_once = min(max(_CELLS_PER_BATCH // len(schema.columns), 1_000), 131_072)
    table = frame.select(schema.columns)
    for batch in table.collect_batches(chunk_size=rows_at_once, maintain_order=True, engine="streaming"):
        scan.add(batch)
    columns = tuple(scan.column(name) for name in scan.centres)
    known = [(c.name, [p for p in (c.legitimate, c.fraud) if p is not None]) for c in columns]
    return DataProfile(
        roles=schema,
        label_rate=scan.label_rate(),
        duplicates=int(counts["duplicates"]),
        missing={name: scan.missing[name] for name in schema.columns},
        ranges={
            name: (min(p.low for p in parts), max(p.high for p in parts)) for name, parts in known if parts
        },
        columns=columns,
        periods=scan.periods(),
        hours=scan.hours() if schema.time_use == "hour_of_day" else None,
    )


@dataclass
class _Scan:
    """What has been seen of the rows so far."""

    schema: ResolvedSchema
    centres: dict[str, float]
    time_edges: NDArray[np.float64]
    sketches: dict[tuple[str, int], Sketch] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        periods = self.time_edges.size - 1
        self._rows = np.zeros((2, periods), dtype=np.int64)
        self._weights = np.zeros((2, periods))
        self._hours = np.zeros((2, HOURS), dtype=np.int64)

    @classmethod
    def prepare(cls, frame: pl.LazyFrame, schema: ResolvedSchema) -> _Scan:
        columns = [
            c for c in schema.columns if c not in (schema.label, schema.transaction_id, schema.sample_weight)
        ]
        first_rows = frame.select(columns).head(_ROWS_FOR_CENTRE).collect(engine="streaming")
        centres = {name: pick_centre(first_rows[name].drop_nulls().to_numpy()) for name in columns}
        time = pl.col(schema.time)
        bounds = frame.select(time.min().alias("first"), time.max().alias("last")).collect(engine="streaming")
        first, last = bounds.row(0)
        edges = np.unique(np.linspace(first or 0.0, last or 0.0, _TIME_BINS + 1))
        return cls(schema, centres, edges if edges.size > 1 else edges.repeat(2))

    def add(self, batch: pl.DataFrame) -> None:
        """Count a batch's rows."""
        absent = batch.select(cs.float().is_finite().not_().sum())
        for part in (batch.null_count(), absent):
            for name, count in part.row(0, named=True).items():
                self.missing[name] += count
        for label in (_LEGITIMATE, _FRAUD):
            rows = batch.filter(pl.col(self.schema.label) == label)
            if rows.height:
                self._add_times(rows, label)
                for name, centre in self.centres.items():
                    self._add_values(name, label, rows[name].drop_nulls().to_numpy(), centre)

    def _add_values(self, name: str, label: int, values: NDArray[np.float64], centre: float) -> None:
        before = self.sketches.get((name, label))
        seen_many = before is not None and before.values is None
        sketch = Sketch.of(values, centre, count_values=not seen_many)
        self.sketches[name, label] = sketch if before is None else before.merge(sketch)

    def _add_times(self, rows: pl.DataFrame, label: int) -> None:
        weight = self.schema.sample_weight
        rows = rows.filter(pl.col(self.schema.time).is_finite())
        times = rows[self.schema.time].to_numpy()
        periods = self._rows.shape[1]
        # The last moment belongs to the last period.
        place = np.clip(np.searchsorted(self.time_edges, times, side="right") - 1, 0, periods - 1)
        self._rows[label] += np.bincount(place, minlength=periods)
        if weight is not None:
            self._weights[label] += np.bincount(place, rows[weight].fill_null(0.0).to_numpy(), periods)
        hours = np.minimum(times % SECONDS_PER_DAY // (SECONDS_PER_DAY / HOURS), HOURS - 1)
        self._hours[label] += np.bincount(hours.astype(np.int64), minlength=HOURS)

    def label_rate(self) -> Rate:
        """Over all periods."""
        return self._rate(self._rows.sum(axis=1), self._weights.sum(axis=1))

    def periods(self) -> tuple[PeriodRate, ...]:
        """One for each part of the time."""
        return tuple(
            PeriodRate(
                start=float(self.time_edges[index]),
                end=float(self.time_edges[index + 1]),
                rate=self._rate(self._rows[:, index], self._weights[:, index]),
            )
            for index in range(self._rows.shape[1])
        )

    def hours(self) -> HourShares:
        """Rows by hour of the day."""
        return HourShares(
            legitimate=tuple(self._hours[_LEGITIMATE].tolist()), fraud=tuple(self._hours[_FRAUD].tolist())
        )

    def _rate(self, rows: NDArray[np.int64], weights: NDArray[np.float64]) -> Rate:
        total, frauds = int(rows.sum()), int(rows[_FRAUD])
        share = _wilson(frauds, total) if total else None
        if self.schema.sample_weight is None:
            return Rate(rows=total, frauds=frauds, share=share)
        # A class without a row here weighs what it weighs in the whole table.
        overall = self._weights.sum(axis=1) / np.maximum(self._rows.sum(axis=1), 1)
        mean = np.where(rows > 0, weights / np.maximum(rows, 1), overall)
        return Rate(
            rows=total,
            frauds=frauds,
            share=share,
            weighted_rows=float(weights.sum()),
            weighted_frauds=float(weights[_FRAUD]),
            weighted_share=_reweighted(share, mean) if share else None,
        )

    def column(self, name: str) -> ColumnProfile:
        """The profile of what was seen of a column."""
        nothing = Sketch.of(np.zeros(0), self.centres[name])
        legitimate, fraud = (self.sketches.get((name, label), nothing) for label in (_LEGITIMATE, _FRAUD))
        both = legitimate.merge(fraud)
        scale, edges = _bins(legitimate, fraud, both)
        auc, ks = separation(legitimate, fraud) if legitimate.count and fraud.count else (None, None)
        return ColumnProfile(
            name=name,
            distinct=None if both.values is None else len(both.values),
            scale=scale,
            edges=tuple(edges.tolist()),
            legitimate=_class_profile(legitimate, edges),
            fraud=_class_profile(fraud, edges),
            auc=auc,
            ks=ks,
        )


def _wilson(frauds: int, rows: int) -> Share:
    interval = binomtest(frauds, rows).proportion_ci(method="wilson")
    return Share(value=frauds / rows, low=float(interval.low), high=float(interval.high))


def _reweighted(share: Share, mean_weights: NDArray[np.float64]) -> Share | None:
    legitimate, fraud = mean_weights.tolist()

    def at_odds(value: float) -> float:
        return float(fraud * value / (fraud * value + legitimate * (1 - value)))

    if not (legitimate > 0 and fraud > 0):
        return None
    return Share(value=at_odds(share.value), low=at_odds(share.low), high=at_odds(share.high))


def _class_profile(sketch: Sketch, edges: NDArray[np.float64]) -> ClassProfile | None:
    if not sketch.count:
        return None
    return ClassProfile(
        count=sketch.count,
        mean=sketch.mean,
        std=sketch.std,
        low=sketch.low,
        high=sketch.high,
        quantiles=sketch.quantiles(QUANTILE_LEVELS),
        zeros=sketch.zeros,
        bins=tuple(sketch.counts_between(edges).tolist()),
    )


def _bins(legitimate: Sketch, fraud: Sketch, both: Sketch) -> tuple[Scale, NDArray[np.float64]]:
    """Edges between which both classes have 98 % of their rows."""
    if both.values is not None:
        values = np.array(sorted(both.values))
        return "values", np.append(values, np.nextafter(values[-1:], np.inf))
    parts = [sketch.quantiles((0.01, 0.99)) for sketch in (legitimate, fraud) if sketch.count]
    low, high = min(part[0] for part in parts), max(part[1] for part in parts)
    if low == high:
        low, high = both.low, both.high
    q1, q5, q25, q75, q95, q99 = both.quantiles((0.01, 0.05, 0.25, 0.75, 0.95, 0.99))
    core = next(width for width in (q75 - q25, q95 - q5, q99 - q1, high - low) if width > 0)
    if high - low <= _HEAVY_TAIL * core:
        return "linear", np.unique(np.linspace(low, high, _BINS + 1))
    # Nearly linear within the middle half, logarithmic far from it.
    unit = core / 2
    steps = np.linspace(
        np.arcsinh((low - both.centre) / unit), np.arcsinh((high - both.centre) / unit), _BINS + 1
    )
    return "widening", np.unique(np.clip(both.centre + unit * np.sinh(steps), low, high))
