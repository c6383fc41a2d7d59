from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from fraud_kedro.champion.bundle import Thresholds
from fraud_kedro.evaluation.measures import (
    alert_precision,
    costs_of_decisions,
    decisions,
    left_out,
    measure,
    probabilities,
    ranking,
)
from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.evaluation.thresholds import Costs, decision_costs

COSTS = Costs(review_cost=2.0, false_decline_cost=10.0)


def cuts(flag, decline=0.9):
    return Thresholds(flag=flag, decline=decline, policy="expected_cost")


def all_of(rows, flag=0.3):
    return (
        ranking(rows),
        decisions(rows, cuts(flag)),
        alert_precision(rows, 10),
        costs_of_decisions(rows, cuts(flag), COSTS),
        probabilities(rows),
    )


def figures(rows, flag=0.3):
    return measure(rows, all_of(rows, flag))


def best_recall(rows, limit):
    rates, recalls, _ = reference.roc_curve(
        rows.labels, rows.scores, sample_weight=rows.weights, drop_intermediate=False
    )
    return recalls[rates <= limit].max()


def test_the_figures_are_scikit_learns(many_rows):
    rows = many_rows()
    found, flagged = figures(rows), rows.scores >= 0.3
    labels, scores, weights = rows.labels, rows.scores, {"sample_weight": rows.weights}
    expected = {
        "average_precision": reference.average_precision_score(labels, scores, **weights),
        "roc_auc": reference.roc_auc_score(labels, scores, **weights),
        "precision": reference.precision_score(labels, flagged, **weights),
        "recall": reference.recall_score(labels, flagged, **weights),
        "f1": reference.f1_score(labels, flagged, **weights),
        "log_loss": reference.log_loss(labels, scores, **weights),
        "brier_score": reference.brier_score_loss(labels, scores, **weights),
        "false_positive_rate": reference.recall_score(1 - labels, flagged, **weights),
        "recall_at_1_percent_fpr": best_recall(rows, 0.01),
        "recall_at_0.1_percent_fpr": best_recall(rows, 0.001),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_the_ranking_is_scikit_learns_with_ties_and_weights(scored_rows):
    @given(scored_rows())
    def holds(rows):
        found = measure(rows, [ranking(rows)])
        weights = {"sample_weight": rows.weights}
        assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(rows.labels, rows.scores, **weights))
        assert found["average_precision"] == pytest.approx(
            reference.average_precision_score(rows.labels, rows.scores, **weights)
        )
        assert found["recall_at_1_percent_fpr"] == pytest.approx(best_recall(rows, 0.01))

    holds()


def test_many_weightings_at_once_are_as_good_as_one_after_the_other(many_rows):
    rows = many_rows(size=800)
    weights = np.random.default_rng(1).poisson(1.0, (800, 5)) * rows.weights[:, None]
    for each in all_of(rows):
        together = each(weights)
        for draw in range(5):
            for name, value in each(weights[:, [draw]]).items():
                assert together[name][draw] == pytest.approx(value[0])


def test_a_weight_is_as_good_as_that_many_equal_rows(scored_rows):
    @given(scored_rows(weights=(1, 2, 3, 4)), st.sampled_from([0.2, 0.5, 0.8]))
    def holds(rows, flag):
        repeated = rows.take(np.repeat(np.arange(len(rows.labels)), rows.weights.astype(int)))
        weighted, plain = (
            figures(rows, flag),
            figures(replace(repeated, weights=np.ones(len(repeated.labels))), flag),
        )
        # Its bins cut at another place where a heavy row spans two of them.
        del weighted["expected_calibration_error"], plain["expected_calibration_error"]
        assert weighted == pytest.approx(plain)

    holds()


def test_rows_of_weight_zero_change_no_figure(many_rows):
    rows = many_rows()
    silent = ScoredRows(
        np.append(rows.labels, [0, 1]).astype(np.int8),
        np.append(rows.scores, [0.999, 0.001]),
        np.append(rows.weights, [0.0, 0.0]),
        np.append(rows.amounts, [5.0, 5.0]),
        np.append(rows.seconds, [100.0, 200.0]),
    )
    assert figures(silent) == pytest.approx(figures(rows))


def test_flagged_is_compared_as_float32():
    score = float(np.float64(np.float32(0.3)) - 1e-12)
    rows = ScoredRows(np.array([1, 0], dtype=np.int8), np.array([score, 0.1]), np.ones(2))
    assert score < float(np.float32(0.3))
    assert measure(rows, [decisions(rows, cuts(float(np.float32(0.3))))])["recall"] == 1.0


def test_a_threshold_that_nothing_reaches_has_a_precision_and_recall_of_zero_and_saves_nothing(many_rows):
    rows = many_rows()
    nothing = (decisions(rows, cuts(1.0, 1.0)), costs_of_decisions(rows, cuts(1.0, 1.0), COSTS))
    found = measure(rows, nothing)
    assert (found["precision"], found["recall"], found["f1"], found["savings"]) == (0, 0, 0, 0)
    assert found["expected_cost"] > 0


