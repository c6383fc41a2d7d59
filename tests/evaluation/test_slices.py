from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_kedro.champion.bundle import Thresholds
from fraud_kedro.evaluation.bootstrap import interval, resamples
from fraud_kedro.evaluation.metrics import average_precision
from fraud_kedro.evaluation.slices import slices

CUTS = Thresholds(flag=0.3, decline=0.9, policy="expected_cost")


def judged(rows, bands=(10.0, 100.0), repetitions=20):
    return slices(rows, CUTS, bands, repetitions=repetitions, seed=3)


def test_every_row_is_in_one_amount_band_and_one_part_of_the_day(scored_rows):
    @given(scored_rows(), st.lists(st.sampled_from([0.5, 1.0, 2.5, 50.0]), unique=True))
    def holds(rows, bands):
        found = judged(rows, sorted(bands), 2)
        for by in ("amount", "hour"):
            parts = [part for part in found if part.by == by]
            assert sum(part.rows for part in parts) == len(rows.labels)
            assert sum(part.frauds for part in parts) == rows.labels.sum()
            assert sum(part.transactions for part in parts) == pytest.approx(rows.weights.sum())
            assert len({part.band for part in parts}) == len(parts)

    holds()


def test_bands_are_named_by_their_limits_and_hold_the_lower_one(many_rows):
    rows = replace(many_rows(size=100), amounts=np.resize([9.99, 10.0, 99.0, 100.0, 5000.0], 100))
    counts = {part.band: part.rows for part in judged(rows) if part.by == "amount"}
    assert counts == {"below 10": 20, "10 to 100": 40, "100 and more": 40}
    (everything,) = (part for part in judged(rows, ()) if part.by == "amount")
    assert everything.band == "all"


def test_hours_are_those_of_the_day(many_rows):
    rows = replace(many_rows(size=100), seconds=np.resize([0.0, 86_400 * 2 + 3.9 * 3600, 86_399.0], 100))
    counts = {part.band: part.rows for part in judged(rows) if part.by == "hour"}
    assert counts == {"00 to 04 h": 67, "20 to 24 h": 33}


def test_a_slice_is_judged_on_the_resamples_of_the_whole(many_rows):
    rows = many_rows(size=3000)
    part = next(part for part in judged(rows) if part.band == "10 to 100")
    inside = (rows.amounts >= 10) & (rows.amounts < 100)
    expected = [average_precision(rows.take(drawn[inside[drawn]])) for drawn in resamples(rows.labels, 20, 3)]
    metric = part.figures["average_precision"]
    assert metric.value == pytest.approx(average_precision(rows.take(np.flatnonzero(inside))))
    assert (metric.low, metric.high) == pytest.approx(interval(np.array(expected)))


def test_a_slice_without_a_fraud_has_no_recall_but_a_false_positive_rate(many_rows):
    rows = many_rows(size=500)
    rows = replace(rows, amounts=np.where(rows.labels == 1, 5.0, 50.0))
    part = next(part for part in judged(rows) if part.band == "10 to 100")
    assert part.frauds == 0
    assert set(part.figures) == {"false_positive_rate"}
    frauds = next(part for part in judged(rows) if part.band == "below 10")
    assert "false_positive_rate" not in frauds.figures


def test_a_single_fraud_has_a_recall_without_an_interval(many_rows):
    rows = many_rows(size=500)
    alone = np.flatnonzero(rows.labels)[0]
    rows = replace(rows, amounts=np.where(np.arange(500) == alone, 500.0, 50.0))
    part = next(part for part in judged(rows, repetitions=60) if part.band == "100 and more")
    recall = part.figures["recall"]
    assert recall.value in (0.0, 1.0)
    assert (recall.low, recall.high) == (None, None)
