"""`benchmarks/data_scale.py`: a small size in full, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks import data_scale
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.simulator import simulate

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "data_scale.py"
ROWS = 28_481


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A folder with one part."""
    folder = tmp_path / "x0.1"
    folder.mkdir()
    pl.concat(simulate(SimulationOptions(rows=ROWS, seed=1))).write_parquet(folder / "part-000.parquet")
    return folder


def _run(*arguments: str, scratch: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAM, *arguments],
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
    )


def _figures(size: float, *, seconds: float = 1.0, gibibytes: float = 0.5, **more: Any) -> dict[str, Any]:
    return {
        "program": "kedro run --pipeline=data_processing",
        "size": size,
        "rows": round(size * 284_807),
        "seconds": seconds + 5,
        "work_seconds": seconds,
        "peak_gibibytes": gibibytes,
        **more,
    }


@pytest.mark.slow
def test_a_small_size_runs_and_leaves_figures_and_its_table_alone(tmp_path: Path) -> None:
    scratch, tables, file = tmp_path / "scratch", tmp_path / "tables", tmp_path / "new" / "figures.json"
    scratch.mkdir()
    options = ["--sizes", "0.1", "--repetitions", "1", "--keep-tables", str(tables), "--json", str(file)]
    done = _run(*options, scratch=scratch)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())

    pipeline, baseline = report["results"]
    assert pipeline["program"] == "kedro run --pipeline=data_processing"
    assert baseline["program"] == "baseline: pandas"
    for found in (pipeline, baseline):
        assert found["rows"] == ROWS == found["duplicates"] + sum(found["parts"].values())
        assert found["duplicates"] == 108
        assert 0 < found["work_seconds"] < found["seconds"] < 120
        assert found["work_seconds"] == pytest.approx(sum(found["steps"].values()))
        assert 0.1 < found["peak_gibibytes"] < 2
        assert f"| 28,481 | {found['program']} |" in done.stdout
    assert {"prepare_transactions", "split_transactions", "record_data"} < pipeline["steps"].keys()
    assert set(baseline["steps"]) == {"read", "check", "drop duplicates", "split", "write"}
    assert report["machine"]["cores"] == os.cpu_count()
    assert report["promise"] is None

    assert list(scratch.iterdir()) == []
    assert [path.name for path in tables.iterdir()] == ["x0.1"]
    assert pl.scan_parquet(tables / "x0.1").select(pl.len()).collect().item() == ROWS


def test_a_table_too_large_for_pandas_is_a_result(tmp_path: Path) -> None:
    table = tmp_path / "table"
    table.mkdir()
    # Small on the disk, 500 MB in memory.
    features = [pl.lit(1.0).alias(name) for name in ("Time", *(f"V{i}" for i in range(1, 29)), "Amount")]
    rows = pl.LazyFrame({"Class": pl.zeros(2_000_000, pl.Int8, eager=True)}).with_columns(*features)
    rows.sink_parquet(table / "part-000.parquet")
    found = data_scale.measure_baseline(table, tmp_path, limit_gibibytes=1)
    assert (found["failure"], found["failed_step"]) == ("out of memory at 1 GiB", "read")
    line = data_scale.markdown([{"size": 7, "rows": 2_000_000, **found}]).splitlines()[2]
    assert line.startswith("| 2,000,000 | baseline: pandas | out of memory at 1 GiB (read) after ")


def test_pandas_names_the_value_that_is_wrong(table: Path, tmp_path: Path) -> None:
    part = table / "part-000.parquet"
    pl.read_parquet(part).with_columns(pl.lit(float("nan")).alias("V3")).write_parquet(part)
    found = data_scale.measure_baseline(table, tmp_path, limit_gibibytes=16)
    assert found["failure"] == "ended with code 1: V3 has values that are not finite"
    assert found["failed_step"] == "check"


def test_a_kept_table_of_another_size_is_refused(table: Path) -> None:
    with pytest.raises(SystemExit, match=r"x0\.1 holds 28,481 rows, not 284,807\. Remove it"):
        data_scale.draw_here(284_807, table)
    assert (table / "part-000.parquet").exists()


def test_a_full_disk_is_an_error_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(12 * 2**30))
    # Rows and their parts on the disk, and the table as well unless it is there.
    (tmp_path / "x100").mkdir()
    with pytest.raises(SystemExit, match=r"12\.0 GiB free, and 18\.5 GiB are needed.*--sizes"):
        data_scale.require_room([1, 100], None, tmp_path)
    with pytest.raises(SystemExit, match=r"12\.7 GiB are needed"):
        data_scale.require_room([1, 100], tmp_path, tmp_path)
    data_scale.require_room([1, 10], tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("many", "kept"),
    [
        (_figures(100, seconds=119.0, gibibytes=11.9), True),
        (_figures(100, seconds=121.0, gibibytes=2.0), False),
        (_figures(100, seconds=80.0, gibibytes=12.1), False),
        (_figures(100, failure="out of memory at 16 GiB"), False),
    ],
)
def test_the_promise_is_time_and_memory(many: dict[str, Any], kept: bool) -> None:
    assert data_scale.promises([_figures(1), many])["kept"] is kept


def test_no_promise_is_judged_without_both_sizes() -> None:
    assert data_scale.promises([_figures(1), _figures(10)]) is None


def test_only_pandas_may_fail_and_only_for_want_of_memory() -> None:
    pipeline = _figures(10, failure="out of memory at 16 GiB")
    too_large = {**pipeline, "program": "baseline: pandas"}
    wrong = {**too_large, "failure": "ended with code 1: V3 has values that are not finite"}
    assert data_scale.defects([_figures(1), too_large]) == []
    assert data_scale.defects([_figures(1), pipeline, wrong]) == [pipeline, wrong]


def test_programs_that_disagree_are_an_error() -> None:
    rows = {"train": 170_000, "validation": 57_000, "test": 56_726}
    one = _figures(1, duplicates=1_081, parts=rows)
    other = {**one, "program": "baseline: pandas", "duplicates": 1_080, "parts": {**rows, "test": 56_727}}
    data_scale.require_agreement([one, {**other, "failure": "out of memory at 16 GiB"}])
    with pytest.raises(SystemExit, match="baseline: pandas does not agree with kedro run"):
        data_scale.require_agreement([one, other])
    with pytest.raises(SystemExit, match="lost rows"):
        data_scale.require_agreement([{**one, "duplicates": 0}])


def test_nodes_are_timed_with_their_data() -> None:
    log = (
        "100.5 kedro.io.data_catalog Loading data from raw_transactions (TableFileDataset)...\n"
        "102.0 kedro.runner.sequential_runner Completed node: data_processing.prepare_transactions\n"
        "102.1 kedro.io.data_catalog Loading data from transactions (StreamedParquetDataset)...\n"
        "105.0 kedro.runner.sequential_runner Completed node: data_processing.split_transactions\n"
    )
    assert data_scale.steps_of(log) == {"prepare_transactions": 1.5, "split_transactions": 3.0}
    with pytest.raises(SystemExit, match="does not say when its nodes ran"):
        data_scale.steps_of("nothing that is known")
