from __future__ import annotations

import re

import pytest

from fraud_kedro.champion.bundle import DataSource, Metric, PartRecord, Thresholds
from fraud_kedro.evaluation.slices import Slice
from fraud_kedro.evaluation.thresholds import Costs
from fraud_kedro.pipelines.export.model_card import Origin, model_card
from fraud_kedro.pipelines.export.parity import ParityReport, RowSetParity
from fraud_kedro.pipelines.training.options import Comparison, Difference, Evaluation, JudgedRows

PARITY = ParityReport(
    algorithm="logistic_regression",
    tolerance=1e-5,
    splits=0,
    probed_splits=0,
    row_sets={
        "test": RowSetParity(rows=1234, max_difference=2e-7, differing_decisions=0),
        "edge": RowSetParity(rows=56, max_difference=3e-7, differing_decisions=0),
    },
)


THRESHOLDS = Thresholds(flag=0.2, decline=0.8, policy="expected_cost")
ORIGIN = Origin("kedro run --env=quick", lock="ab12")


def evaluation_of(algorithm, value, **more):
    figure = Metric(value=value, low=value - 0.1, high=value + 0.1)
    return Evaluation(
        algorithm=algorithm,
        parameters={},
        thresholds=THRESHOLDS,
        validation={"average_precision": Metric(value=value + 0.01)},
        test={"average_precision": figure, "brier_score": Metric(value=0.001)},
        **more,
    )


JUDGED = evaluation_of(
    "logistic_regression",
    0.8,
    calibration="platt",
    costs=Costs(review_cost=2.5, false_decline_cost=15),
    rows=JudgedRows(rows=1000, frauds=10, transactions=50_000, weighted_frauds=80, days=1.5, weighted=True),
    decisions={
        "approve": {"legitimate": 970.0, "fraud": 1.0},
        "review": {"legitimate": 15.0, "fraud": 2.0},
        "decline": {"legitimate": 5.0, "fraud": 7.0},
    },
    left_out={"savings": "needs frauds with an amount above 0"},
    slices=(
        Slice(
            by="amount",
            band="below 10",
            rows=500,
            frauds=4,
            transactions=500,
            weighted_frauds=4,
            figures={"recall": Metric(value=0.75, low=0.5, high=1.0)},
        ),
    ),
)


def differ(second, value, verdict):
    return Difference(
        figure="average_precision",
        first="logistic_regression",
        second=second,
        value=value,
        low=value - 0.05,
        high=value + 0.05,
        verdict=verdict,
    )


COMPARISON = Comparison(
    objective="average_precision",
    champion="logistic_regression",
    candidates=(JUDGED, evaluation_of("xgboost", 0.79), evaluation_of("lightgbm", 0.6)),
    differences=(differ("xgboost", 0.01, "noise"), differ("lightgbm", 0.2, "logistic_regression")),
)


def card_of(metadata, evaluation=JUDGED, comparison=COMPARISON, origin=ORIGIN):
    candidates = (evaluation, *comparison.candidates[1:])
    return model_card(metadata, PARITY, comparison.model_copy(update={"candidates": candidates}), origin)


@pytest.fixture(scope="module")
def metadata(make_bundle, tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "a").metadata


def with_data(metadata, **changes):
    return metadata.model_copy(update={"data": metadata.data.model_copy(update=changes)})


def test_the_card_names_the_model_its_data_and_how_to_make_it_again(metadata):
    card = card_of(metadata)
    assert card.startswith("# fraud_detection: logistic_regression\n")
    assert "Made 2026-01-02 03:04 UTC from **simulated** data." in card
    assert f"Source `drawn, seed 1`, fingerprint `{'0' * 64}`" in card
    assert "commit `unknown`" in card
    assert "```shell\nkedro run --env=quick\n```" in card
    assert "(`locks/all.txt`, SHA-256 `ab12`)" in card
    assert "Seed 7." in card
    assert "| `C` | 0.1 |" in card
    assert f"onnx {metadata.versions['onnx']}." in card


def test_its_sections_are_those_a_reviewer_looks_for(metadata):
    headings = re.findall(r"^## (.+)$", card_of(metadata), re.MULTILINE)
    assert headings == [
        "Intended use",
        "Data",
        "Figures on test rows",
        "Decisions",
        "Calibration",
        "Slices",
        "Other candidates",
        "Export",
        "Limits",
        "Reproduce",
    ]


def test_a_model_of_simulated_data_is_not_for_real_decisions_and_one_of_real_data_says_no_such_thing(
    metadata,
):
    warning = "not for decisions about real ones"
    assert warning in card_of(metadata)
    real = with_data(metadata, source=DataSource(kind="real", name="t", location="t.csv"))
    card = card_of(real)
    assert warning not in card
    assert "Source `t.csv`" in card


def test_figures_are_shown_with_their_intervals(metadata):
    metrics = {
        "average_precision": Metric(value=0.87654, low=0.81234, high=0.92345),
        "precision": Metric(value=0.9),
        "of_my_own": Metric(value=12.5),
    }
    card = card_of(metadata.model_copy(update={"metrics": metrics}))
    assert "| Average precision | 0.8765 | 0.8123 to 0.9234 |" in card or "0.9235 |" in card
    assert "| Precision at `flag` | 0.9 |  |" in card
    assert "| of_my_own | 12.5 |  |" in card


def test_the_parts_of_the_split_are_listed(metadata):
    part = PartRecord(rows=12_345, frauds=67, time_from=0, time_to=100_000)
    card = card_of(with_data(metadata, parts={"train": part}, duplicates_dropped=1081))
    assert "| train | 12,345 | 67 | 0 | 100,000 |" in card
    assert "1,081 duplicates dropped" in card


