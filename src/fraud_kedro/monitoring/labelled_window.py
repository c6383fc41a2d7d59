"""The newest transactions of a champion whose labels are settled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.monitoring.settled import LabelOptions, settled_labels
from fraud_kedro.prediction_log import PredictionReader

_COLUMNS = ("model_version", "probability", "prediction", "decision")


@dataclass(frozen=True)
class LabelledWindow:
    """What was said of each, and what it was.

    Attributes
    ----------
    since, until : datetime
        Of arrival; it ends where transactions begin to wait for their labels.
    labels : ndarray of shape (n_rows,), int8
    scores : ndarray of shape (n_rows,), float64
    flagged : ndarray of shape (n_rows,), int8
    """

    since: datetime
    until: datetime
    labels: NDArray[np.int8]
    scores: NDArray[np.float64]
    flagged: NDArray[np.int8]

    @property
    def frauds(self) -> int:
        """How many were fraud."""
        return int(self.labels.sum())

    @property
    def legitimate(self) -> int:
        """How many were not."""
        return len(self.labels) - self.frauds


def read_labelled_window(
    reader: PredictionReader,
    model_version: str,
    options: LabelOptions,
    *,
    days: float,
    most_rows: int,
    as_of: datetime | None = None,
) -> LabelledWindow:
    """Read the last days of which labels are settled.

    Parameters
    ----------
    reader : PredictionReader
    model_version : str
        Whose answers are read.
    options : LabelOptions
    days : float
    most_rows : int
        The newest so many are read at most.
    as_of : datetime, optional
        What was known then; now by default.

    Raises
    ------
    PredictionLogError
        If the log cannot be read.
    """
    now = as_of or datetime.now(UTC)
    until = options.mature_from(now)
    since = until - timedelta(days=days)
    read = [
        row
        for row in reader.labelled(
            since=since,
            until=until,
            columns=_COLUMNS,
            known_by=now,
            answers_only=True,
            limit=most_rows,
        )
        if row["model_version"] == model_version
    ]
    labels = np.array([np.nan if row["label"] is None else row["label"] for row in read], dtype=np.float64)
    decisions = np.array([row["decision"] for row in read], dtype=object)
    settled = settled_labels(labels, decisions, np.ones(len(read), dtype=bool), options)
    known = np.isfinite(settled)
    return LabelledWindow(
        since=since,
        until=until,
        labels=settled[known].astype(np.int8),
        scores=np.array([row["probability"] for row in read], dtype=np.float64)[known],
        flagged=np.array([row["prediction"] for row in read], dtype=np.int8)[known],
    )
