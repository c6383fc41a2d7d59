"""Train, validation and test: which row belongs to which."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, RootModel, model_validator

from fraud_kedro.errors import DataError
from fraud_kedro.options import Options

PARTS = ("train", "validation", "test")


class _Fractions(Options):
    validation: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _leave_rows_to_train_on(self) -> _Fractions:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation ({self.validation}) and test ({self.test}) leave no rows to train on: "
                "their sum should be below 1"
            )
        return self


class TemporalSplit(_Fractions):
    """Later transactions are the test, the ones before them the validation.

    Attributes
    ----------
    validation, test : float
        Shares of the rows.
    gap_seconds : float
        Rows within this time after a cut are dropped, so that labels which
        arrive late cannot leak across it.
    """

    kind: Literal["temporal"] = "temporal"
    gap_seconds: float = Field(default=0.0, ge=0)


class StratifiedSplit(_Fractions):
    """Random rows, the same share of each class in every part."""

    kind: Literal["stratified"]


class SplitOptions(RootModel[Annotated[TemporalSplit | StratifiedSplit, Field(discriminator="kind")]]):
    """The ``split`` parameters: one of the kinds."""

    model_config = ConfigDict(frozen=True)


def assign_parts(
    split: TemporalSplit | StratifiedSplit,
    times: NDArray[np.float64],
    labels: NDArray[np.int8],
    seed: int,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.int8]:
    """Assign each row to a part.

    Parameters
    ----------
    split : TemporalSplit or StratifiedSplit
    times : ndarray of shape (n_transactions,), seconds
    labels : ndarray of shape (n_transactions,)
    seed : int
        Of the stratified draw.
    weights : ndarray of shape (n_transactions,), optional
        Rows of weight 0 do not count when a part is checked for both classes.

    Returns
    -------
    ndarray of shape (n_transactions,), int8
        Index into `PARTS`, -1 for rows in a gap.

    Raises
    ------
    DataError
        If a part lacks a class.
    """
    match split:
        case TemporalSplit():
            parts = _temporal(split, times)
        case StratifiedSplit():
            parts = _stratified(split, labels, seed)
    for index, name in enumerate(PARTS):
        counted = (parts == index) & (weights > 0) if weights is not None else parts == index
        frauds, rows = int(labels[counted].sum()), int(counted.sum())
        if frauds == 0 or frauds == rows:
            lacking = "no fraud" if frauds == 0 else "no legitimate transaction"
            raise DataError(
                f"The {name} part of the {split.kind} split has {lacking} among its {rows:,} rows. "
                "Bring more rows, enlarge the part, or set split.kind to stratified."
            )
    return parts


def _temporal(split: TemporalSplit, times: NDArray[np.float64]) -> NDArray[np.int8]:
    # A cut is a moment, not a row: transactions of the same second stay together.
    ordered = np.sort(times)
    first_validation, first_test = (
        ordered[min(round(len(times) * share), len(times) - 1)]
        for share in (1 - split.validation - split.test, 1 - split.test)
    )
    parts = np.full(len(times), -1, dtype=np.int8)
    parts[times < first_validation] = 0
    parts[(times >= first_validation + split.gap_seconds) & (times < first_test)] = 1
    parts[times >= first_test + split.gap_seconds] = 2
    return parts


def _stratified(split: StratifiedSplit, labels: NDArray[np.int8], seed: int) -> NDArray[np.int8]:
    parts = np.zeros(len(labels), dtype=np.int8)
    generator = np.random.default_rng(seed)
    for label in (0, 1):
        rows = generator.permutation(np.flatnonzero(labels == label))
        tests = round(len(rows) * split.test)
        validations = round(len(rows) * split.validation)
        parts[rows[:tests]] = 2
        parts[rows[tests : tests + validations]] = 1
    return parts
