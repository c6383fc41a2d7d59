"""A column's distribution in bounded memory, from one pass over its values.

Values are counted in buckets whose width is 1/512 of the power of two below
their distance from a centre, like the buckets of a floating-point number with
nine mantissa bits. So a quantile is known to a thousandth of its distance from
the centre, whether the column holds cents, epoch seconds or 1e300, and nobody
has to know the range in advance. Sketches of parts of a table merge to that of
the whole table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A quantile lies this far from the true one at most, as a share of its distance from the centre.
RELATIVE_ERROR = 2.0**-10
# Up to so many distinct values are kept as they are; then quantiles are exact.
MOST_VALUES = 40

_SHIFT = 52 - 9
_MAGNITUDE = np.int64(2**63 - 1)


@dataclass(frozen=True, eq=False)
class Sketch:
    """Counts, moments and buckets of a column's finite values.

    Attributes
    ----------
    centre : float
        Where buckets are narrowest; sketches merge if theirs is the same.
    count, zeros : int
        Finite values, and those that are 0.
    low, high, mean : float
        NaN without values.
    spread : float
        Square root of the sum of squared deviations from the mean: unlike the
        sum itself it does not overflow.
    at_centre : int
        Values equal to the centre.
    first_bucket : int
        Number of the narrowest bucket counted.
    buckets : ndarray of shape (2, n_buckets), int64
        Values below and above the centre, from the centre outwards.
    values : dict or None
        Count of each distinct value; None if there are more than `MOST_VALUES`.
    """

    centre: float
    count: int
    zeros: int
    low: float
    high: float
    mean: float
    spread: float
    at_centre: int
    first_bucket: int
    buckets: NDArray[np.int64]
    values: dict[float, int] | None

    @classmethod
    def of(cls, values: NDArray[np.float64], centre: float = 0.0, *, count_values: bool = True) -> Sketch:
        """Sketch an array; values that are not finite are left out.

        Parameters
        ----------
        values : ndarray of shape (n_values,)
        centre : float, default 0
        count_values : bool, default True
            Whether to look for few distinct values; False where it is known
            that there are many.
        """
        finite = np.isfinite(values)
        if not finite.all():
            values = values[finite]
        if values.size == 0:
            nothing = np.zeros((2, 0), dtype=np.int64)
            return cls(centre, 0, 0, math.nan, math.nan, math.nan, 0.0, 0, 0, nothing, {})
        low, high, mean = float(values.min()), float(values.max()), float(values.mean())
        at_centre, first_bucket, buckets = _count_buckets(values, centre)
        return cls(
            centre=centre,
            count=values.size,
            zeros=int(values.size - np.count_nonzero(values)) if low <= 0 <= high else 0,
            low=low,
            high=high,
            mean=mean,
            spread=_spread(values, mean, max(high - mean, mean - low)),
            at_centre=at_centre,
            first_bucket=first_bucket,
            buckets=buckets,
            values=_few_values(values) if count_values else None,
        )

    def merge(self, other: Sketch) -> Sketch:
        """The sketch of both sketches' values together."""
        if not self.count:
            return other
        if not other.count:
            return self
        if self.centre != other.centre:
            raise ValueError(f"Sketches around {self.centre!r} and {other.centre!r} do not merge.")
        count = self.count + other.count
        step = other.mean - self.mean
        first, buckets = _add_buckets(self, other)
        return Sketch(
            centre=self.centre,
            count=count,
            zeros=self.zeros + other.zeros,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            mean=self.mean + step * (other.count / count),
            spread=math.hypot(self.spread, other.spread, step * math.sqrt(self.count / count * other.count)),
            at_centre=self.at_centre + other.at_centre,
            first_bucket=first,
            buckets=buckets,
            values=_add_values(self.values, other.values),
        )

    @property
    def std(self) -> float:
        """Standard deviation with n - 1; 0 of a single value."""
        return self.spread / math.sqrt(max(self.count - 1, 1))

    def cells(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Lower ends, upper ends and counts of what holds values, in increasing order.

        A cell is a bucket, or a single value where there are few.
        """
        if self.values is not None:
            known = np.array(sorted(self.values))
            return known, known, np.array([self.values[value] for value in known], dtype=np.int64)
        numbers = np.arange(self.first_bucket, self.first_bucket + self.buckets.shape[1] + 1, dtype=np.int64)
        edges = (numbers << _SHIFT).view(np.float64)
        near, far = edges[:-1], edges[1:]
        lower = self.centre + np.concatenate([-far[::-1], [0.0], near])
        upper = self.centre + np.concatenate([-near[::-1], [0.0], far])
        counts = np.concatenate([self.buckets[0, ::-1], [self.at_centre], self.buckets[1]])
        held = counts > 0
        return (
            np.clip(lower[held], self.low, self.high),
            np.clip(upper[held], self.low, self.high),
            counts[held],
        )

    def quantiles(self, levels: Sequence[float]) -> tuple[float, ...]:
        """Order statistics: of n values, number ceil(level * n).

        Exact where there are few distinct values, else off by `RELATIVE_ERROR`
        times the distance from the centre at most.
        """
        lower, upper, counts = self.cells()
        ranks = np.maximum(np.ceil(np.asarray(levels) * self.count), 1)
        found = np.searchsorted(np.cumsum(counts), ranks)
        return tuple(float(value) for value in _middle(lower, upper)[found])

    def counts_between(self, edges: NDArray[np.float64]) -> NDArray[np.int64]:
        """Values in each interval ``[edge, next edge)``, below the first and above the last.

        A bucket counts as a whole where its middle lies.

        Returns
        -------
        ndarray of shape (n_edges + 1,)
        """
        lower, upper, counts = self.cells()
        places = np.searchsorted(edges, _middle(lower, upper), side="right")
        return np.bincount(places, weights=counts, minlength=edges.size + 1).astype(np.int64)


def pick_centre(values: NDArray[np.float64]) -> float:
    """Zero, unless a column's first values lie far from it compared with their range."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0
    low, high = float(finite.min()), float(finite.max())
    if low <= 0 <= high or min(abs(low), abs(high)) <= high - low:
        return 0.0
    return low / 2 + high / 2


def separation(one: Sketch, other: Sketch) -> tuple[float, float]:
    """How well one threshold on a column tells two groups apart.

    Returns
    -------
    auc : float
        Probability that a value of `other` is above one of `one`, ties counting
        half; values in the same bucket are ties.
    ks : float
        Kolmogorov-Smirnov distance: the largest difference between the shares
        of both groups below a threshold.
    """
    first, second = _on_one_grid(one, other)
    below, shares = first / one.count, second / other.count
    before = np.cumsum(below) - below
    auc = float(np.dot(shares, before + below / 2))
    ks = float(np.abs(np.cumsum(below) - np.cumsum(shares)).max())
    return min(max(auc, 0.0), 1.0), min(ks, 1.0)


def _on_one_grid(one: Sketch, other: Sketch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if one.values is not None and other.values is not None:
        grid = sorted({*one.values, *other.values})
        first, second = (
            np.array([part.values.get(value, 0) for value in grid], dtype=np.int64)
            for part in (one, other)
            if part.values is not None
        )
        return first, second
    start, total = _add_buckets(one, other)
    aligned = []
    for part in (one, other):
        buckets = np.zeros_like(total)
        if part.buckets.shape[1]:
            offset = part.first_bucket - start
            buckets[:, offset : offset + part.buckets.shape[1]] = part.buckets
        aligned.append(np.concatenate([buckets[0, ::-1], [part.at_centre], buckets[1]]))
    return aligned[0], aligned[1]


def _count_buckets(values: NDArray[np.float64], centre: float) -> tuple[int, int, NDArray[np.int64]]:
    distances = values - centre if centre else values
    # A finite double's bits, without the sign, are in the order of its magnitude.
    bits = np.ascontiguousarray(distances, dtype=np.float64).view(np.int64)
    numbers = (bits & _MAGNITUDE) >> _SHIFT
    at_centre = int(numbers.size - np.count_nonzero(numbers))
    above = bits >= 0
    if at_centre:
        elsewhere = numbers != 0
        numbers, above = numbers[elsewhere], above[elsewhere]
    if numbers.size == 0:
        return at_centre, 0, np.zeros((2, 0), dtype=np.int64)
    first = int(numbers.min())
    width = int(numbers.max()) - first + 1
    numbers -= first
    numbers += above * np.int64(width)
    return at_centre, first, np.bincount(numbers, minlength=2 * width).reshape(2, width)


def _add_buckets(one: Sketch, other: Sketch) -> tuple[int, NDArray[np.int64]]:
    parts = [part for part in (one, other) if part.buckets.shape[1]]
    if not parts:
        return 0, one.buckets
    first = min(part.first_bucket for part in parts)
    end = max(part.first_bucket + part.buckets.shape[1] for part in parts)
    total = np.zeros((2, end - first), dtype=np.int64)
    for part in parts:
        start = part.first_bucket - first
        total[:, start : start + part.buckets.shape[1]] += part.buckets
    return first, total


def _spread(values: NDArray[np.float64], mean: float, largest: float) -> float:
    if largest <= 0:
        return 0.0
    deviations = values - mean
    deviations /= largest
    # No dot product: on arrays this small BLAS loses more to its threads than it gains.
    return largest * math.sqrt(float(np.square(deviations, out=deviations).sum()))


def _few_values(values: NDArray[np.float64]) -> dict[float, int] | None:
    # Most columns show within a few rows that they hold many values.
    if np.unique(values[: 8 * MOST_VALUES]).size > MOST_VALUES:
        return None
    found, counts = np.unique(values, return_counts=True)
    if found.size > MOST_VALUES:
        return None
    # The sum makes one zero of 0.0 and -0.0.
    return {float(value) + 0.0: int(count) for value, count in zip(found, counts, strict=True)}


def _add_values(one: dict[float, int] | None, other: dict[float, int] | None) -> dict[float, int] | None:
    if one is None or other is None:
        return None
    total = dict(one)
    for value, count in other.items():
        total[value] = total.get(value, 0) + count
    return total if len(total) <= MOST_VALUES else None


def _middle(lower: NDArray[np.float64], upper: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(lower + (upper - lower) / 2)
