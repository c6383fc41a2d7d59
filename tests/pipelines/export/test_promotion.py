from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from fraud_kedro.champion.bundle import DataSource, Metric, PartRecord, Thresholds
from fraud_kedro.evaluation.measures import ranking
from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.evaluation.selection import paired_figures
from fraud_kedro.evaluation.thresholds import Costs
from fraud_kedro.pipelines.export.options import PromotionOptions
from fraud_kedro.pipelines.export.parity import ParityReport, RowSetParity
from fraud_kedro.pipelines.export.promotion import Contender, GateRows, decide, has_not_seen

SIMULATED = DataSource(kind="simulated", name="simulated", location="simulator")
REAL = DataSource(kind="real", name="creditcard", location="creditcard.csv")
OTHER_REAL = DataSource(kind="real", name="shop", location="shop.csv")

LABELS = (np.arange(2000) % 25 == 0).astype(np.int8)
WEIGHTS = np.ones(2000)
# Every fourth fraud in each band of amounts.
AMOUNTS = np.repeat([5.0, 50.0, 200.0, 900.0], 25)[np.arange(2000) % 100]
ROWS = GateRows(LABELS, WEIGHTS, AMOUNTS)
PARITY = ParityReport(
    algorithm="logistic_regression",
    tolerance=1e-5,
    splits=0,
    probed_splits=0,
    row_sets={"test": RowSetParity(rows=2000, max_difference=1e-7, differing_decisions=0)},
)


@pytest.fixture(scope="module")
def base(make_bundle, tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "a").metadata


def scores(quality, seed=0):
    """Probabilities that separate the classes the better the higher the quality."""
    noise = np.random.default_rng(seed).normal(size=len(LABELS))
    return (1 / (1 + np.exp(-(noise + quality * LABELS - 4)))).astype(np.float32)


def metadata(base, *, source=SIMULATED, calibration_error=0.001, **data):
    metrics = {**base.metrics, "expected_calibration_error": Metric(value=calibration_error)}
    record = base.data.model_copy(update={"source": source, **data})
    return base.model_copy(update={"data": record, "metrics": metrics})


def contender(base, version, quality=3.0, **changes):
    given = None if quality is None else scores(quality)
    return Contender(version, metadata(base, **changes), given)


def judge(candidate, reigning, latency_ms=0.05, figure="average_precision", **options):
    return decide(
        candidate,
        reigning,
        ROWS,
        figure=figure,
        costs=Costs(),
        latency_ms=latency_ms,
        parity=PARITY,
        options=PromotionOptions(repetitions=50, **options),
        seed=0,
    )


def test_the_first_version_is_promoted(base):
    found = judge(contender(base, 1), None)
    assert (found.outcome, found.version, found.reigning_version) == ("promoted", 1, None)
    assert found.reason == "the first version"
    assert found.difference is None
    assert found.algorithm == base.algorithm


def test_a_better_candidate_is_promoted_with_the_numbers(base):
    found = judge(contender(base, 2, 4.0), contender(base, 1, 3.0))
    rows = {
        name: ScoredRows(LABELS, scores(strength).astype(np.float64), WEIGHTS)
        for name, strength in (("candidate", 4.0), ("reigning", 3.0))
    }
    value, (low, high) = paired_figures(
        {name: (each, ranking(each)) for name, each in rows.items()},
        "average_precision",
        repetitions=50,
        seed=0,
    ).difference("candidate", "reigning")
    assert found.outcome == "promoted"
    assert found.difference == Metric(value=value, low=low, high=high)
    assert low > 0
    assert found.reason == f"average_precision {value:+.4f} ({low:+.4f} to {high:+.4f}) against version 1"


def test_by_savings_the_thresholds_of_each_side_decide(base):
    blind = metadata(base).model_copy(
        update={"thresholds": Thresholds(flag=1.0, decline=1.0, policy="expected_cost")}
    )
    sharp = metadata(base).model_copy(
        update={"thresholds": Thresholds(flag=0.3, decline=1.0, policy="expected_cost")}
    )
    found = judge(Contender(2, sharp, scores(4.0)), Contender(1, blind, scores(4.0)), figure="savings")
    assert found.outcome == "promoted"
    assert found.difference.low > 0
    back = judge(Contender(3, blind, scores(4.0)), Contender(2, sharp, scores(4.0)), figure="savings")
    assert back.outcome != "promoted"


