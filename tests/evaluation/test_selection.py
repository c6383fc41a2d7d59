from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.bootstrap import interval
from fraud_kedro.evaluation.measures import ranking
from fraud_kedro.evaluation.metrics import ScoredRows, average_precision
from fraud_kedro.evaluation.selection import harmful_members, paired_figures

LEGITIMATE, FRAUDS = 3000, 150
LABELS = np.repeat(np.array([0, 1], dtype=np.int8), [LEGITIMATE, FRAUDS])
WEIGHTS = np.ones(len(LABELS))


def scores(strength: float, seed: int) -> np.ndarray:
    """Log-odds that know `strength` standard deviations of the label, and noise of their own."""
    return np.random.default_rng(seed).normal(size=len(LABELS)) + strength * LABELS


def harmful(members: dict[str, np.ndarray], figure: str = "average_precision") -> list[str]:
    return list(harmful_members(members, LABELS, WEIGHTS, figure, repetitions=100, seed=0))


def test_equally_good_members_with_errors_of_their_own_all_stay():
    members = {str(seed): scores(3.0, seed) for seed in range(4)}
    assert harmful(members) == []


def test_noise_leaves_and_the_rest_stay():
    members = {"good": scores(3.0, 1), "noise": scores(0.0, 2) * 5, "as good": scores(3.0, 3)}
    assert harmful(members) == ["noise"]


def test_the_worse_of_two_harmful_members_leaves_first():
    members = {
        "good": scores(3.0, 1),
        "bad": scores(0.0, 2) * 4,
        "as good": scores(3.0, 3),
        "worse": -scores(3.0, 4) * 3,
    }
    assert harmful(members) == ["worse", "bad"]


def test_two_members_stay_whatever_they_are_worth():
    assert harmful({"good": scores(5.0, 1), "noise": scores(0.0, 2) * 9}) == []


@pytest.mark.parametrize("figure", ["average_precision", "roc_auc"])
def test_without_the_members_that_left_the_mean_ranks_better(figure):
    members = {"good": scores(3.0, 1), "weak": scores(0.5, 2) * 3, "as good": scores(3.0, 3)}
    left = harmful_members(members, LABELS, WEIGHTS, figure, repetitions=100, seed=0)
    assert list(left) == ["weak"]
    measured = ranking(ScoredRows(LABELS, np.mean(list(members.values()), axis=0), WEIGHTS))
    kept = ranking(ScoredRows(LABELS, (members["good"] + members["as good"]) / 2, WEIGHTS))
    gain = kept(WEIGHTS[:, None])[figure] - measured(WEIGHTS[:, None])[figure]
    assert left["weak"].value == pytest.approx(float(gain[0]))


def figures_of(**members: np.ndarray):
    rows = {name: ScoredRows(LABELS, each, WEIGHTS) for name, each in members.items()}
    candidates = {name: (each, ranking(each)) for name, each in rows.items()}
    return rows, paired_figures(candidates, "average_precision", repetitions=200, seed=0)


def test_a_lead_is_the_difference_of_the_figures():
    rows, figures = figures_of(first=scores(3.0, 1), second=scores(2.5, 2))
    expected = average_precision(rows["first"]) - average_precision(rows["second"])
    assert figures.lead("first", "second").value == pytest.approx(expected)


def test_pairing_removes_what_both_have_in_common():
    base = scores(3.0, 1)
    _, figures = figures_of(first=base, second=base + 0.01 * scores(0.0, 2))
    alone = figures.draws["first"].std()
    assert figures.lead("first", "second").standard_error < alone / 10


def test_a_difference_turns_its_sign_with_the_sides():
    _, figures = figures_of(better=scores(4.0, 1), worse=scores(2.0, 2))
    value, (low, high) = figures.difference("better", "worse")
    assert 0 < low < value < high
    mirrored, ends = figures.difference("worse", "better")
    assert (mirrored, *ends) == pytest.approx((-value, -high, -low))


def test_a_paired_interval_is_narrower_than_two_apart():
    base = scores(3.0, 1)
    _, figures = figures_of(first=base, second=base + 0.05 * scores(0.0, 2))
    _, (low, high) = figures.difference("first", "second")
    alone_low, alone_high = interval(figures.draws["first"])
    assert high - low < (alone_high - alone_low) / 2


def test_rows_that_do_not_define_the_figure_are_refused():
    rows = ScoredRows(np.zeros(5, dtype=np.int8), np.linspace(0, 1, 5), np.ones(5))
    with pytest.raises(TrainingError, match="roc_auc is not defined"):
        paired_figures({"one": (rows, ranking(rows))}, "roc_auc", repetitions=10, seed=0)


def test_nobody_is_clearly_ahead_of_the_same_scores():
    _, figures = figures_of(first=scores(3.0, 1), second=scores(3.0, 1) * 2 + 1)
    lead = figures.lead("first", "second")
    assert (lead.value, lead.standard_error, lead.is_clear) == (0.0, 0.0, False)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.0, 4.0), st.floats(0.0, 4.0))
def test_of_two_at_most_one_is_clearly_ahead(first, second):
    _, figures = figures_of(first=scores(first, 1), second=scores(second, 2))
    there, back = figures.lead("first", "second"), figures.lead("second", "first")
    assert there.value == pytest.approx(-back.value)
    assert there.standard_error == pytest.approx(back.standard_error)
    assert not (there.is_clear and back.is_clear)


def test_nothing_is_clear_where_most_resamples_define_no_figure():
    # Of three frauds two weigh nothing: every third draw has none that counts.
    labels = np.array([0] * 50 + [1] * 3, dtype=np.int8)
    weights = np.where(np.arange(53) < 51, 1.0, 0.0)
    rows = {
        "first": ScoredRows(labels, labels.astype(float), weights),
        "second": ScoredRows(labels, 1.0 - labels, weights),
    }
    figures = paired_figures(
        {name: (each, ranking(each)) for name, each in rows.items()},
        "average_precision",
        repetitions=100,
        seed=0,
    )
    assert figures.lead("first", "second").value > 0.5
    assert not figures.lead("first", "second").is_clear
