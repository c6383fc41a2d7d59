from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_score, recall_score

from fraud_kedro.evaluation.thresholds import Costs
from fraud_kedro.monitoring.performance import estimated, performance_over_time
from fraud_kedro.monitoring.settled import LabelOptions, settled_labels

COSTS = Costs(review_cost=3.0, false_decline_cost=20.0)


def measured(log, now, *, labels=None, **changes):
    options = {"days": 365, "by": "day", "amount": "Amount", "repetitions": 50, "as_of": now, **changes}
    return performance_over_time(log.reader, labels=labels or LabelOptions(), costs=COSTS, **options)


@pytest.fixture
def scored(any_log, record):
    """Twelve frauds and 200 others of 60 days ago, and what the model said of them."""
    generator = np.random.default_rng(1)
    labels = np.array([1] * 12 + [0] * 200)
    scores = np.clip(np.where(labels == 1, 0.6, 0.2) + generator.normal(scale=0.2, size=212), 0.001, 0.79)
    any_log.add(*(record(f"t{n}", float(score)) for n, score in enumerate(scores)))
    for number in range(12):
        any_log.label(f"t{number}", 1)
    return any_log, labels, scores


def test_figures_are_those_of_the_settled_labels(scored, now):
    log, labels, scores = scored
    [version] = measured(log, now).versions
    flagged = scores >= 0.5
    assert (version.basis, version.settled, version.frauds, version.waiting) == ("labels", 212, 12, 0)
    assert version.figures.recall.value == pytest.approx(recall_score(labels, flagged))
    assert version.figures.precision.value == pytest.approx(precision_score(labels, flagged))
    assert version.figures.average_precision.value == pytest.approx(average_precision_score(labels, scores))
    missed = ((labels == 1) & ~flagged).sum()
    assert version.figures.expected_cost.value == pytest.approx((10 * missed + 3 * flagged.sum()) / 212)
    assert version.figures.savings.value == pytest.approx(1 - (10 * missed + 3 * flagged.sum()) / 120)
    for figure in (version.figures.recall, version.figures.average_precision):
        assert figure.low <= figure.value <= figure.high


def test_silence_is_read_only_once_a_transaction_is_mature(log, record, now):
    log.add(
        *(record(f"old{n}", days=31) for n in range(20)), *(record(f"new{n}", days=29) for n in range(20))
    )
    for number in range(10):
        log.label(f"old{number}", 1, days=1)
        log.label(f"new{number}", 1, days=1)
    [version] = measured(log, now).versions
    assert (version.settled, version.frauds, version.waiting) == (20, 10, 20)
    [unknown] = measured(log, now, labels=LabelOptions(unlabelled="unknown")).versions
    assert (unknown.settled, unknown.frauds) == (10, 10)
    [sooner] = measured(log, now, labels=LabelOptions(maturity_days=28)).versions
    assert (sooner.settled, sooner.frauds, sooner.waiting) == (40, 20, 0)


def test_what_came_later_was_not_known_then(log, record, now):
    log.add(*(record(f"t{n}", days=60) for n in range(30)))
    for number in range(10):
        log.label(f"t{number}", 1, days=5)
    log.label("t10", 1, days=20, received_days=5)
    [then] = measured(log, now - timedelta(days=10)).versions
    assert (then.settled, then.frauds) == (30, 0)
    [since] = measured(log, now).versions
    assert since.frauds == 11


def test_declined_transactions_never_mature_and_are_reported_apart(log, record, now):
    log.add(*(record(f"d{n}", 0.9) for n in range(10)), *(record(f"t{n}", 0.1) for n in range(10)))
    log.label("d0", 1)
    log.label("d1", 0)
    [version] = measured(log, now).versions
    assert (version.settled, version.frauds) == (12, 1)
    declined = version.declined
    assert (declined.transactions, declined.reviewed, declined.frauds) == (10, 2, 1)


def test_until_labels_come_there_is_an_estimate_that_says_so(log, record, now):
    log.add(*(record(f"t{n}", 0.6 if n % 4 == 0 else 0.1, days=1) for n in range(40)))
    [version] = measured(log, now).versions
    assert (version.basis, version.figures) == ("estimate", None)
    assert version.figures_problem == (
        "Too few settled transactions: 10 frauds and 10 legitimate ones are needed, 0 and 0 there are; "
        "40 still wait for their labels."
    )
    assert version.estimate.frauds == pytest.approx(10 * 0.6 + 30 * 0.1)
    assert version.estimate.recall == pytest.approx(6 / 9)
    assert version.estimate.precision == pytest.approx(0.6)
    assert version.estimate.expected_cost == pytest.approx((30 * 0.1 * 10 + 10 * 3) / 40)


def test_periods_are_days_or_weeks_and_each_version_has_its_own(log, record, now):
    log.add(record("a", days=3), record("b", days=3, version="other"), record("c", days=1))
    by_day = measured(log, now).periods
    assert [(p.start.day, p.model_version, p.predictions) for p in by_day] == [
        (27, "fraud_detection_lightgbm_v1", 1), (27, "other", 1), (29, "fraud_detection_lightgbm_v1", 1),
    ]  # fmt: skip
    by_week = measured(log, now, by="week").periods
    # The 29th was a Monday.
    assert [(p.start.day, p.end - p.start) for p in by_week] == [
        (22, timedelta(days=7)), (22, timedelta(days=7)), (29, timedelta(days=7)),
    ]  # fmt: skip


def test_shadow_scores_are_no_answers(log, record, now):
    log.add(record("a"), record("a", role="shadow", version="shadow"))
    assert [version.model_version for version in measured(log, now).versions] == [
        "fraud_detection_lightgbm_v1"
    ]


