from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fraud_kedro.champion.bundle import Thresholds
from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.evaluation.thresholds import (
    Costs,
    ThresholdPolicy,
    choose_thresholds,
    cost_curve,
    covered_days,
    decision_costs,
)

# The largest probability a model gives is the largest float32 below 1.
HIGHEST = float(np.nextafter(np.float32(1), np.float32(0)))

distinct = st.floats(2.0**-29, HIGHEST, width=32)
# Neighbours in float32, and values that only float64 tells apart.
close = st.sampled_from([0.5, 0.5 + 2.0**-24, 0.5 + 2.0**-50, 0.5 + 2.0**-23, HIGHEST, 2.0**-29, 0.1])


@st.composite
def rows_and_amounts(draw, largest=12):
    size = draw(st.integers(2, largest))

    def lists(elements):
        return draw(st.lists(elements, min_size=size, max_size=size))

    labels = np.array(lists(st.integers(0, 1)), dtype=np.int8)
    labels[:2] = 0, 1
    scores = np.array(lists(st.one_of(distinct, close)), dtype=np.float64)
    weights = np.array(lists(st.sampled_from([0.5, 1.0, 2.0, 60.0])))
    amounts = np.array(lists(st.sampled_from([0.0, 1.0, 2.5, 40.0, 500.0])))
    return ScoredRows(labels, scores, weights), amounts


def expected_cost(review_cost=3.0, false_decline_cost=20.0):
    return ThresholdPolicy.model_validate(
        {"kind": "expected_cost", "review_cost": review_cost, "false_decline_cost": false_decline_cost}
    )


def alert_budget(flagged_share, declined_share):
    return ThresholdPolicy.model_validate(
        {"kind": "alert_budget", "flagged_share": flagged_share, "declined_share": declined_share}
    )


def alerts_per_day(flagged, declined):
    return ThresholdPolicy.model_validate(
        {"kind": "alerts_per_day", "flagged_per_day": flagged, "declined_per_day": declined}
    )


def decisions(rows, flag, decline):
    """Flagged and declined rows, as the service decides."""
    scores = rows.scores.astype(np.float32)
    return scores >= np.float32(flag), scores >= np.float32(decline)


def cost(rows, amounts, flagged, declined, review_cost, false_decline_cost):
    fraud = rows.labels == 1
    return (
        (rows.weights * amounts)[fraud & ~flagged].sum()
        + review_cost * rows.weights[flagged & ~declined].sum()
        + false_decline_cost * rows.weights[declined & ~fraud].sum()
    )


@given(rows_and_amounts(), st.sampled_from([0.0, 1.0, 3.0]), st.sampled_from([0.0, 2.0, 20.0]))
def test_no_pair_of_cuts_costs_less_than_the_chosen_one(drawn, review_cost, false_decline_cost):
    rows, amounts = drawn
    policy = expected_cost(review_cost, false_decline_cost)
    chosen = choose_thresholds(policy, rows, amounts)

    def cost_of(flag, decline):
        flagged, declined = decisions(rows, flag, decline)
        return cost(rows, amounts, flagged, declined, review_cost, false_decline_cost)

    cuts = [0.0, *np.unique(rows.scores.astype(np.float32)).tolist(), 1.0]
    best = min(cost_of(flag, decline) for flag in cuts for decline in cuts if flag <= decline)
    assert cost_of(chosen.flag, chosen.decline) == pytest.approx(best)


@given(rows_and_amounts(), st.sampled_from([0.01, 0.2, 0.5, 0.9]), st.sampled_from([0.001, 0.2, 0.5]))
def test_an_alert_budget_is_never_exceeded_and_nothing_more_would_fit(drawn, flagged_share, declined_share):
    rows, amounts = drawn
    declined_share = min(flagged_share, declined_share)
    chosen = choose_thresholds(alert_budget(flagged_share, declined_share), rows, amounts)
    legitimate = rows.labels == 0
    total = rows.weights[legitimate].sum()
    scores = rows.scores.astype(np.float32)
    limits = (flagged_share, declined_share)
    for selected, limit in zip(decisions(rows, chosen.flag, chosen.decline), limits, strict=True):
        assert rows.weights[selected & legitimate].sum() / total <= limit
        if not selected.all():
            more = scores >= scores[~selected].max()
            assert rows.weights[more & legitimate].sum() / total > limit


