from __future__ import annotations

import numpy as np
import pytest

from fraud_kedro.evaluation.bootstrap import (
    bootstrap,
    interval,
    resampled_weights,
    resamples,
)
from fraud_kedro.evaluation.measures import ranking
from fraud_kedro.evaluation.metrics import ScoredRows, average_precision, roc_auc


def test_every_draw_has_as_many_frauds_as_the_rows(many_rows):
    labels = many_rows(size=2000).labels
    drawn = list(resamples(labels, 20, seed=1))
    assert len(drawn) == 20
    assert {(len(rows), int(labels[rows].sum())) for rows in drawn} == {(2000, 40)}
    assert not np.array_equal(drawn[0], drawn[1])


def test_the_same_seed_draws_the_same_rows(many_rows):
    labels = many_rows(size=2000).labels
    for first, second in zip(resamples(labels, 5, 3), resamples(labels, 5, 3), strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(next(resamples(labels, 1, 3)), next(resamples(labels, 1, 4)))


def test_a_draw_is_the_rows_weights_times_how_often_each_is_drawn(many_rows):
    rows = many_rows(size=500)
    batches = list(resampled_weights(rows, 7, 3, cells=1500))
    assert [batch.shape for batch in batches] == [(500, 3), (500, 3), (500, 1)]
    expected = [rows.weights * np.bincount(drawn, minlength=500) for drawn in resamples(rows.labels, 7, 3)]
    np.testing.assert_array_equal(np.hstack(batches).T, expected)


def test_every_figure_is_that_of_the_drawn_rows(many_rows):
    rows = many_rows(size=1000)
    found = bootstrap(rows, [ranking(rows)], repetitions=12, seed=7)
    drawn = [rows.take(numbers) for numbers in resamples(rows.labels, 12, 7)]
    np.testing.assert_allclose(found["roc_auc"], [roc_auc(each) for each in drawn])
    np.testing.assert_allclose(found["average_precision"], [average_precision(each) for each in drawn])


def test_the_interval_holds_the_figure_and_is_narrower_with_more_rows(many_rows):
    few, many = many_rows(size=1000), many_rows(size=16_000)

    def ends(rows):
        return interval(bootstrap(rows, [ranking(rows)], repetitions=60, seed=0)["average_precision"])

    low, high = ends(few)
    assert low < average_precision(few) < high
    narrow = ends(many)
    assert narrow[1] - narrow[0] < (high - low) / 2


def test_about_nineteen_of_twenty_intervals_hold_the_true_value():
    # The mean score of normal rows has a known standard error.
    generator = np.random.default_rng(5)
    held = 0
    for number in range(200):
        scores = generator.normal(size=100)
        rows = ScoredRows(np.zeros(100, dtype=np.int8), scores, np.ones(100))
        means = bootstrap(
            rows,
            [lambda weights, s=scores: {"mean": s @ weights / weights.sum(axis=0)}],
            repetitions=100,
            seed=number,
        )
        low, high = interval(means["mean"])
        held += low <= 0 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_an_interval_ignores_a_few_draws_without_the_figure_and_is_left_out_with_many():
    values = np.linspace(0, 1, 100)
    values[:5] = np.nan
    assert interval(values) == pytest.approx(tuple(np.quantile(values[5:], [0.025, 0.975])))
    values[:6] = np.nan
    assert interval(values) is None
