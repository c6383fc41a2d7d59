from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from fraud_kedro.champion.bundle import Metric
from fraud_kedro.evaluation.thresholds import Costs
from fraud_kedro.monitoring.drift_verdict import DriftVerdict, WindowRecord
from fraud_kedro.monitoring.performance_report import Declined, Estimate, Figure, Figures, Performance, Scored
from fraud_kedro.monitoring.retraining import Reigning, RetrainingRule, decide
from fraud_kedro.monitoring.retraining_history import HistoryEntry
from fraud_kedro.monitoring.settled import LabelOptions

CHAMPION = "fraud_detection_lightgbm_v3"
RULE = RetrainingRule.model_validate({"age": {"max_days": 90}})


def reigning(now, *, days=20.0, **metrics):
    found = metrics or {"recall": Metric(value=0.8, low=0.7, high=0.9)}
    return Reigning(model_version=CHAMPION, created=now - timedelta(days=days), metrics=found)


def performance(now, recall=(0.8, 0.7, 0.9), *, version=CHAMPION, problem=None):
    figure = Figure(**dict(zip(("value", "low", "high"), recall, strict=True)))
    good = Figure(value=0.9, low=0.8, high=1.0)
    scored = Scored(
        model_version=version, predictions=1000, flagged=10, settled=900, waiting=100, frauds=40,
        declined=Declined(transactions=0, reviewed=0, frauds=0), basis="estimate" if problem else "labels",
        figures=None if problem else Figures(recall=figure, precision=good, average_precision=good),
        figures_problem=problem,
        estimate=Estimate(frauds=1.0, recall=None, precision=None, average_precision=None),
    )  # fmt: skip
    return Performance(
        as_of=now, since=now, until=now, by="day", rows=1000, is_all=True, labels=LabelOptions(),
        prices=Costs(),
        labels_without_prediction=0, from_the_future=0, versions=(scored,), periods=(),
    )  # fmt: skip


def verdict(now, kind="drift", *, days=1.0, of=CHAMPION):
    until = now - timedelta(days=days)
    window = WindowRecord(
        since=until - timedelta(days=30), until=until, rows=100, compared=100, without_features=0,
        other_schema=0, sampled=100, scored_by_champion=100, hours_covered=720.0, model_versions={of: 100},
    )  # fmt: skip
    return DriftVerdict(
        id="a-run", created=until, verdict=kind, drift_detected=kind == "drift", reason="V4 has moved",
        model_version=of, reference_rows=1000, window=window, false_alarm_budget=0.05,
    )  # fmt: skip


def done(now, outcome, *, days):
    return HistoryEntry(
        at=now - timedelta(days=days), kind="retraining", reason="a reason", outcome=outcome, version=4
    )


def decided(now, *, measured=None, drift=None, champion=None, history=(), rule=RULE):
    return decide(measured or performance(now), drift, champion or reigning(now), history, rule, now)


def test_a_good_champion_stays_and_what_is_not_known_is_said(now):
    decision = decided(now)
    assert not decision.retrain
    assert decision.reason == "nothing asks for a new model (not known: nobody has looked for drift)."
    assert decided(now, drift=verdict(now, "ok")).reason == "nothing asks for a new model."


def test_recall_below_the_champions_interval_asks_for_a_new_model(now):
    decision = decided(now, measured=performance(now, (0.4, 0.3, 0.5)))
    assert decision.retrain
    assert decision.reason == (
        "recall is 0.400 (0.300 to 0.500) on 40 frauds, 0.800 (0.700 to 0.900) was expected."
    )


@pytest.mark.parametrize("recall", [(0.65, 0.4, 0.85), (0.72, 0.65, 0.78), (0.65, None, None)])
def test_a_figure_that_may_be_as_good_as_ever_asks_for_nothing(now, recall):
    assert not decided(now, measured=performance(now, recall)).retrain