@given(rows_and_amounts(), st.sampled_from([0.5, 3.0, 70.0, 1000.0]), st.sampled_from([0.25, 2.0]))
def test_alerts_a_day_are_never_exceeded_and_nothing_more_would_fit(drawn, flagged, declined):
    rows, amounts = drawn
    days, declined = 1.5, min(flagged, declined)
    chosen = choose_thresholds(alerts_per_day(flagged, declined), rows, amounts, days)
    scores = rows.scores.astype(np.float32)
    limits = (flagged * days, declined * days)
    for selected, limit in zip(decisions(rows, chosen.flag, chosen.decline), limits, strict=True):
        assert rows.weights[selected].sum() <= limit
        if not selected.all():
            assert rows.weights[scores >= scores[~selected].max()].sum() > limit


def test_alerts_a_day_need_to_know_the_days():
    rows = ScoredRows(np.array([0, 1], dtype=np.int8), np.array([0.25, 0.75]), np.ones(2))
    with pytest.raises(TrainingError, match="how many days"):
        choose_thresholds(alerts_per_day(5, 1), rows, np.ones(2))


@pytest.mark.parametrize(
    ("seconds", "share", "days"),
    [([0.0, 43_200.0, 172_800.0], 1.0, 2.0), ([0.0, 172_800.0], 0.25, 0.5), ([7.0, 7.0], 1.0, 1 / 86_400)],
)
def test_rows_stand_for_the_days_they_span_times_their_share(seconds, share, days):
    assert covered_days(np.array(seconds), share) == pytest.approx(days)