@pytest.mark.parametrize(
    ("refit", "said"),
    [
        ("train", "Fitted on the training part."),
        ("train_validation", "Fitted on the training and validation parts."),
        ("all", "Fitted on every row, after the same recipe was judged on test rows it had not seen."),
    ],
)
def test_it_says_which_rows_the_model_was_fitted_on(metadata, refit, said):
    assert said in card_of(with_data(metadata, refit=refit))


def test_decisions_and_parity_are_in_numbers(metadata):
    card = card_of(metadata)
    assert "Policy `expected_cost`: review from 0.2, decline from 0.8." in card
    assert "10.000% of transactions are flagged" in card
    assert "1,234 test rows, 56 edge rows: largest difference in probability 3e-07" in card


def test_every_table_has_as_many_cells_in_each_row_as_in_its_head(metadata):
    part = PartRecord(rows=1, frauds=1, time_from=0, time_to=1)
    card = card_of(with_data(metadata, parts={"train": part}))
    tables = re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE)
    assert len(tables) == 6
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_bar_in_a_cell_does_not_end_it(metadata):
    card = card_of(metadata.model_copy(update={"parameters": {"weights": "a|b"}}))
    assert "| `weights` | a\\|b |" in card


def test_what_a_weighted_table_stands_for_is_said(metadata):
    said = "stand for 50,000 transactions, 80 of them frauds"
    assert said in card_of(metadata)
    plain = JUDGED.rows.model_copy(update={"weighted": False})
    assert said not in card_of(metadata, JUDGED.model_copy(update={"rows": plain}))


def test_a_figure_that_was_left_out_is_named_with_its_reason(metadata):
    said = "Left out: Savings against flagging nothing, which needs frauds with an amount above 0."
    assert said in card_of(metadata)


def test_decisions_show_their_prices_and_whom_they_met(metadata):
    card = card_of(metadata)
    assert "a review 2.5, a false decline 15." in card
    assert "| review | 15 | 2 |" in card
    assert "No test row reaches" not in card


@pytest.mark.parametrize(
    ("emptied", "said"),
    [
        (("decline",), "No test row reaches `decline` (0.8)."),
        (("review", "decline"), "**No test row reaches `flag` (0.2): nothing is caught.**"),
    ],
)
def test_a_threshold_that_nothing_reaches_is_told(metadata, emptied, said):
    counts = JUDGED.decisions | {name: {"legitimate": 0.0, "fraud": 0.0} for name in emptied}
    assert said in card_of(metadata, JUDGED.model_copy(update={"decisions": counts}))


def test_slices_show_what_they_define(metadata):
    assert "| amount: below 10 | 500 | 4 |  | 0.75 (0.5 to 1) |  |  |" in card_of(metadata)


def test_other_candidates_are_compared_and_noise_is_called_so(metadata):
    card = card_of(metadata)
    assert "| **logistic_regression** | 0.81 | 0.8 (0.7 to 0.9) |  |" in card
    assert "| xgboost | 0.8 | 0.79 (0.69 to 0.89) | +0.01 (-0.04 to +0.06): noise |" in card
    assert "+0.2 (+0.15 to +0.25): logistic_regression is better |" in card
    assert "lightgbm is worse; xgboost is not told apart from it (noise)." in card


def test_calibration_is_told_by_its_method_and_figures(metadata):
    assert "Method `platt`. On test rows: Brier score 0.001." in card_of(metadata)


def test_a_partial_run_is_told_in_place_of_the_claim_that_a_command_reproduces_it(metadata):
    assert "With the same data" in card_of(metadata)
    card = card_of(metadata, origin=Origin("kedro run", partial="--pipelines=export"))
    assert "The run was partial (`--pipelines=export`): the parts before came from earlier runs" in card
    assert "With the same data" not in card


def test_uncommitted_changes_are_told_beside_the_commit(metadata):
    card = card_of(metadata.model_copy(update={"git_revision": "abc+changes"}))
    assert "commit `abc` and uncommitted changes, which are not kept:" in card
    assert "uncommitted" not in card_of(metadata.model_copy(update={"git_revision": "abc"}))


def test_it_says_why_the_candidate_was_chosen(metadata):
    chosen = COMPARISON.model_copy(update={"reason": "it is the best"})
    assert "logistic_regression was chosen: it is the best." in card_of(metadata, comparison=chosen)


def ensemble_card(metadata, members):
    parameters = {name: {"C": 1.0} for name in members}
    ensemble = evaluation_of("ensemble", 0.9, calibration="none").model_copy(
        update={"parameters": parameters}
    )
    comparison = Comparison(
        objective="average_precision",
        champion="ensemble",
        candidates=(
            ensemble,
            evaluation_of("xgboost", 0.8, calibration="beta"),
            evaluation_of("lightgbm", 0.8, calibration="platt"),
            evaluation_of("random_forest", 0.7, calibration="isotonic"),
        ),
    )
    return card_of(metadata.model_copy(update={"algorithm": "ensemble"}), ensemble, comparison)


def test_an_ensemble_tells_its_members_who_was_left_out_and_how_each_is_calibrated(metadata):
    card = ensemble_card(metadata, ["lightgbm", "xgboost"])
    assert "The mean of the calibrated log-odds of lightgbm and xgboost. Left out: random_forest," in card
    assert "Method `none`." in card
    assert "each member has its own before: lightgbm `platt`, xgboost `beta`." in card


def test_an_ensemble_of_all_leaves_no_one_out(metadata):
    card = ensemble_card(metadata, ["lightgbm", "random_forest", "xgboost"])
    assert "log-odds of lightgbm, random_forest and xgboost. No candidate was left out." in card


def test_a_single_model_has_no_members(metadata):
    assert "log-odds of" not in card_of(metadata)
    assert "members" not in card_of(metadata)
