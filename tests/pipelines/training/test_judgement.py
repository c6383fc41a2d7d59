from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from fraud_kedro.champion.bundle import Metric, Thresholds
from fraud_kedro.evaluation.bootstrap import interval, resamples
from fraud_kedro.evaluation.metrics import average_precision, roc_auc
from fraud_kedro.pipelines.model_input import labelled_matrix
from fraud_kedro.pipelines.training.judgement import compare, evaluate
from fraud_kedro.pipelines.training.options import Choice, Evaluation, Standing
from fraud_kedro.pipelines.training.scored import SCORE, scored_rows


def judged(parts, candidate, **changes):
    given = {
        "evaluation_model": candidate.evaluation_model,
        "validation_scores": candidate.validation_scores,
        "test": parts.test,
        "thresholds": candidate.thresholds,
        "data_record": parts.record,
        "training": candidate.training,
        "seed": 0,
    }
    return evaluate(**{**given, **changes})


def test_the_test_scores_are_the_evaluation_models_beside_what_figures_are_made_of(parts, candidate):
    features = labelled_matrix(parts.test, parts.schema).features
    np.testing.assert_array_equal(
        candidate.test_scores[SCORE], candidate.evaluation_model.probability(features)
    )
    assert candidate.test_scores.columns == ["Time", "Amount", "Class", SCORE]
    assert candidate.test_scores["Class"].equals(parts.test["Class"])


def test_the_figures_are_of_the_test_rows_and_every_one_has_an_interval_of_the_resamples(parts, candidate):
    rows, evaluation = scored_rows(candidate.test_scores, parts.schema), candidate.evaluation
    for name, figure in (("average_precision", average_precision), ("roc_auc", roc_auc)):
        drawn = [figure(rows.take(numbers)) for numbers in resamples(rows.labels, 20, 0)]
        np.testing.assert_allclose(candidate.bootstrap[name], drawn)
        metric = evaluation.test[name]
        assert metric.value == pytest.approx(figure(rows))
        assert (metric.low, metric.high) == pytest.approx(interval(np.array(drawn)))
    assert all(metric.low is not None for metric in evaluation.test.values())
    assert set(evaluation.test) == set(candidate.bootstrap.columns)
    assert (evaluation.algorithm, evaluation.parameters) == ("logistic_regression", candidate.best.parameters)
    assert evaluation.thresholds == candidate.thresholds
    assert evaluation.calibration == candidate.evaluation_model.calibration.method


def test_the_validation_figures_are_of_held_out_scores(parts, candidate):
    rows = scored_rows(candidate.validation_scores, parts.schema)
    assert candidate.evaluation.validation["average_precision"].value == pytest.approx(
        average_precision(rows)
    )
    assert set(candidate.evaluation.validation) == set(candidate.evaluation.test)


def test_decisions_are_counted_by_class(parts, candidate):
    counts = candidate.evaluation.decisions
    assert sum(sum(found.values()) for found in counts.values()) == len(parts.test)
    flagged = candidate.test_scores.filter(
        pl.col(SCORE).cast(pl.Float32) >= np.float32(candidate.thresholds.flag)
    )
    assert counts["review"]["fraud"] + counts["decline"]["fraud"] == flagged["Class"].sum()
    recall = candidate.evaluation.test["recall"].value
    assert recall == pytest.approx(flagged["Class"].sum() / parts.test["Class"].sum())


def test_weights_count_in_every_figure(parts, candidate):
    schema = parts.schema.model_copy(update={"sample_weight": "weight"})
    heavy, scores = (
        frame.with_columns(weight=pl.when(pl.col("Class") == 1).then(5.0).otherwise(1.0))
        for frame in (parts.test, candidate.validation_scores)
    )
    model = replace(candidate.evaluation_model, schema=schema)
    evaluation, test_scores, _ = judged(
        parts, candidate, evaluation_model=model, test=heavy, validation_scores=scores
    )
    expected = average_precision(scored_rows(test_scores, schema))
    assert evaluation.test["average_precision"].value == pytest.approx(expected)
    assert expected > candidate.evaluation.test["average_precision"].value
    assert evaluation.rows.weighted
    assert evaluation.rows.weighted_frauds == 5 * evaluation.rows.frauds == 5 * parts.test["Class"].sum()
    assert evaluation.decisions["decline"]["fraud"] == 5 * candidate.evaluation.decisions["decline"]["fraud"]


@pytest.mark.parametrize(
    ("case", "lacking"),
    [
        ("no amounts", {"savings"}),
        ("no frauds", {"average_precision", "roc_auc", "recall", "f1", "precision", "savings"}),
        ("nothing reached", set()),
        ("equal scores", set()),
    ],
)
def test_odd_test_rows_leave_figures_out_with_a_reason_and_never_nan(parts, candidate, case, lacking):
    changes = {}
    if case == "no amounts":
        changes["test"] = parts.test.with_columns(Amount=pl.lit(0.0))
    elif case == "no frauds":
        changes["test"] = parts.test.filter(pl.col("Class") == 0)
    elif case == "equal scores":
        changes["test"] = pl.concat([parts.test.head(1).drop("Class")] * len(parts.test)).with_columns(
            parts.test["Class"]
        )
    else:
        changes["thresholds"] = Thresholds(flag=1.0, decline=1.0, policy="expected_cost")
    evaluation, _, _ = judged(parts, candidate, **changes)
    assert lacking <= set(evaluation.left_out)
    assert set(evaluation.left_out).isdisjoint(evaluation.test)
    assert bool(evaluation.left_out) == bool(lacking)
    written = evaluation.model_dump_json()
    assert json.loads(written, parse_constant=pytest.fail) == json.loads(written)
    assert Evaluation.model_validate_json(written) == evaluation


