from __future__ import annotations

import gc

import numpy as np

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.binning import BinnedRows


def rows(n: int) -> LabelledMatrix:
    return LabelledMatrix(np.ones((n, 2), dtype=np.float32), np.zeros(n, dtype=np.int8), np.ones(n))


def counting() -> tuple[BinnedRows[list[int]], list[int]]:
    made: list[int] = []

    def bin_rows(data: LabelledMatrix, reference: list[int] | None) -> list[int]:
        made.append(len(data))
        return [len(data), *(reference or [])]

    return BinnedRows(bin_rows), made


def test_rows_are_binned_once():
    binned, made = counting()
    data = rows(3)

    assert binned.own(data) is binned.own(data)
    assert made == [3]


def test_equal_rows_in_another_object_are_binned_anew():
    binned, made = counting()
    first, second = rows(3), rows(3)

    binned.own(first), binned.own(second)

    assert made == [3, 3]


def test_rows_borrow_bins_once_for_each_reference():
    binned, made = counting()
    first, second, judged = rows(5), rows(6), rows(2)

    for _ in range(2):
        assert binned.like(first, judged) == [2, 5]
        assert binned.like(second, judged) == [2, 6]
    assert binned.own(judged) == [2]
    assert sorted(made) == [2, 2, 2, 5, 6]


def test_the_binned_form_goes_with_the_rows():
    binned, _ = counting()
    kept, dropped = rows(3), rows(4)
    binned.own(kept), binned.own(dropped), binned.like(kept, dropped)

    del dropped
    gc.collect()

    assert len(binned) == 1
