from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from scipy.stats import binomtest

from fraud_kedro.evaluation.plots.probabilities import probability_figure, reliability


def test_bins_hold_their_mean_score_and_share_of_frauds(scored_rows):
    edges = np.array([0.0, 0.3, 0.6, 1.0])

    @given(scored_rows())
    def holds(rows):
        found = reliability(rows, edges)
        used = 0
        for low, high in pairwise(edges):
            inside = (rows.scores >= low) & (rows.scores < high)
            if inside.any():
                weights = rows.weights[inside]
                assert found.predicted[used] == pytest.approx(
                    np.average(rows.scores[inside], weights=weights)
                )
                assert found.observed[used] == pytest.approx(np.average(rows.labels[inside], weights=weights))
                used += 1
        assert used == len(found.predicted)
        assert (found.low <= found.observed).all()
        assert (found.observed <= found.high).all()

    holds()


def test_the_interval_is_wilsons(many_rows):
    rows = many_rows()
    found = reliability(replace(rows, weights=np.ones(4000)), np.array([0.0, 1.0]))
    expected = tuple(binomtest(int(rows.labels.sum()), 4000).proportion_ci(method="wilson"))
    assert (found.low[0], found.high[0]) == pytest.approx(expected)
    # Rows that all count three times say no more than rows that count once.
    heavy = reliability(replace(rows, weights=np.full(4000, 3.0)), np.array([0.0, 1.0]))
    assert (heavy.low[0], heavy.high[0]) == pytest.approx(expected)


def test_the_bars_of_each_class_add_up_to_all_of_it(many_rows):
    calibration, scores = probability_figure("a", many_rows()).axes
    assert calibration.get_ylabel() == "observed share of frauds"
    assert [text.get_text() for text in scores.get_legend().get_texts()] == ["legitimate", "fraud"]
    assert len(scores.patches) == 2


@pytest.mark.parametrize("score", [0.0, 0.2, 1.0])
def test_equal_scores_can_be_drawn(many_rows, tmp_path, score):
    probability_figure("a", replace(many_rows(), scores=np.full(4000, score))).savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
