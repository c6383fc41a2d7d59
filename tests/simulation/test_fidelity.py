from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from fraud_kedro.algorithms.registry import ALGORITHM_NAMES
from fraud_kedro.errors import MissingInputError, SchemaError
from fraud_kedro.simulation import fidelity

LOGISTIC = "logistic regression, balanced"


def test_the_command_prints_and_writes_the_same_tables(
    ulb_sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, page = tmp_path / "fidelity.json", tmp_path / "page.md"
    page.write_text("# Before\n\n<!-- fidelity -->\nold\n<!-- /fidelity -->\n\nafter\n")
    options = ["--seeds", "2", "--repeats", "1", "--models", LOGISTIC]
    fidelity.main(["--real", str(ulb_sample), *options, "--json", str(figures), "--page", str(page)])
    tables = capsys.readouterr().out.removesuffix("\n")
    assert page.read_text() == f"# Before\n\n<!-- fidelity -->\n{tables}<!-- /fidelity -->\n\nafter\n"
    report = json.loads(figures.read_text())
    score = report["scores"][LOGISTIC]
    assert f"| {LOGISTIC} | {score['real'][0]:.3f} |" in tables
    assert report["seeds"] == [0, 1]
    assert report["full_table"] is None
    for name in ("legitimate", "fraud"):
        assert max(report["quantiles"][name].values()) < fidelity.QUANTILE_TOLERANCE
        assert sum(report["hours"][name]["real"]) == pytest.approx(1)


@pytest.mark.parametrize("content", [None, "no marks", "<!-- fidelity --> and no end"])
def test_a_page_without_both_marks_is_refused_and_left_as_it_is(tmp_path: Path, content: str | None) -> None:
    page = tmp_path / "page.md"
    if content is not None:
        page.write_text(content)
    with pytest.raises(MissingInputError, match=r"page\.md is no page with the marks"):
        fidelity.write_into(page, "tables")
    assert (page.read_text() if page.exists() else None) == content


def test_real_rows_are_read_from_csv_too(ulb_sample: Path, tmp_path: Path) -> None:
    real = fidelity.read_real(ulb_sample)
    real.write_csv(tmp_path / "real.csv")
    assert fidelity.read_real(tmp_path / "real.csv").shape == real.shape


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"No real rows at .*absent\.parquet"):
        fidelity.read_real(tmp_path / "absent.parquet")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    fidelity.simulated(rows=10).drop("V5").write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(SchemaError, match=r"lacks the column\(s\) V5, sample_weight"):
        fidelity.read_real(tmp_path / "rows.parquet")


@pytest.mark.slow
def test_the_four_algorithms_score_on_five_simulated_tables_as_on_the_real_sample(ulb_sample: Path) -> None:
    names = [f"`{name}`" for name in ALGORITHM_NAMES]
    # One cross-validation of the real rows is off by 0.03 in average precision.
    report = fidelity.compare(
        pl.read_parquet(ulb_sample), names, seeds=range(5), repeats=6, full_table=False, n_jobs=2
    )
    assert {name: score["within"] for name, score in report["scores"].items()} == dict.fromkeys(names, True)
