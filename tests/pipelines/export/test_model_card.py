from __future__ import annotations

import re

import pytest

from fraud_kedro.champion.bundle import DataSource, Metric, PartRecord
from fraud_kedro.pipelines.export.model_card import model_card
from fraud_kedro.pipelines.export.parity import ParityReport, RowSetParity

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


@pytest.fixture(scope="module")
def metadata(make_bundle, tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "a").metadata


def with_data(metadata, **changes):
    return metadata.model_copy(update={"data": metadata.data.model_copy(update=changes)})


def test_the_card_names_the_model_its_data_and_how_to_make_it_again(metadata):
    card = model_card(metadata, PARITY)
    assert card.startswith("# fraud_detection: logistic_regression\n")
    assert "Made 2026-01-02 03:04 UTC from **simulated** data." in card
    assert f"Data fingerprint `{'0' * 64}`, seed 7, commit `unknown`" in card
    assert "| `C` | 0.1 |" in card
    assert f"onnx {metadata.versions['onnx']}." in card


def test_its_sections_are_those_a_reviewer_looks_for(metadata):
    headings = re.findall(r"^## (.+)$", model_card(metadata, PARITY), re.MULTILINE)
    assert headings == [
        "Intended use",
        "Data",
        "Figures on test rows",
        "Decisions",
        "Export",
        "Limits",
        "Reproduce",
    ]


def test_a_model_of_simulated_data_is_not_for_real_decisions_and_one_of_real_data_says_no_such_thing(
    metadata,
):
    warning = "not for decisions about real ones"
    assert warning in model_card(metadata, PARITY)
    real = with_data(metadata, source=DataSource(kind="real", name="t", location="t.csv"))
    card = model_card(real, PARITY)
    assert warning not in card
    assert "Source `t.csv`" in card


def test_figures_are_shown_with_their_intervals(metadata):
    metrics = {
        "average_precision": Metric(value=0.87654, low=0.81234, high=0.92345),
        "precision": Metric(value=0.9),
        "of_my_own": Metric(value=12.5),
    }
    card = model_card(metadata.model_copy(update={"metrics": metrics}), PARITY)
    assert "| Average precision | 0.8765 | 0.8123 to 0.9234 |" in card or "0.9235 |" in card
    assert "| Precision at `flag` | 0.9 |  |" in card
    assert "| of_my_own | 12.5 |  |" in card


def test_the_parts_of_the_split_are_listed(metadata):
    part = PartRecord(rows=12_345, frauds=67, time_from=0, time_to=100_000)
    card = model_card(with_data(metadata, parts={"train": part}, duplicates_dropped=1081), PARITY)
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
    assert said in model_card(with_data(metadata, refit=refit), PARITY)


def test_decisions_and_parity_are_in_numbers(metadata):
    card = model_card(metadata, PARITY)
    assert "Policy `expected_cost`: review from 0.2, decline from 0.8." in card
    assert "10.000% of transactions are flagged" in card
    assert "1,234 test rows, 56 edge rows: largest difference in probability 3e-07" in card


def test_every_table_has_as_many_cells_in_each_row_as_in_its_head(metadata):
    part = PartRecord(rows=1, frauds=1, time_from=0, time_to=1)
    card = model_card(with_data(metadata, parts={"train": part}), PARITY)
    tables = re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
