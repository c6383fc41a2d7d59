"""The rows a search works on, and its folds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import uuid4

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.errors import TrainingError
from fraud_kedro.pipelines.model_input import labelled_matrix
from fraud_kedro.schema import ResolvedSchema

# Share of the rows before the first rolling origin.
FIRST_ORIGIN = 0.4


@dataclass(frozen=True)
class Fold:
    """Rows to fit on and rows to judge on."""

    fit: LabelledMatrix
    judge: LabelledMatrix


@dataclass(frozen=True)
class SearchRows:
    """A part of the training rows, with the folds all trials share.

    Attributes
    ----------
    folds : tuple of Fold
    fingerprint : str
        Says whether two searches worked on the same rows.
    run : str
        Tells the trials of this run from those of another.
    """

    folds: tuple[Fold, ...]
    fingerprint: str
    run: str = field(default_factory=lambda: uuid4().hex)


def draw_rows(
    frame: pl.DataFrame, schema: ResolvedSchema, legitimate_rows: int, seed: int
) -> tuple[LabelledMatrix, NDArray[np.float64]]:
    """All frauds and a random part of the legitimate rows, whose weights make up for the rest.

    Returns
    -------
    data : LabelledMatrix
        In the table's order.
    times : ndarray of shape (n_transactions,), seconds
    """
    data = labelled_matrix(frame, schema)
    times = frame[schema.time].to_numpy()
    legitimate = np.flatnonzero(data.labels == 0)
    if len(legitimate) <= legitimate_rows:
        return data, times
    drawn = np.random.default_rng(seed).choice(legitimate, legitimate_rows, replace=False)
    rows = np.sort(np.concatenate([np.flatnonzero(data.labels == 1), drawn]))
    part = data.take(rows)
    stands_for = data.weights[legitimate].sum() / data.weights[drawn].sum()
    weights = np.where(part.labels == 0, part.weights * stands_for, part.weights)
    return LabelledMatrix(part.features, part.labels, weights, part.amounts), times[rows]


def make_folds(
    data: LabelledMatrix,
    times: NDArray[np.float64],
    *,
    kind: str,
    folds: int,
    seed: int,
    gap_seconds: float = 0.0,
) -> tuple[Fold, ...]:
    """Rolling origins for a temporal split, stratified folds otherwise.

    Rows to judge on begin `gap_seconds` after the origin, as the split's parts do.

    Raises
    ------
    TrainingError
        If a fold lacks a class.
    """
    pairs = (
        _rolling(times, folds, gap_seconds) if kind == "temporal" else _stratified(data.labels, folds, seed)
    )
    made = tuple(Fold(data.take(fit), data.take(judge)) for fit, judge in pairs)
    for number, fold in enumerate(made, start=1):
        for use, rows in (("fit", fold.fit), ("judge", fold.judge)):
            frauds = int(rows.labels.sum())
            if frauds in (0, len(rows)):
                raise TrainingError(
                    f"Fold {number} of {folds} has {frauds} frauds among its {len(rows):,} rows to {use} on. "
                    "Lower tuning.folds, or bring more rows."
                )
    return made


def _rolling(
    times: NDArray[np.float64], folds: int, gap_seconds: float
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    cuts = np.quantile(times, np.linspace(FIRST_ORIGIN, 1, folds + 1))
    cuts[-1] = np.inf
    for start, end in pairwise(cuts):
        yield np.flatnonzero(times < start), np.flatnonzero((times >= start + gap_seconds) & (times < end))


def _stratified(
    labels: NDArray[np.int8], folds: int, seed: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    for label, name in ((1, "frauds"), (0, "legitimate transactions")):
        count = int((labels == label).sum())
        if count < folds:
            raise TrainingError(
                f"{count} {name} are too few for {folds} folds. Lower tuning.folds, or bring more rows."
            )
    yield from StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)
