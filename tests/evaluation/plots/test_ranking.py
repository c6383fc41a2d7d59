from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import roc_curve

from fraud_kedro.evaluation.plots.ranking import base_rate, lift, ranking_figure


def test_lift_is_precision_over_the_base_rate_at_every_score(scored_rows):
    @given(scored_rows())
    def holds(rows):
        shares, lifts = lift(rows)
        for threshold, share, value in zip(np.unique(rows.scores)[::-1], shares, lifts, strict=True):
            flagged = rows.scores >= threshold
            assert share == pytest.approx(rows.weights[flagged].sum() / rows.weights.sum())
            precision = (rows.weights * rows.labels)[flagged].sum() / rows.weights[flagged].sum()
            assert value == pytest.approx(precision / base_rate(rows))
        assert (shares[-1], lifts[-1]) == pytest.approx((1.0, 1.0))

    holds()


def test_the_curves_are_scikit_learns_and_the_dot_is_the_threshold(many_rows):
    rows = many_rows()
    roc, precision_recall, lifted = ranking_figure("a", rows, 0.3).axes
    false_positives, recall, _ = roc_curve(rows.labels, rows.scores, sample_weight=rows.weights)
    np.testing.assert_allclose(roc.lines[0].get_xdata(), np.maximum(false_positives, 1e-5))
    np.testing.assert_allclose(roc.lines[0].get_ydata(), recall)
    flagged = rows.scores.astype(np.float32) >= np.float32(0.3)
    caught = (rows.weights * rows.labels)[flagged].sum()
    (dot,) = (line for line in precision_recall.lines if line.get_marker() == "o")
    assert dot.get_xdata()[0] == pytest.approx(caught / (rows.weights * rows.labels).sum())
    assert dot.get_ydata()[0] == pytest.approx(caught / rows.weights[flagged].sum())
    assert len(precision_recall.texts) == 4
    assert len(lifted.lines) == 3


def test_lines_of_equal_f1_hold_their_value(many_rows):
    _, axes, _ = ranking_figure("a", many_rows(), 0.3).axes
    for line, text in zip(axes.lines, axes.texts, strict=False):
        recall, precision = line.get_data()
        np.testing.assert_allclose(2 * recall * precision / (recall + precision), float(text.get_text()))


def test_a_threshold_that_nothing_reaches_and_equal_scores_can_be_drawn(many_rows, tmp_path):
    rows = many_rows()
    figure = ranking_figure("a", replace(rows, scores=np.full(4000, 0.2)), 1.0)
    figure.savefig(tmp_path / "a.png")
    assert not [line for line in figure.axes[1].lines if line.get_marker() == "o"]
