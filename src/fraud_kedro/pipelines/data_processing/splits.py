"""Train, validation and test: which row belongs to which."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, RootModel, model_validator

from fraud_kedro.errors import DataError, SchemaError
from fraud_kedro.options import Options, without_other_kinds
from fraud_kedro.schema import with_offset

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


class Cuts(Options):
    """Where validation and test begin: moments, or seconds as the table counts them."""

    validation: datetime | float
    test: datetime | float

    def seconds(self, origin: datetime | None) -> tuple[float, float]:
        """Both cuts on the table's scale.

        Raises
        ------
        SchemaError
            If a moment is given and it is not known what second 0 is.
        DataError
            If the test does not begin after the validation.
        """
        first, second = (self._seconds(cut, origin) for cut in (self.validation, self.test))
        if first >= second:
            raise DataError(
                f"split.cuts.validation ({self.validation}) does not lie before "
                f"split.cuts.test ({self.test}). Validation comes first."
            )
        return first, second

    @staticmethod
    def _seconds(cut: datetime | float, origin: datetime | None) -> float:
        if not isinstance(cut, datetime):
            return cut
        if origin is None:
            raise SchemaError(
                f"split.cuts names a date ({cut:%Y-%m-%d}), but the table counts seconds from an unknown "
                "moment. Set schema.time.origin, or give the cuts in seconds."
            )
        return (with_offset(cut) - origin).total_seconds()


class TemporalSplit(_Fractions):
    """Later transactions are the test, the ones before them the validation.

    Attributes
    ----------
    validation, test : float
        Shares of the rows; not used where there are `cuts`.
    cuts : Cuts, optional
        Where validation and test begin.
    gap_seconds : float
        Rows within this time after a cut are dropped, so that labels which
        arrive late cannot leak across it.
    """

    kind: Literal["temporal"] = "temporal"
    cuts: Cuts | None = None
    gap_seconds: float = Field(default=0.0, ge=0)


class StratifiedSplit(_Fractions):
    """Random rows, the same share of each class in every part."""

    kind: Literal["stratified"]


class SplitOptions(RootModel[Annotated[TemporalSplit | StratifiedSplit, Field(discriminator="kind")]]):
    """The ``split`` parameters: one of the kinds."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _of_one_kind(cls, value: Any) -> Any:
        return without_other_kinds(value, TemporalSplit, StratifiedSplit)


def assign_parts(
    split: TemporalSplit | StratifiedSplit,
    times: NDArray[np.float64],
    labels: NDArray[np.int8],
    seed: int,
    weights: NDArray[np.float64] | None = None,
    origin: datetime | None = None,
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
    origin : datetime, optional
        What second 0 is, for cuts by date.

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
            parts = _temporal(split, times, origin)
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


def _temporal(split: TemporalSplit, times: NDArray[np.float64], origin: datetime | None) -> NDArray[np.int8]:
    # A cut is a moment, not a row: transactions of the same second stay together.
    if split.cuts is not None:
        first_validation, first_test = split.cuts.seconds(origin)
    else:
        ranks = [
            min(round(len(times) * share), len(times) - 1)
            for share in (1 - split.validation - split.test, 1 - split.test)
        ]
        first_validation, first_test = np.partition(times, ranks)[ranks]
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
