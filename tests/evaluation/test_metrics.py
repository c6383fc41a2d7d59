from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_kedro.evaluation.metrics import OBJECTIVES, ScoredRows, average_precision, roc_auc


def test_average_precision_is_the_sum_of_precisions_at_each_rise_of_recall(scored_rows):
    @given(scored_rows())
    def holds(rows):
        total, last = 0.0, 0.0
        frauds = rows.weights[rows.labels == 1].sum()
        for threshold in np.unique(rows.scores)[::-1]:
            flagged = rows.scores >= threshold
            caught = rows.weights[flagged & (rows.labels == 1)].sum()
            total += (caught / frauds - last) * caught / rows.weights[flagged].sum()
            last = caught / frauds
        assert average_precision(rows) == pytest.approx(total)

    holds()


def test_auc_is_the_weighted_share_of_pairs_in_the_right_order(scored_rows):
    @given(scored_rows())
    def holds(rows):
        fraud, legitimate = rows.labels == 1, rows.labels == 0
        right = (rows.scores[fraud, None] > rows.scores[legitimate]) + 0.5 * (
            rows.scores[fraud, None] == rows.scores[legitimate]
        )
        pairs = rows.weights[fraud, None] * rows.weights[legitimate]
        assert roc_auc(rows) == pytest.approx((right * pairs).sum() / pairs.sum())

    holds()


def test_every_objective_grows_with_better_ranking(many_rows):
    rows = many_rows()
    better = ScoredRows(rows.labels, np.clip(rows.scores + 0.3 * rows.labels, 0, 1), rows.weights)
    for objective in OBJECTIVES.values():
        assert objective(rows) < objective(better)


def test_rows_are_taken_with_all_their_columns(many_rows):
    rows = many_rows(size=100)

    @given(st.lists(st.integers(0, 99), max_size=20))
    def holds(numbers):
        taken = rows.take(np.array(numbers, dtype=np.intp))
        for name, column in vars(rows).items():
            np.testing.assert_array_equal(getattr(taken, name), [column[number] for number in numbers])

    holds()
