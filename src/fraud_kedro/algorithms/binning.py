"""Keeps the binned form of rows, so that the trials of a study bin each fold once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from fraud_kedro.algorithms.base import LabelledMatrix

Binned = TypeVar("Binned")


class BinnedRows(Generic[Binned]):
    """Binned rows, for as long as the rows themselves live.

    Parameters
    ----------
    bin_rows : callable
        Makes the binned form of rows, with the bins of the second argument
        where there is one. It must not hold on to the rows.
    """

    def __init__(self, bin_rows: Callable[[LabelledMatrix, Binned | None], Binned]) -> None:
        self._bin_rows = bin_rows
        self._own: WeakKeyDictionary[LabelledMatrix, Binned] = WeakKeyDictionary()
        self._borrowed: WeakKeyDictionary[LabelledMatrix, WeakKeyDictionary[LabelledMatrix, Binned]] = (
            WeakKeyDictionary()
        )

    def __len__(self) -> int:
        return len(self._own)

    def own(self, rows: LabelledMatrix) -> Binned:
        """Return the rows with bins of their own."""
        if rows not in self._own:
            self._own[rows] = self._bin_rows(rows, None)
        return self._own[rows]

    def like(self, reference: LabelledMatrix, rows: LabelledMatrix) -> Binned:
        """Return the rows with the bins of the reference, which a booster fitted on it needs."""
        borrowed = self._borrowed.setdefault(reference, WeakKeyDictionary())
        if rows not in borrowed:
            borrowed[rows] = self._bin_rows(rows, self.own(reference))
        return borrowed[rows]