@given(rows_and_amounts(), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_the_cost_curve_is_the_mean_cost_of_the_decisions_at_each_threshold(drawn, decline):
    rows, amounts = drawn
    priced = ScoredRows(rows.labels, rows.scores, rows.weights, amounts)
    costs = Costs(review_cost=2.0, false_decline_cost=7.0)
    flags = np.append(np.linspace(0, 1, 6), rows.scores)
    for flag, cost in zip(flags, cost_curve(priced, costs, flags, decline), strict=True):
        cuts = Thresholds(flag=flag, decline=max(flag, decline), policy="x")
        each = decision_costs(priced, cuts, costs)
        assert cost == pytest.approx(np.average(each, weights=rows.weights))


@given(rows_and_amounts())
def test_no_threshold_on_the_curve_costs_less_than_the_chosen_one(drawn):
    rows, amounts = drawn
    priced = ScoredRows(rows.labels, rows.scores, rows.weights, amounts)
    policy = expected_cost()
    chosen = choose_thresholds(policy, rows, amounts)
    flags = np.append(np.linspace(0, 1, 30), [*rows.scores, chosen.flag])
    curve = cost_curve(priced, policy.root, flags, chosen.decline)
    assert curve[-1] <= curve.min() + 1e-9 * (1 + abs(curve.min()))


@pytest.mark.parametrize("policy", [expected_cost(), alert_budget(0.3, 0.1)])
def test_equal_scores_are_flagged_together_or_not_at_all(policy):
    rows = ScoredRows(np.array([0, 1, 0, 0], dtype=np.int8), np.full(4, 0.4), np.ones(4))
    chosen = choose_thresholds(policy, rows, np.full(4, 100.0))
    flagged, _ = decisions(rows, chosen.flag, chosen.decline)
    assert flagged.all() or not flagged.any()


def test_frauds_without_an_amount_are_not_worth_a_review():
    rows = ScoredRows(np.array([0, 1], dtype=np.int8), np.array([0.25, 0.75]), np.ones(2))
    chosen = choose_thresholds(expected_cost(), rows, np.zeros(2))
    assert chosen.decline <= 1.0
    declined = rows.scores >= chosen.decline
    reviewed = (rows.scores >= chosen.flag) & ~declined
    assert not reviewed.any()


@given(rows_and_amounts(), st.sampled_from([expected_cost(), alert_budget(0.3, 0.1)]))
def test_thresholds_are_float32_and_in_order(drawn, policy):
    chosen = choose_thresholds(policy, *drawn)
    assert 0 <= chosen.flag <= chosen.decline <= 1
    for threshold in (chosen.flag, chosen.decline):
        assert float(np.float32(threshold)) == threshold
    assert chosen.policy == policy.root.kind


@given(rows_and_amounts())
def test_a_weight_is_as_good_as_that_many_equal_rows(drawn):
    rows, amounts = drawn
    weights = np.ceil(rows.weights)
    numbers = np.repeat(np.arange(len(weights)), weights.astype(int))
    plain = ScoredRows(rows.labels[numbers], rows.scores[numbers], np.ones(len(numbers)))
    for policy in (expected_cost(), alert_budget(0.3, 0.1)):
        weighted = choose_thresholds(policy, ScoredRows(rows.labels, rows.scores, weights), amounts)
        assert choose_thresholds(policy, plain, amounts[numbers]) == weighted


@given(rows_and_amounts(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(drawn, random):
    rows, amounts = drawn
    order = np.array(random.sample(range(len(amounts)), len(amounts)))
    for policy in (expected_cost(), alert_budget(0.3, 0.1)):
        assert choose_thresholds(policy, rows.take(order), amounts[order]) == choose_thresholds(
            policy, rows, amounts
        )


def test_a_threshold_lies_halfway_between_neighbouring_scores():
    rows = ScoredRows(np.array([0, 1], dtype=np.int8), np.array([0.25, 0.75]), np.ones(2))
    chosen = choose_thresholds(expected_cost(), rows, np.array([10.0, 100.0]))
    assert chosen.flag == 0.5


def test_cheap_reviews_flag_everything_and_dear_ones_nothing():
    rows = ScoredRows(np.array([0, 1], dtype=np.int8), np.array([0.75, 0.25]), np.ones(2))
    amounts = np.array([10.0, 100.0])
    assert choose_thresholds(expected_cost(1.0, 500.0), rows, amounts).flag == 0.0
    nothing = choose_thresholds(expected_cost(1000.0, 1000.0), rows, amounts)
    assert (nothing.flag, nothing.decline) == (1.0, 1.0)


def test_the_decision_counts_on_many_rows_are_those_of_the_policy():
    generator = np.random.default_rng(0)
    labels = (generator.random(20_000) < 0.01).astype(np.int8)
    scores = np.clip(1 / (1 + np.exp(-(generator.normal(size=20_000) + 4 * labels - 5))), 1e-9, HIGHEST)
    rows = ScoredRows(labels, scores, np.ones(20_000))
    chosen = choose_thresholds(alert_budget(0.01, 0.001), rows, np.ones(20_000))
    flagged, declined = decisions(rows, chosen.flag, chosen.decline)
    legitimate = int((labels == 0).sum())
    assert (flagged & (labels == 0)).sum() == int(0.01 * legitimate)
    assert (declined & (labels == 0)).sum() == int(0.001 * legitimate)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "lowest"},
        {"kind": "expected_cost", "review_cost": -1},
        {"kind": "alert_budget", "flagged_share": 0},
        {"kind": "alert_budget", "reviews": 3},
        {"kind": "alerts_per_day", "flagged_per_day": 0},
        {"kind": "alerts_per_day", "flagged_per_day": float("inf")},
        {"kind": "alerts_per_day", "flagged_per_day": 5, "declined_per_day": 6},
        {"kind": "alert_budget", "flagged_share": 0.001, "declined_share": 0.01},
        {"kind": "expected_cost", "review_cost": float("nan")},
    ],
)
def test_an_unknown_policy_or_an_impossible_number_is_refused(wrong):
    with pytest.raises(ValidationError):
        ThresholdPolicy.model_validate(wrong)
