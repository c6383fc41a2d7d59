from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from fraud_kedro.evaluation.metrics import (
    OBJECTIVES,
    ScoredRows,
    average_precision,
    expected_calibration_error,
    figures,
    recall_at,
    roc_auc,
)

real_weights = st.sampled_from([0.5, 1.0, 2.0, 7.0])


@st.composite
def scored_rows(draw, weights=real_weights):
    """Rows of both classes, with ties."""
    size = draw(st.integers(2, 30))
    labels = [1, 0, *draw(st.lists(st.integers(0, 1), min_size=size - 2, max_size=size - 2))]
    scores = draw(st.lists(st.sampled_from(np.linspace(0.01, 0.99, 9)), min_size=size, max_size=size))
    drawn = draw(st.lists(weights, min_size=size, max_size=size))
    return ScoredRows(np.array(labels, dtype=np.int8), np.array(scores), np.array(drawn, dtype=np.float64))


def repeated(rows):
    """The rows as often as their weights say, each with weight one."""
    numbers = np.repeat(np.arange(len(rows.labels)), rows.weights.astype(int))
    drawn = rows.take(numbers)
    return ScoredRows(drawn.labels, drawn.scores, np.ones(len(numbers)))


def large(seed=0, size=4000, rate=0.02):
    generator = np.random.default_rng(seed)
    labels = (generator.random(size) < rate).astype(np.int8)
    scores = 1 / (1 + np.exp(-(generator.normal(size=size) + 3 * labels - 4)))
    return ScoredRows(labels, scores, generator.choice([1.0, 3.0], size))


def test_the_figures_are_scikit_learns():
    rows = large()
    found = figures(rows, flag=0.3)
    flagged = rows.scores >= 0.3
    keys = {"sample_weight": rows.weights}
    assert found["average_precision"] == pytest.approx(
        reference.average_precision_score(rows.labels, rows.scores, **keys)
    )
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(rows.labels, rows.scores, **keys))
    assert found["precision"] == pytest.approx(reference.precision_score(rows.labels, flagged, **keys))
    assert found["recall"] == pytest.approx(reference.recall_score(rows.labels, flagged, **keys))
    assert found["f1"] == pytest.approx(reference.f1_score(rows.labels, flagged, **keys))
    assert found["log_loss"] == pytest.approx(reference.log_loss(rows.labels, rows.scores, **keys))
    brier = np.average((rows.scores - rows.labels) ** 2, weights=rows.weights)
    assert found["brier_score"] == pytest.approx(brier)
    assert found["recall_at_1_percent_fpr"] == recall_at(rows, 0.01)
    assert found["recall_at_0.1_percent_fpr"] == recall_at(rows, 0.001)
    assert found["expected_calibration_error"] == expected_calibration_error(rows)


@given(scored_rows())
def test_average_precision_is_the_sum_of_precisions_at_each_rise_of_recall(rows):
    total, last = 0.0, 0.0
    frauds = rows.weights[rows.labels == 1].sum()
    for threshold in np.unique(rows.scores)[::-1]:
        flagged = rows.scores >= threshold
        caught = rows.weights[flagged & (rows.labels == 1)].sum()
        total += (caught / frauds - last) * caught / rows.weights[flagged].sum()
        last = caught / frauds
    assert average_precision(rows) == pytest.approx(total)


@given(scored_rows())
def test_auc_is_the_weighted_share_of_pairs_in_the_right_order(rows):
    fraud, legitimate = rows.labels == 1, rows.labels == 0
    right = (rows.scores[fraud, None] > rows.scores[legitimate]) + 0.5 * (
        rows.scores[fraud, None] == rows.scores[legitimate]
    )
    pairs = rows.weights[fraud, None] * rows.weights[legitimate]
    assert roc_auc(rows) == pytest.approx((right * pairs).sum() / pairs.sum())


@given(scored_rows(), st.sampled_from([0.0, 0.05, 0.25, 0.5, 1.0]))
def test_recall_at_a_rate_is_the_best_over_all_thresholds(rows, rate):
    fraud, legitimate = rows.labels == 1, rows.labels == 0
    best = 0.0
    for threshold in [*np.unique(rows.scores), np.inf]:
        flagged = rows.scores >= threshold
        alarms = rows.weights[flagged & legitimate].sum() / rows.weights[legitimate].sum()
        if alarms <= rate:
            best = max(best, rows.weights[flagged & fraud].sum() / rows.weights[fraud].sum())
    assert recall_at(rows, rate) == pytest.approx(best)


def test_recall_at_a_rate_sees_points_on_a_straight_part_of_the_curve():
    # Each score is shared by a fraud and a legitimate transaction: the curve is a diagonal.
    scores = np.repeat(np.linspace(0.1, 0.9, 10), 2)
    rows = ScoredRows(np.tile([0, 1], 10).astype(np.int8), scores, np.ones(20))
    assert recall_at(rows, 0.5) == pytest.approx(0.5)


@given(scored_rows(weights=st.integers(1, 4)), st.sampled_from([0.2, 0.5, 0.8]))
def test_a_weight_is_as_good_as_that_many_equal_rows(rows, flag):
    weighted, plain = figures(rows, flag), figures(repeated(rows), flag)
    # Its bins cut at another place where a heavy row spans two of them.
    del weighted["expected_calibration_error"], plain["expected_calibration_error"]
    assert weighted == pytest.approx(plain)


def test_rows_of_weight_zero_change_no_figure():
    rows = large()
    nothing = ScoredRows(
        np.append(rows.labels, [0, 1]).astype(np.int8),
        np.append(rows.scores, [0.999, 0.001]),
        np.append(rows.weights, [0.0, 0.0]),
    )
    assert figures(nothing, 0.3) == pytest.approx(figures(rows, 0.3))


def test_flagged_is_compared_as_float32():
    score = float(np.float64(np.float32(0.3)) - 1e-12)
    rows = ScoredRows(np.array([1, 0], dtype=np.int8), np.array([score, 0.1]), np.ones(2))
    assert score < float(np.float32(0.3))
    assert figures(rows, float(np.float32(0.3)))["recall"] == 1.0


def test_nothing_flagged_has_a_precision_of_zero():
    assert figures(large(), 1.0)["precision"] == 0.0


def test_the_calibration_error_of_true_probabilities_is_small_and_of_others_their_distance():
    generator = np.random.default_rng(4)
    scores = generator.random(200_000)
    labels = (generator.random(200_000) < scores).astype(np.int8)
    weights = np.ones(200_000)
    assert expected_calibration_error(ScoredRows(labels, scores, weights)) < 0.005
    constant = ScoredRows(labels, np.full(200_000, 0.9), weights)
    assert expected_calibration_error(constant) == pytest.approx(0.9 - labels.mean(), abs=0.01)


def test_the_calibration_error_is_the_weighted_mean_gap_of_bins_of_equal_weight():
    scores = np.array([0.1, 0.2, 0.6, 0.8])
    rows = ScoredRows(np.array([0, 1, 0, 1], dtype=np.int8), scores, np.ones(4))
    gaps = [abs(0.3 - 1) / 4, abs(1.4 - 1) / 4]
    assert expected_calibration_error(rows, bins=2) == pytest.approx(sum(gaps))


def test_every_objective_is_a_figure_and_grows_with_better_ranking():
    rows = large()
    better = ScoredRows(rows.labels, np.clip(rows.scores + 0.3 * rows.labels, 0, 1), rows.weights)
    for name, objective in OBJECTIVES.items():
        assert figures(rows, 0.5)[name] == objective(rows) < objective(better)