def test_an_empty_log_has_no_versions_and_no_error(log, now):
    found = measured(log, now)
    assert (found.rows, found.versions, found.periods, found.is_all) == (0, (), (), True)


def test_rows_of_another_schema_have_no_costs(log, record, now):
    log.add(*(record(f"t{n}", 0.6, features={"Betrag": 1.0}) for n in range(20)))
    for number in range(10):
        log.label(f"t{number}", 1)
    [version] = measured(log, now).versions
    assert (version.figures.expected_cost, version.figures.savings) == (None, None)
    assert version.figures.recall.value == 1
    assert version.estimate.expected_cost is None


def test_labels_before_their_predictions_are_counted_and_join_when_those_come(any_log, record, now):
    any_log.label("early", 1)
    assert measured(any_log, now).labels_without_prediction == 1
    any_log.add(record("early"))
    found = measured(any_log, now)
    assert (found.labels_without_prediction, found.versions[0].frauds) == (0, 1)


def test_of_two_labels_the_later_known_wins_whatever_came_first(log, record, now):
    log.add(record("a"), record("b"))
    log.label("a", 0, days=10)
    log.label("a", 1, days=40)
    log.label("b", 1, days=10)
    [version] = measured(log, now).versions
    assert version.frauds == 1


def test_a_clock_that_is_ahead_is_reported_and_matures_nothing(log, record, now):
    log.add(record("a", days=-1), record("b", days=60))
    found = measured(log, now)
    assert (found.from_the_future, found.rows, found.versions[0].settled) == (1, 2, 1)


def test_the_newest_rows_are_read_where_there_are_too_many(log, record, now):
    log.add(*(record(f"t{n}", days=n + 1) for n in range(5)))
    found = measured(log, now, most_rows=2)
    assert (found.rows, found.is_all, found.since) == (2, False, now - timedelta(days=2))


labels = st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=1, max_size=30)


@settings(deadline=None)
@given(given_labels=labels, seed=st.integers(0, 9), unlabelled=st.sampled_from(["legitimate", "unknown"]))
def test_nothing_immature_is_settled_and_no_label_is_contradicted(given_labels, seed, unlabelled):
    generator = np.random.default_rng(seed)
    known = np.array(given_labels)
    decided = generator.choice(["approve", "review", "decline"], len(known)).astype(object)
    mature = generator.random(len(known)) < 0.5
    settled = settled_labels(known, decided, mature, LabelOptions(unlabelled=unlabelled))
    assert np.isnan(settled[~mature]).all()
    labelled = mature & ~np.isnan(known)
    assert (settled[labelled] == known[labelled]).all()
    silent = mature & np.isnan(known)
    assert np.isnan(settled[silent & (decided == "decline")]).all()
    if unlabelled == "unknown":
        assert np.isnan(settled[silent]).all()
    else:
        assert (settled[silent & (decided != "decline")] == 0).all()


def test_an_estimate_of_calibrated_scores_is_near_the_truth():
    generator = np.random.default_rng(5)
    scores = generator.beta(0.3, 3, size=400_000)
    fraud = generator.random(400_000) < scores
    flagged = scores >= 0.3
    amounts = generator.exponential(50, size=400_000)
    found = estimated(scores, flagged, np.where(flagged, 0.5, 0.0), amounts, COSTS)
    assert found.recall == pytest.approx(recall_score(fraud, flagged), abs=0.02)
    assert found.precision == pytest.approx(precision_score(fraud, flagged), abs=0.02)
    assert found.average_precision == pytest.approx(average_precision_score(fraud, scores), abs=0.03)
    cost = (amounts[fraud & ~flagged].sum() + 3 * flagged.sum()) / 400_000
    assert found.expected_cost == pytest.approx(cost, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_estimated_average_precision_is_right_where_frauds_are_few(seed):
    generator = np.random.default_rng(seed)
    scores = np.concatenate([generator.beta(2, 1, 6), generator.beta(0.2, 60, 500)])
    nothing = np.zeros(len(scores))
    found = estimated(scores, nothing == 1, nothing, nothing, COSTS).average_precision
    drawn = [generator.random(len(scores)) < scores for _ in range(300)]
    truth = np.mean([average_precision_score(fraud, scores) for fraud in drawn if fraud.any()])
    assert found == pytest.approx(truth, abs=0.03)


class ManyRows:
    """A log of many rows that are read one by one, newest first."""

    def __init__(self, rows, now):
        self.rows, self.now = rows, now

    def labelled(self, *, limit, **_):
        for number in range(min(self.rows, limit)):
            yield {
                "timestamp": self.now - timedelta(minutes=number), "model_version": "m_v1",
                "probability": number / self.rows, "prediction": 0, "decision": "approve",
                "Amount": float(number), "label": None, "labelled_at": None,
            }  # fmt: skip

    def labels_without_prediction(self):
        return 0


def test_a_long_log_is_read_in_columns(now):
    rows = 150_000
    labels = LabelOptions(unlabelled="unknown")
    tracemalloc.start()
    try:
        found = performance_over_time(
            ManyRows(rows, now), days=365, by="week", labels=labels, costs=COSTS, amount="Amount",
            repetitions=10, as_of=now,
        )  # fmt: skip
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.rows == rows
    # As dictionaries they take some 540 bytes each.
    assert most / rows < 300


def test_moments_are_told_in_utc(log, record, now):
    log.add(record("a"))
    assert measured(log, now).since == datetime(2026, 5, 1, 12, tzinfo=UTC)