def test_an_equal_candidate_is_promoted(base):
    found = judge(contender(base, 2), contender(base, 1))
    assert found.outcome == "promoted"
    assert found.difference == Metric(value=0, low=0, high=0)


def test_a_worse_candidate_is_challenger(base):
    found = judge(contender(base, 2, 2.9), contender(base, 1, 3.0), margin=1.0)
    assert found.outcome == "challenger"
    assert found.reason.endswith("against version 1: worse")
    assert found.reigning_version == 1
    assert found.difference is not None
    assert found.difference.value < 0


def test_a_candidate_whose_interval_reaches_too_low_is_challenger(base):
    # Other noise: a little better on the whole, unsure in every draw.
    unsure = Contender(2, metadata(base), scores(3.0, seed=5))
    reigning = Contender(1, metadata(base), scores(2.8, seed=0))
    sure = judge(unsure, reigning, margin=0.0)
    assert sure.difference is not None
    assert sure.difference.value > 0 > sure.difference.low
    assert sure.outcome == "challenger"
    assert sure.reason.endswith(": the interval reaches below -0.0")
    # The same numbers with a margin that holds the interval.
    assert judge(unsure, reigning, margin=-sure.difference.low + 1e-9).outcome == "promoted"


def test_a_badly_calibrated_candidate_is_rejected_even_as_the_first(base):
    for reigning in (None, contender(base, 1, 0.5)):
        found = judge(contender(base, 2, 5.0, calibration_error=0.02), reigning)
        assert found.outcome == "rejected"
        assert found.reason == "calibration error 0.0200 is above promotion.max_calibration_error (0.01)"
    assert judge(contender(base, 2, 5.0, calibration_error=0.01), None).outcome == "promoted"


def test_in_manual_mode_a_candidate_waits(base):
    for reigning in (None, contender(base, 1, 0.5), contender(base, 1, source=REAL)):
        found = judge(contender(base, 2, 5.0), reigning, mode="manual")
        assert found.outcome == "challenger"
        assert "kedro champion approve" in found.reason


def test_manual_mode_still_rejects_what_misses_a_limit(base):
    candidate = contender(base, 2, calibration_error=0.5)
    assert judge(candidate, None, mode="manual").outcome == "rejected"


def test_force_promotes_whatever_the_gate_would_say_and_gives_the_reason(base):
    candidate = contender(base, 2, 0.1, calibration_error=0.5)
    for reigning in (None, contender(base, 1, 5.0), contender(base, 1, source=REAL)):
        found = judge(candidate, reigning, force=True, why="the old one is broken", mode="manual")
        assert (found.outcome, found.reason) == ("promoted", "forced: the old one is broken")


def test_force_needs_a_reason():
    with pytest.raises(ValidationError, match=r"promotion\.why"):
        PromotionOptions(force=True)


def test_real_data_takes_the_place_of_simulated_data_without_a_comparison(base):
    found = judge(contender(base, 2, 0.1, source=REAL), contender(base, 1, 5.0))
    assert found.outcome == "promoted"
    assert "real data" in found.reason
    assert found.difference is None


def test_real_data_that_misses_a_limit_does_not(base):
    candidate = contender(base, 2, source=REAL, calibration_error=0.5)
    assert judge(candidate, contender(base, 1)).outcome == "rejected"


def test_simulated_data_never_takes_the_place_of_real_data(base):
    found = judge(contender(base, 2, 5.0), contender(base, 1, 0.1, source=REAL))
    assert found.outcome == "challenger"
    assert found.reason.startswith("trained on simulated data, the reigning champion on real data")
    assert "promotion.force" in found.reason


def test_another_real_source_is_challenger(base):
    found = judge(contender(base, 2, 5.0, source=OTHER_REAL), contender(base, 1, 0.1, source=REAL))
    assert found.outcome == "challenger"
    assert found.reason.startswith("trained on 'shop', the reigning champion on 'creditcard'")


def test_the_same_table_in_another_place_is_compared(base):
    moved = REAL.model_copy(update={"location": "elsewhere/creditcard.csv"})
    found = judge(contender(base, 2, 4.0, source=moved), contender(base, 1, 3.0, source=REAL))
    assert found.outcome == "promoted"
    assert found.difference is not None