def test_too_few_labels_are_no_reason_and_said(now):
    decision = decided(now, measured=performance(now, problem="Too few settled transactions."))
    assert not decision.retrain
    assert decision.unknown["performance"] == "Too few settled transactions"
    silent = decided(now, measured=performance(now, version="fraud_detection_lightgbm_v2"))
    assert silent.unknown["performance"].startswith(f"{CHAMPION} has scored nothing")


def test_a_verdict_of_drift_asks_for_a_new_model(now):
    decision = decided(now, drift=verdict(now))
    assert (decision.retrain, decision.reason) == (True, "the data have drifted (V4 has moved).")
    assert not decided(now, drift=verdict(now, "warn")).retrain
    warned = RetrainingRule.model_validate({"drift": {"verdicts": ["warn", "drift"]}})
    assert decided(now, drift=verdict(now, "warn"), rule=warned).retrain
    assert not decided(
        now, drift=verdict(now), rule=RetrainingRule.model_validate({"drift": {"verdicts": []}})
    ).retrain


def test_a_verdict_that_is_old_or_of_an_earlier_champion_says_nothing(now):
    assert "too old" in decided(now, drift=verdict(now, days=8)).unknown["drift"]
    young = decided(now, drift=verdict(now, days=2), champion=reigning(now, days=1))
    assert young.unknown["drift"] == "the last look for drift was at another champion"
    others = decided(now, drift=verdict(now, of="fraud_detection_lightgbm_v2"))
    assert others.unknown["drift"] == "the last look for drift was at another champion"
    assert "too little data" in decided(now, drift=verdict(now, "insufficient_data")).unknown["drift"]


def test_age_asks_for_a_new_model_unless_it_is_switched_off(now):
    old = reigning(now, days=91)
    assert decided(now, champion=old).reason == "the champion is 91 days old, more than 90."
    assert not decided(
        now, champion=old, rule=RetrainingRule.model_validate({"age": {"max_days": None}})
    ).retrain


def test_a_loop_that_keeps_promoting_is_stopped_and_says_so(now):
    history = [done(now, "promoted", days=6), done(now, "promoted", days=3)]
    decision = decided(now, drift=verdict(now), history=history)
    assert not decision.retrain
    assert decision.held_back == (
        "2 retrainings were promoted in the last 7 days, and retraining.rule.guard.promotions allows 2; "
        "someone should look"
    )
    assert decision.reason == f"the data have drifted (V4 has moved). Not now: {decision.held_back}."
    assert decided(now, drift=verdict(now), history=[done(now, "promoted", days=8), history[1]]).retrain


@pytest.mark.parametrize("outcome", ["challenger", "rejected", "failed"])
def test_after_a_refusal_there_is_a_cool_down(now, outcome):
    held = decided(now, drift=verdict(now), history=[done(now, outcome, days=0.5)])
    assert not held.retrain
    assert held.held_back == (
        f"the last retraining ended as {outcome} (a reason), so none before 2026-07-01 00:00 UTC"
    )
    assert decided(now, drift=verdict(now), history=[done(now, outcome, days=1.5)]).retrain
    promoted_since = [done(now, outcome, days=0.5), done(now, "promoted", days=0.4)]
    assert decided(now, drift=verdict(now), history=promoted_since).retrain


def test_a_guard_with_nothing_to_hold_back_is_silent(now):
    assert decided(now, history=[done(now, "failed", days=0.1)]).held_back is None


@pytest.mark.parametrize(
    "options",
    [
        {"drift": {"verdicts": ["bad"]}},
        {"performance": {"figures": ["roc_auc"]}},
        {"performance": {"days": 0}},
        {"age": {"max_days": 0}},
        {"guard": {"promotions": 0}},
        {"guards": {}},
    ],
)
def test_a_rule_that_cannot_be_is_refused(options):
    with pytest.raises(ValidationError):
        RetrainingRule.model_validate(options)
