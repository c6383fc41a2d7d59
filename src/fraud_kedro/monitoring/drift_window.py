"""What the log says of a window of time: counts over every row, and a sample of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.monitoring.drift_reference import PROBABLE, DriftReference
from fraud_kedro.monitoring.logged_features import feature_matrix
from fraud_kedro.prediction_log import PredictionReader
from fraud_kedro.prediction_log.tables import Role
from fraud_kedro.schema import HOURS_PER_DAY, SECONDS_PER_DAY, SECONDS_PER_HOUR, hour_counts

#: Whoever gave the answer: its transaction has come.
ANSWERED: tuple[Role, ...] = ("champion", "challenger")
# A terminal's clock may be years ahead; so many at either end do not say how long a window lasts.
_WRONG_CLOCKS = 0.002
COLUMNS = ("timestamp", "event_time", "model_version", "probability", "features")


@dataclass(frozen=True)
class LoggedRows:
    """Some rows of the log.

    Attributes
    ----------
    arrivals, event_times : ndarray of shape (n_rows,)
        Seconds since 1970; NaN where the event's is not known.
    versions : ndarray of shape (n_rows,), object
        Names of the models that answered.
    scores : ndarray of shape (n_rows,)
    features : list of str or None
        JSON objects; None where retention has taken them away.
    """

    arrivals: NDArray[np.float64]
    event_times: NDArray[np.float64]
    versions: NDArray[np.object_]
    scores: NDArray[np.float64]
    features: list[str | None]

    def __len__(self) -> int:
        return len(self.features)


@dataclass
class DriftWindow:
    """A window, compared in memory of a fixed size.

    Attributes
    ----------
    since, until : datetime
        Of arrival.
    rows : int
        Answered transactions.
    compared : int
        Those whose features fit the champion's schema.
    without_features, other_schema : int
        Those that retention has emptied, and those with other features.
    versions : dict
        Answered transactions by the model that answered.
    zeros : ndarray of shape (n_features,), int64
        Zeros in each feature, among those compared.
    hours : ndarray of shape (24,), int64
        Of those compared whose time is known.
    hours_covered : float
        How long the compared transactions last, in hours: by the service's clock or
        by theirs, but for the few of them that are far off.
    scored, flagged, probable : int
        Compared transactions that the champion itself answered, and how many of
        them reach its flag threshold and a probability of one half.
    score_counts : ndarray
        Their scores over the bundle's histogram.
    sample : ndarray of shape (n_sampled, n_features), float64
        Raw features of compared transactions, drawn evenly.
    sample_scores : ndarray of shape (n_sampled,)
        NaN where another version answered.
    """

    since: datetime
    until: datetime
    rows: int = 0
    compared: int = 0
    without_features: int = 0
    other_schema: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    zeros: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    hours: NDArray[np.int64] = field(default_factory=lambda: np.zeros(HOURS_PER_DAY, dtype=np.int64))
    hours_covered: float = 0.0
    scored: int = 0
    flagged: int = 0
    probable: int = 0
    score_counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    sample: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    sample_scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def logged_rows(reader: PredictionReader, since: datetime, until: datetime) -> Iterator[LoggedRows]:
    """Read the answered transactions that arrived in ``[since, until)``, some thousands at a time.

    Raises
    ------
    PredictionLogError
        If the database cannot be reached.
    """
    for rows in reader.chunks(COLUMNS, since=since, until=until, roles=ANSWERED):
        arrivals, events, versions, scores, features = zip(*rows, strict=True)
        yield LoggedRows(
            arrivals=np.array([moment.timestamp() for moment in arrivals]),
            event_times=np.array([np.nan if moment is None else moment.timestamp() for moment in events]),
            versions=np.array(versions, dtype=object),
            scores=np.array(scores, dtype=np.float64),
            features=[*features],
        )


def summarise(
    chunks: Iterable[LoggedRows],
    reference: DriftReference,
    *,
    since: datetime,
    until: datetime,
    sample_rows: int,
    seed: int,
) -> DriftWindow:
    """Go once through a window's rows.

    Parameters
    ----------
    chunks : iterable of LoggedRows
    reference : DriftReference
        Says which rows fit, and which scores are the champion's.
    since, until : datetime
    sample_rows : int
        Rows kept at most.
    seed : int
        Of the sample.
    """
    schema = reference.schema
    width = len(schema.features)
    names = schema.features if schema.time in schema.features else (*schema.features, schema.time)
    clock = names.index(schema.time)
    # Where the origin is not known, the log has no event times.
    origin = schema.time_origin.timestamp() if schema.time_origin else 0.0
    counter = WindowCounter(reference, since=since, until=until, sample_rows=sample_rows, seed=seed)
    window = counter.window
    for chunk in chunks:
        _count_versions(window.versions, chunk.versions)
        kept = np.array([text is not None for text in chunk.features], dtype=bool)
        matrix = feature_matrix([text for text in chunk.features if text is not None], names)
        fits = np.isfinite(matrix[:, :width]).all(axis=1)
        window.rows += len(chunk)
        window.without_features += int((~kept).sum())
        window.other_schema += int((~fits).sum())
        chosen = np.flatnonzero(kept)[fits]
        events = chunk.event_times[chosen] - origin
        times = matrix[fits, clock]
        own = chunk.versions[chosen] == reference.model_version
        counter.add(
            matrix[fits, :width],
            np.where(np.isfinite(times), times, events),
            np.where(own, chunk.scores[chosen], np.nan),
        )
        counter.add_arrivals(chunk.arrivals[chosen])
    return counter.finished()


class WindowCounter:
    """Counts transactions that can be compared, and draws a sample of them.

    Parameters
    ----------
    reference : DriftReference
    since, until : datetime
    sample_rows, seed : int
        As for `summarise`.
    """

    def __init__(
        self, reference: DriftReference, *, since: datetime, until: datetime, sample_rows: int, seed: int
    ) -> None:
        width = len(reference.schema.features)
        self.window = DriftWindow(
            since=since,
            until=until,
            zeros=np.zeros(width, dtype=np.int64),
            score_counts=np.zeros(len(reference.edges) - 1, dtype=np.int64),
        )
        self._reference = reference
        self._reservoir = _Reservoir(sample_rows, width + 2, seed)
        self._arrival_ends = _NEVER

    def add(
        self, features: NDArray[np.float64], seconds: NDArray[np.float64], scores: NDArray[np.float64]
    ) -> None:
        """Count some transactions.

        Parameters
        ----------
        features : ndarray of shape (n_rows, n_features)
            Raw and finite.
        seconds : ndarray of shape (n_rows,)
            From the schema's origin; NaN where not known.
        scores : ndarray of shape (n_rows,)
            The champion's; NaN where another version answered.
        """
        window, reference = self.window, self._reference
        window.compared += len(features)
        window.zeros += (features == 0).sum(axis=0)
        window.hours += hour_counts(seconds[np.isfinite(seconds)]).astype(np.int64)
        own = scores[np.isfinite(scores)]
        window.scored += len(own)
        # As the service decides: in float32.
        window.flagged += int((own.astype(np.float32) >= np.float32(reference.flag)).sum())
        window.probable += int((own >= PROBABLE).sum())
        window.score_counts += np.histogram(own, bins=reference.edges)[0]
        self._reservoir.add(np.column_stack([features, seconds, scores]))

    def add_arrivals(self, arrivals: NDArray[np.float64]) -> None:
        """Note when transactions arrived, in seconds."""
        self._arrival_ends = _ends(self._arrival_ends, arrivals)

    def finished(self) -> DriftWindow:
        """Give the window with its sample."""
        sample = self._reservoir.rows()
        self.window.sample, self.window.sample_scores = sample[:, :-2], sample[:, -1]
        start, end = self._arrival_ends
        self.window.hours_covered = max(end - start, _lasting(sample[:, -2])) / SECONDS_PER_HOUR
        return self.window


_NEVER = (np.inf, -np.inf)


def _ends(before: tuple[float, float], seconds: NDArray[np.float64]) -> tuple[float, float]:
    known = seconds[np.isfinite(seconds)]
    return (min(before[0], known.min()), max(before[1], known.max())) if len(known) else before


def _lasting(seconds: NDArray[np.float64]) -> float:
    known = np.sort(seconds[np.isfinite(seconds)])
    wrong = round(len(known) * _WRONG_CLOCKS)
    return float(known[-1 - wrong] - known[wrong]) if len(known) else 0.0


def _count_versions(counted: dict[str, int], versions: NDArray[np.object_]) -> None:
    found, counts = np.unique(versions.astype(str), return_counts=True)
    for name, count in zip(found.tolist(), counts.tolist(), strict=True):
        counted[name] = counted.get(name, 0) + count


class _Reservoir:
    """Keeps rows drawn evenly from all that are added: those with the smallest random keys."""

    def __init__(self, size: int, width: int, seed: int) -> None:
        self._size = size
        self._random = np.random.default_rng(seed)
        self._keys = np.empty(0)
        self._rows = np.empty((0, width))

    def add(self, rows: NDArray[np.float64]) -> None:
        keys = self._random.random(len(rows))
        if len(self._keys) == self._size:
            # Most rows of a long window end here.
            likely = keys < self._keys.max()
            keys, rows = keys[likely], rows[likely]
        keys, rows = np.concatenate([self._keys, keys]), np.concatenate([self._rows, rows])
        if len(keys) > self._size:
            kept = np.sort(np.argpartition(keys, self._size)[: self._size])
            keys, rows = keys[kept], rows[kept]
        self._keys, self._rows = keys, rows

    def rows(self) -> NDArray[np.float64]:
        return self._rows


def counts_by_name(versions: Mapping[str, int]) -> dict[str, Any]:
    """The versions, the busiest first."""
    return dict(sorted(versions.items(), key=lambda item: (-item[1], item[0])))


def covers_a_day(window: DriftWindow) -> bool:
    """Whether the window's hours of the day can be those of any day."""
    return window.hours_covered * SECONDS_PER_HOUR >= SECONDS_PER_DAY - SECONDS_PER_HOUR