@pytest.mark.parametrize("source", [SIMULATED, REAL])
def test_another_schema_is_challenger_whatever_the_data(base, source):
    other = base.schema_.model_copy(update={"time_use": "raw"})
    candidate = Contender(2, metadata(base, source=source).model_copy(update={"schema_": other}), scores(5.0))
    found = judge(candidate, contender(base, 1, 0.1))
    assert found.outcome == "challenger"
    assert found.reason.startswith("its schema differs")


@pytest.mark.parametrize(("quality", "reigning_quality"), [(5.0, None), (None, 0.1)])
def test_what_cannot_be_compared_is_challenger(base, quality, reigning_quality):
    found = judge(contender(base, 2, quality), contender(base, 1, reigning_quality))
    assert found.outcome == "challenger"
    assert "cannot be compared" in found.reason


def test_the_objective_is_the_one_asked_for(base):
    found = decide(
        contender(base, 2, 4.0),
        contender(base, 1, 3.0),
        ROWS,
        figure="roc_auc",
        costs=Costs(),
        latency_ms=0.05,
        parity=PARITY,
        options=PromotionOptions(repetitions=20),
        seed=0,
    )
    assert found.reason.startswith("roc_auc ")


def test_weights_count_in_the_comparison(base):
    candidate, reigning = contender(base, 2, 4.0), contender(base, 1, 3.0)
    weights = np.random.default_rng(1).choice([1.0, 60.0], len(LABELS))
    plain = judge(candidate, reigning)
    weighted = decide(
        candidate,
        reigning,
        replace(ROWS, weights=weights),
        figure="average_precision",
        costs=Costs(),
        latency_ms=0.05,
        parity=PARITY,
        options=PromotionOptions(repetitions=20),
        seed=0,
    )
    assert plain.difference is not None
    assert weighted.difference is not None
    assert plain.difference.value != weighted.difference.value


def part(time_from, time_to):
    return PartRecord(rows=10, frauds=1, time_from=time_from, time_to=time_to)


def test_two_models_that_set_the_same_rows_aside_have_not_seen_them(base):
    assert has_not_seen(metadata(base), metadata(base, split="stratified"))


def test_a_model_that_learned_from_older_rows_has_not_seen_newer_ones(base):
    reigning = metadata(
        base,
        test_fingerprint="old",
        parts={"train": part(0, 50), "validation": part(51, 99), "test": part(100, 150)},
    )
    newer = metadata(base, test_fingerprint="new", test_time_from=100)
    assert has_not_seen(reigning, newer)
    # Rows of the very second at which the test begins may be the same rows.
    assert not has_not_seen(reigning, metadata(base, test_fingerprint="new", test_time_from=99))


def test_a_model_may_have_seen_what_a_random_split_calls_test(base):
    parts = {"train": part(0, 50), "validation": part(51, 99)}
    reigning = metadata(base, test_fingerprint="old", parts=parts)
    candidate = metadata(base, test_fingerprint="new", test_time_from=1000, split="stratified")
    assert not has_not_seen(reigning, candidate)


def test_times_of_another_table_say_nothing(base):
    reigning = metadata(base, test_fingerprint="old", parts={"train": part(0, 50)})
    candidate = metadata(base, test_fingerprint="new", test_time_from=1000, source=REAL)
    assert not has_not_seen(reigning, candidate)


def test_a_record_without_parts_says_nothing(base):
    reigning = metadata(base, test_fingerprint="old", parts={})
    assert not has_not_seen(reigning, metadata(base, test_fingerprint="new", test_time_from=1000))


def test_a_slow_candidate_is_rejected_even_as_the_first(base):
    found = judge(contender(base, 1), None, latency_ms=7.5)
    assert (found.outcome, found.limits["latency_ms"].value) == ("rejected", 7.5)
    assert "one row takes 7.50 ms, more than promotion.max_latency_ms (5.0)" in found.reason
    assert judge(contender(base, 1), None, latency_ms=7.5, max_latency_ms=10).outcome == "promoted"


