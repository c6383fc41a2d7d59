from __future__ import annotations

import numpy as np
import pytest

from fraud_kedro.evaluation.bootstrap import bootstrap_interval, paired_difference, resamples
from fraud_kedro.evaluation.metrics import ScoredRows, average_precision, roc_auc


def rows_of(seed=0, size=2000, separation=3.0):
    generator = np.random.default_rng(seed)
    labels = (np.arange(size) % 50 == 0).astype(np.int8)
    log_odds = generator.normal(size=size) + separation * labels - 4
    return ScoredRows(labels, 1 / (1 + np.exp(-log_odds)), np.ones(size))


def test_every_draw_has_as_many_frauds_as_the_rows():
    labels = rows_of().labels
    drawn = list(resamples(labels, 20, seed=1))
    assert len(drawn) == 20
    assert {(len(rows), int(labels[rows].sum())) for rows in drawn} == {(2000, 40)}
    assert not np.array_equal(drawn[0], drawn[1])


def test_the_same_seed_draws_the_same_rows():
    labels = rows_of().labels
    for first, second in zip(resamples(labels, 5, 3), resamples(labels, 5, 3), strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(next(resamples(labels, 1, 3)), next(resamples(labels, 1, 4)))


def test_the_interval_is_that_of_the_percentiles_of_the_draws():
    rows = rows_of()
    values = [roc_auc(rows.take(drawn)) for drawn in resamples(rows.labels, 60, 7)]
    expected = np.quantile(values, [0.025, 0.975])
    assert bootstrap_interval(roc_auc, rows, repetitions=60, seed=7) == pytest.approx(tuple(expected))


def test_the_interval_holds_the_figure_and_is_narrower_with_more_rows():
    few, many = rows_of(size=1000), rows_of(size=16_000)
    low, high = bootstrap_interval(average_precision, few, repetitions=60, seed=0)
    assert low < average_precision(few) < high
    narrow = bootstrap_interval(average_precision, many, repetitions=60, seed=0)
    assert narrow[1] - narrow[0] < (high - low) / 2


def test_about_nineteen_of_twenty_intervals_hold_the_true_value():
    # The mean score of normal rows has a known standard error.
    def mean_score(rows):
        return float(rows.scores.mean())

    generator = np.random.default_rng(5)
    held = 0
    for number in range(200):
        rows = ScoredRows(np.zeros(100, dtype=np.int8), generator.normal(size=100), np.ones(100))
        low, high = bootstrap_interval(mean_score, rows, repetitions=100, seed=number)
        held += low <= 0 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_a_score_against_itself_differs_by_nothing():
    rows = rows_of()
    assert paired_difference(average_precision, rows, rows, repetitions=20, seed=0) == (0.0, 0.0, 0.0)


def test_a_difference_turns_its_sign_with_the_sides():
    better, worse = rows_of(separation=4.0), rows_of(separation=2.0)
    value, low, high = paired_difference(average_precision, better, worse, repetitions=60, seed=0)
    assert value == average_precision(better) - average_precision(worse) > 0
    assert 0 < low < value < high
    mirrored = paired_difference(average_precision, worse, better, repetitions=60, seed=0)
    assert mirrored == pytest.approx((-value, -high, -low))


def test_pairing_is_narrower_than_two_intervals():
    rows = rows_of()
    noise = np.random.default_rng(2).normal(scale=0.05, size=len(rows.labels))
    near = ScoredRows(rows.labels, rows.scores * np.exp(noise), rows.weights)
    _, low, high = paired_difference(average_precision, near, rows, repetitions=60, seed=0)
    alone = bootstrap_interval(average_precision, rows, repetitions=60, seed=0)
    assert high - low < (alone[1] - alone[0]) / 2
