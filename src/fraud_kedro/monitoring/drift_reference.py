"""What a window is compared with: the rows and counts that a bundle brings."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import logit

from fraud_kedro.champion.bundle import REFERENCE_FILE, Bundle
from fraud_kedro.champion.scorer import Scorer
from fraud_kedro.errors import DriftError
from fraud_kedro.schema import HOURS_PER_DAY, SECONDS_PER_DAY, SECONDS_PER_HOUR, ResolvedSchema

SCORE, WEIGHT = "probability", "weight"
# From here on a transaction is more likely fraud than not; an edge of the bundle's histogram.
PROBABLE = 0.5

_IMPORTANCE_ROWS = 2000
_MOST_SCORED = 300_000
_LEAST, _MOST = 1e-9, 1 - 1e-7


@dataclass(frozen=True)
class DriftReference:
    """A champion's reference.

    Attributes
    ----------
    model_version : str
    schema : ResolvedSchema
    rows : ndarray of shape (n_rows, n_features), float64
        Raw features of transactions of equal weight.
    scores : ndarray of shape (n_rows,)
        Of a model that had not seen the row.
    importance : ndarray of shape (n_features,)
        How much of the score's movement is each feature's; they add up to 1.
    edges, score_shares : ndarray
        The bundle's histogram of scores, over all rows it was made from.
    flag : float
        Threshold of the bundle.
    flagged_share : float
        Over the same rows as the histogram.
    base_rows : float
        How many of equal weight these are worth.
    hours : ndarray of shape (24,), or None
        Transactions by hour of the day, over all rows of the training table; None
        where they are not known or do not cover a day.
    """

    model_version: str
    schema: ResolvedSchema
    rows: NDArray[np.float64]
    scores: NDArray[np.float64]
    importance: NDArray[np.float64]
    edges: NDArray[np.float64]
    score_shares: NDArray[np.float64]
    flag: float
    flagged_share: float
    base_rows: float
    hours: NDArray[np.float64] | None

    @property
    def probable_share(self) -> float:
        """Share of scores of `PROBABLE` and above, over the same rows as the histogram."""
        return float(self.score_shares[self.edges[:-1] >= PROBABLE].sum())


def reference_of(bundle: Bundle, *, seed: int = 0) -> DriftReference:
    """Read a bundle's reference.

    Parameters
    ----------
    bundle : Bundle
    seed : int
        Of the rows that a column's importance is measured on.

    Raises
    ------
    DriftError
        If the bundle brings no rows to compare with.
    """
    metadata = bundle.metadata
    schema, data = metadata.schema_, metadata.data
    table = _table(bundle)
    rows = np.column_stack([table[name].to_numpy().astype(np.float64) for name in schema.features])
    scores = table[SCORE].to_numpy().astype(np.float64)
    weights = table[WEIGHT].to_numpy().astype(np.float64) if WEIGHT in table.column_names else None
    effective = 1.0 if weights is None else effective_share(weights)
    if weights is not None:
        chosen = equal_weight(weights)
        rows, scores = rows[chosen], scores[chosen]
    held_out = data.parts["validation"].rows if "validation" in data.parts else table.num_rows
    version = bundle.registration.version if bundle.registration else 0
    return DriftReference(
        model_version=f"{metadata.model_name}_{metadata.algorithm}_v{version}",
        schema=schema,
        rows=rows,
        scores=scores,
        importance=_importance(bundle, rows, seed),
        edges=np.asarray(metadata.score_histogram.edges),
        score_shares=np.asarray(metadata.score_histogram.shares),
        flag=metadata.thresholds.flag,
        flagged_share=metadata.flag_rate,
        base_rows=effective * held_out,
        hours=_hours(data.hours, data.time_to - data.time_from),
    )


def equal_weight(weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Choose rows so that each counts once: as many as the weighted ones are worth.

    Systematic sampling: a row is chosen as often as its weight says, give or take one.

    Parameters
    ----------
    weights : ndarray of shape (n_rows,)

    Returns
    -------
    ndarray of int64
        Row numbers, ascending.
    """
    count = int(effective_share(weights) * len(weights))
    reached = np.cumsum(weights) / weights.sum()
    places = (np.arange(count) + 0.5) / count
    return np.minimum(np.searchsorted(reached, places), len(weights) - 1).astype(np.int64)


def effective_share(weights: NDArray[np.float64]) -> float:
    """How many rows of equal weight a weighted row is worth (Kish)."""
    return float(weights.sum() ** 2 / (len(weights) * np.square(weights).sum()))


def column_importance(
    score: Callable[[NDArray[np.float32]], NDArray[np.float32]], matrix: NDArray[np.float32], *, seed: int
) -> NDArray[np.float64]:
    """Measure how much the log-odds move when a column's values change places.

    Parameters
    ----------
    score : callable
        From what the model reads to probabilities.
    matrix : ndarray of shape (n_rows, n_features), float32
        What the model reads.
    seed : int

    Returns
    -------
    ndarray of shape (n_features,)
        Adding up to 1.
    """
    generator = np.random.default_rng(seed)
    before = _log_odds(score(matrix))
    moved = np.zeros(matrix.shape[1])
    for column in range(matrix.shape[1]):
        changed = matrix.copy()
        changed[:, column] = matrix[generator.permutation(len(matrix)), column]
        moved[column] = np.abs(_log_odds(score(changed)) - before).mean()
    total = moved.sum()
    return moved / total if total > 0 else np.full(len(moved), 1 / len(moved))


def _importance(bundle: Bundle, rows: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    scorer = Scorer(bundle)
    count = min(len(rows), _IMPORTANCE_ROWS, max(_MOST_SCORED // rows.shape[1], 50))
    drawn = rows[np.random.default_rng(seed).choice(len(rows), count, replace=False)]
    return column_importance(scorer.probabilities, scorer.matrix(drawn), seed=seed)


def _log_odds(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(logit(np.clip(scores.astype(np.float64), _LEAST, _MOST)))


def _hours(counts: tuple[float, ...], seconds: float) -> NDArray[np.float64] | None:
    # Of a shorter table the counts say when it was taken, and nothing about a day.
    whole_day = seconds >= SECONDS_PER_DAY - SECONDS_PER_HOUR
    return np.asarray(counts) if len(counts) == HOURS_PER_DAY and whole_day else None


def _table(bundle: Bundle) -> pa.Table:
    file = bundle.folder / REFERENCE_FILE
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DriftError(f"{file} cannot be read: {error.strerror}. {_EXPORT}") from error
    if hashlib.sha256(content).hexdigest() != bundle.metadata.files[REFERENCE_FILE].sha256:
        raise DriftError(f"{file} was replaced while it was read. Ask again.")
    table = pq.read_table(io.BytesIO(content))
    missing = [name for name in (*bundle.metadata.schema_.features, SCORE) if name not in table.column_names]
    if missing or not table.num_rows:
        lacks = f"lacks {', '.join(missing[:5])}" if missing else "has no rows"
        raise DriftError(f"{file} {lacks}: there is nothing to compare transactions with. {_EXPORT}")
    return table


_EXPORT = "Export the model again with `kedro run --pipeline=export`, with export.reference_rows."