def evaluation_of(algorithm, validation, test, auc=0.9, **more):
    def metrics(value):
        found = {"average_precision": Metric(value=value, low=value - 0.1, high=value + 0.1)}
        return {**found, "roc_auc": Metric(value=auc), "log_loss": Metric(value=0.01 / value)}

    return Evaluation(
        algorithm=algorithm,
        parameters={},
        thresholds=Thresholds(flag=0.1, decline=0.5, policy="expected_cost"),
        validation=metrics(validation),
        test={**metrics(test), **more},
    )


def draws_of(evaluation, noise, **more):
    """Resamples that scatter around a candidate's figures."""
    spread = np.random.default_rng(0).normal(scale=noise, size=100)
    columns = {name: metric.value + spread for name, metric in evaluation.test.items()}
    return pl.DataFrame({**columns, **more})


def choice(*names, champion=None, objective="average_precision"):
    """The candidates stand as they are named."""
    standings = tuple(Standing(algorithm=n, value=0.5, behind=0.0, standard_error=0.1) for n in names)
    return Choice(
        objective=objective, champion=champion or names[0], reason="it was chosen", standings=standings
    )


def compared(*evaluations, **chosen):
    names = [each.algorithm for each in evaluations]
    judged = (item for each in evaluations for item in (each, draws_of(each, 0.02)))
    return compare(choice(*names, **chosen), *judged)


def test_the_chosen_one_comes_first_and_the_others_as_they_stand_whatever_the_test_says():
    candidates = [evaluation_of("a", 0.8, 0.1), evaluation_of("b", 0.7, 0.5), evaluation_of("c", 0.6, 0.9)]
    judged = [item for each in candidates for item in (each, draws_of(each, 0.02))]
    comparison, table, _ = compare(choice("a", "b", "c", champion="b"), *judged)
    assert (comparison.champion, comparison.reason) == ("b", "it was chosen")
    assert [c.algorithm for c in comparison.candidates] == ["b", "a", "c"]
    assert list(table["algorithm"]) == ["b", "a", "c"]
    assert list(table["validation_average_precision"]) == [0.7, 0.8, 0.6]
    assert list(table["test_average_precision"]) == [0.5, 0.1, 0.9]
    assert table["test_average_precision_low"][1] == pytest.approx(0.0)


def test_a_difference_is_noise_if_its_paired_interval_holds_zero():
    # The same resamples for both: what they share cancels out.
    first, second = evaluation_of("a", 0.9, 0.81), evaluation_of("b", 0.8, 0.80)
    comparison, _, table = compared(first, second)
    (clear,) = comparison.between("a", "average_precision")
    assert (clear.verdict, clear.value) == ("a", pytest.approx(0.01))
    assert clear.low == pytest.approx(0.01)
    scattered = draws_of(first, 0.02).with_columns(
        pl.Series("average_precision", 0.81 + np.random.default_rng(1).normal(scale=0.02, size=100))
    )
    noisy, _, _ = compare(choice("a", "b"), first, scattered, second, draws_of(second, 0.02))
    (unsure,) = noisy.between("a", "average_precision")
    assert unsure.verdict == "noise"
    assert unsure.low < 0 < unsure.high
    assert set(table["figure"]) == {"average_precision", "roc_auc", "log_loss"}


def test_of_a_loss_the_smaller_is_better():
    comparison, _, _ = compared(evaluation_of("a", 0.9, 0.2), evaluation_of("b", 0.8, 0.8))
    (loss,) = comparison.between("a", "log_loss")
    assert loss.value > 0
    assert loss.verdict == "b"


def test_every_pair_is_compared_once():
    _, _, table = compared(*(evaluation_of(name, 0.5, 0.5) for name in "abcd"))
    pairs = table[table["figure"] == "roc_auc"]
    assert (
        len({frozenset(pair) for pair in zip(pairs["first"], pairs["second"], strict=True)})
        == len(pairs)
        == 6
    )


def test_a_difference_that_too_few_draws_define_is_noise_without_an_interval():
    savings = {"savings": Metric(value=0.5)}
    evaluations = [evaluation_of("a", 0.9, 0.9, **savings), evaluation_of("b", 0.8, 0.8, **savings)]
    values = np.where(np.arange(100) < 10, np.nan, 0.5)
    comparison, _, _ = compare(
        choice("a", "b"),
        *(item for each in evaluations for item in (each, draws_of(each, 0.1, savings=values))),
    )
    (unsure,) = comparison.between("a", "savings")
    assert (unsure.verdict, unsure.low, unsure.high) == ("noise", None, None)
    assert "NaN" not in comparison.model_dump_json()
    assert type(comparison).model_validate_json(comparison.model_dump_json()) == comparison


def test_candidates_judged_on_the_same_rows_share_their_resamples(parts, candidate):
    again = judged(parts, candidate)
    comparison, _, _ = compare(
        choice(candidate.evaluation.algorithm, "twin"),
        candidate.evaluation,
        candidate.bootstrap,
        again[0].model_copy(update={"algorithm": "twin"}),
        again[2],
    )
    assert {(each.value, each.low, each.high) for each in comparison.differences} == {(0.0, 0.0, 0.0)}
    assert {each.verdict for each in comparison.differences} == {"noise"}