def test_a_candidate_that_flags_many_more_legitimate_transactions_is_rejected(base):
    quiet = base.thresholds.model_copy(update={"flag": 0.9, "decline": 0.95})
    loud = base.thresholds.model_copy(update={"flag": 0.05, "decline": 0.95})
    reigning, candidate = contender(base, 1), contender(base, 2, quality=5.0)
    reigning = replace(reigning, metadata=reigning.metadata.model_copy(update={"thresholds": quiet}))
    candidate = replace(candidate, metadata=candidate.metadata.model_copy(update={"thresholds": loud}))

    found = judge(candidate, reigning)

    assert found.outcome == "rejected"
    assert "promotion.max_false_positive_rise (0.005)" in found.reason
    legitimate = LABELS == 0
    assert found.false_positive_rate == pytest.approx((candidate.scores[legitimate] >= 0.05).mean())
    assert found.reigning_false_positive_rate == 0
    assert judge(candidate, reigning, max_false_positive_rise=1.0).outcome == "promoted"


@pytest.mark.parametrize("quality", [2.6, 5.0])
def test_a_candidate_that_misses_the_frauds_of_one_band_is_rejected(base, quality):
    reigning, candidate = contender(base, 1), contender(base, 2, quality)
    small = (LABELS == 1) & (AMOUNTS == 5.0)
    blind = np.where(small, np.float32(0.0), candidate.scores)

    found = judge(replace(candidate, scores=blind), reigning, max_false_positive_rise=1.0, slice_frauds=10)

    assert found.outcome == "rejected"
    worst = found.slices["below 10"]
    assert (worst.frauds, worst.recall) == (int(small.sum()), 0.0)
    assert worst.reigning_recall == pytest.approx((reigning.scores[small] >= np.float32(0.2)).mean())
    limit = found.limits["slice_recall_drop"]
    assert (limit.value, limit.where) == (worst.reigning_recall, "below 10")
    assert found.reason == (
        f"of the frauds with amounts below 10 it finds {limit.value:.1%} less than the reigning champion: "
        "above promotion.max_slice_recall_drop (0.2)"
    )


def test_a_band_with_few_frauds_is_not_judged(base):
    few = int(((LABELS == 1) & (AMOUNTS == 5.0)).sum())
    kept = judge(contender(base, 2), contender(base, 1), slice_frauds=few)
    assert set(kept.slices) == {"below 10", "10 to 100", "100 to 500", "500 and more"}
    assert judge(contender(base, 2), contender(base, 1), slice_frauds=few + 1).slices == {}


def test_without_bands_all_frauds_are_one_slice(base):
    found = judge(contender(base, 2), contender(base, 1), amount_bands=())
    assert {name: part.frauds for name, part in found.slices.items()} == {"all": int(LABELS.sum())}


def test_bands_should_rise():
    with pytest.raises(ValidationError, match="should rise"):
        PromotionOptions(amount_bands=(10, 10))


def test_every_limit_is_told_with_its_value(base):
    found = judge(contender(base, 2), contender(base, 1), slice_frauds=10)
    assert {name: limit.value for name, limit in found.limits.items()} == {
        "calibration_error": 0.001,
        "latency_ms": 0.05,
        "parity": 1e-7,
        "false_positive_rise": 0.0,
        "slice_recall_drop": 0.0,
    }
    assert all(limit.holds for limit in found.limits.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_neither_a_figure_nor_a_limit_can_be_no_number(value):
    with pytest.raises(ValidationError, match="finite number"):
        Metric(value=value)
    with pytest.raises(ValidationError, match="finite number"):
        PromotionOptions(max_latency_ms=value)


def test_a_hard_limit_is_judged_in_manual_mode_too(base):
    loud = base.thresholds.model_copy(update={"flag": 0.001, "decline": 0.95})
    candidate = contender(base, 2, quality=5.0)
    candidate = replace(candidate, metadata=candidate.metadata.model_copy(update={"thresholds": loud}))
    assert judge(candidate, contender(base, 1), mode="manual").outcome == "rejected"


def test_a_champion_that_cannot_be_judged_is_challenged_for_the_reason_that_is_given(base):
    reigning = replace(contender(base, 1, None), unjudged="version 1 has no twin")
    found = judge(contender(base, 2), reigning)
    assert found.outcome == "challenger"
    assert found.reason.startswith("version 1 has no twin, so the two cannot be compared: promote it with")