def test_recall_at_a_rate_sees_points_on_a_straight_part_of_the_curve():
    # Each score is shared by a fraud and a hundred legitimate transactions: the curve is a diagonal.
    scores = np.repeat(np.linspace(0.1, 0.9, 100), 2)
    labels = np.tile([0, 1], 100).astype(np.int8)
    rows = ScoredRows(labels, scores, np.where(labels, 1.0, 100.0))
    assert measure(rows, [ranking(rows)])["recall_at_1_percent_fpr"] == pytest.approx(0.01)


def test_equal_scores_rank_nothing(many_rows):
    rows = replace(many_rows(), scores=np.full(4000, 0.2))
    found = figures(rows)
    assert found["roc_auc"] == 0.5
    assert found["average_precision"] == pytest.approx(
        rows.weights[rows.labels == 1].sum() / rows.weights.sum()
    )
    assert found["recall_at_1_percent_fpr"] == 0.0


def test_the_costs_are_the_mean_of_the_decisions_and_savings_are_against_flagging_nothing(many_rows):
    rows = many_rows()
    found = measure(rows, [costs_of_decisions(rows, cuts(0.1), COSTS)])
    each = decision_costs(rows, cuts(0.1), COSTS)
    assert found["expected_cost"] == pytest.approx(np.average(each, weights=rows.weights))
    nothing = (rows.amounts * rows.labels) @ rows.weights
    assert found["savings"] == pytest.approx(1 - each @ rows.weights / nothing)


def test_a_figure_that_is_not_defined_is_left_out_with_its_reason(many_rows):
    rows = many_rows()
    free = replace(rows, amounts=np.zeros(4000))
    assert "savings" not in figures(free)
    assert left_out(free, all_of(free)) == {"savings": "needs frauds with an amount above 0"}
    legitimate = replace(rows, labels=np.zeros(4000, dtype=np.int8))
    missing = left_out(legitimate, all_of(legitimate))
    assert missing["average_precision"] == missing["recall"] == "needs both classes"
    assert set(figures(legitimate)).isdisjoint(missing)
    assert left_out(rows, all_of(rows)) == {}


def test_no_figure_of_single_class_draws_is_a_number(many_rows):
    rows = many_rows(size=100)
    legitimate = np.where(rows.labels == 0, rows.weights, 0.0)[:, None]
    found = {name: value[0] for each in all_of(rows) for name, value in each(legitimate).items()}
    for name in ("average_precision", "roc_auc", "recall", "precision", "f1", "recall_at_1_percent_fpr"):
        assert np.isnan(found[name])
    assert np.isfinite(found["false_positive_rate"])


def test_alerts_are_the_highest_scores_of_each_day():
    day = 86_400.0
    # By day: the two highest are both frauds; one of two; the last day is half a day long: one alert.
    rows = ScoredRows(
        labels=np.array([1, 1, 0, 0, 1, 0, 0, 1], dtype=np.int8),
        scores=np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.9, 0.2]),
        weights=np.ones(8),
        seconds=np.array([0, 1, 2, day, day + 1, day + 2, 2 * day, 2.5 * day]),
    )
    assert measure(rows, [alert_precision(rows, 2)]) == {"precision_at_2_per_day": pytest.approx(3 / 5)}


def test_alerts_of_a_sample_are_its_share_of_them_and_a_heavy_row_takes_several():
    rows = ScoredRows(
        labels=np.array([1, 0, 1, 0], dtype=np.int8),
        scores=np.array([0.9, 0.8, 0.7, 0.1]),
        weights=np.array([1.0, 3.0, 1.0, 1.0]),
        seconds=np.array([0.0, 1.0, 2.0, 86_399.99]),
    )
    assert measure(rows, [alert_precision(rows, 4)])["precision_at_4_per_day"] == pytest.approx(
        1 / 4, rel=1e-3
    )
    halved = measure(rows, [alert_precision(rows, 4, share=0.5)])["precision_at_4_per_day"]
    assert halved == pytest.approx(1 / 2, rel=1e-3)


def test_more_alerts_than_transactions_are_all_of_them(many_rows):
    rows = many_rows(size=200)
    found = measure(rows, [alert_precision(rows, 10_000)])["precision_at_10000_per_day"]
    assert found == pytest.approx(rows.weights[rows.labels == 1].sum() / rows.weights.sum())


def test_the_calibration_error_of_true_probabilities_is_small_and_of_others_their_distance():
    generator = np.random.default_rng(4)
    scores = generator.random(200_000)
    labels = (generator.random(200_000) < scores).astype(np.int8)
    rows = ScoredRows(labels, scores, np.ones(200_000))
    assert measure(rows, [probabilities(rows)])["expected_calibration_error"] < 0.005
    constant = replace(rows, scores=np.full(200_000, 0.9))
    error = measure(constant, [probabilities(constant)])["expected_calibration_error"]
    assert error == pytest.approx(0.9 - labels.mean(), abs=0.01)


def test_the_calibration_error_is_the_weighted_mean_gap_of_bins_of_equal_weight():
    rows = ScoredRows(np.array([0, 1, 0, 1], dtype=np.int8), np.array([0.1, 0.2, 0.6, 0.8]), np.ones(4))
    gaps = [abs(0.3 - 1) / 4, abs(1.4 - 1) / 4]
    found = measure(rows, [probabilities(rows, bins=2)])["expected_calibration_error"]
    assert found == pytest.approx(sum(gaps))
