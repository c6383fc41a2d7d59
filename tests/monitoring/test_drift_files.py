from __future__ import annotations

import json
import re
import resource
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fraud_kedro.errors import DataError, DriftError
from fraud_kedro.locations import drift_page, drift_verdict_file
from fraud_kedro.monitoring.drift_files import DriftReport, keep_report, new_run_id, read_verdict
from fraud_kedro.monitoring.drift_judgement import judge
from fraud_kedro.monitoring.drift_options import DriftOptions
from fraud_kedro.serving.metrics import DRIFT, DRIFT_TIME
from fraud_kedro.serving.monitoring_gauges import MonitoringGauges


@pytest.fixture
def report(reference, counted):
    def make(run_id, *, page="<p>a page</p>", keep=60):
        verdict = judge(counted(1000), reference, DriftOptions(), run_id=run_id)
        return DriftReport(verdict, page, {"metrics": []}, keep)

    return make


def history(folder):
    return [json.loads(line) for line in (folder / "drift_history.jsonl").read_text().splitlines()]


def names(folder):
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))


def test_the_loop_and_the_gauges_read_what_a_run_leaves(tmp_path, report):
    page = drift_page(tmp_path)
    kept = report("first")
    keep_report(page, kept)
    told = kept.verdict
    assert read_verdict(drift_verdict_file(tmp_path)) == told
    MonitoringGauges(tmp_path).refresh(None, None)
    assert DRIFT_TIME._value.get() == told.window.until.timestamp()
    assert DRIFT._value.get() == {"ok": 0, "warn": 1, "drift": 2}[told.verdict]


def test_nobody_has_looked_where_there_is_no_file(tmp_path):
    assert read_verdict(tmp_path / "drift.json") is None


@pytest.mark.parametrize("spoiled", ["", "[]", "{}", "no zone"])
def test_what_is_no_verdict_is_refused_in_one_line(tmp_path, report, spoiled):
    if spoiled == "no zone":
        spoiled = re.sub(r'("until":"[^"+Z]*)(Z|\+00:00)"', r'\1"', report("first").verdict.model_dump_json())
    (tmp_path / "drift.json").write_text(spoiled)
    with pytest.raises(DataError, match="is not a verdict about drift") as caught:
        read_verdict(tmp_path / "drift.json")
    assert "\n" not in str(caught.value)


def test_a_run_leaves_dated_files_the_newest_and_a_line(tmp_path, report):
    page = tmp_path / "monitoring" / "drift.html"
    keep_report(page, report("first"))
    keep_report(page, report("second", page="<p>another</p>"))
    assert names(page.parent) == [
        "drift.html", "drift.json", "drift_evidently.json",
        "drift_first.html", "drift_first.json", "drift_first_evidently.json",
        "drift_history.jsonl",
        "drift_second.html", "drift_second.json", "drift_second_evidently.json",
    ]  # fmt: skip
    assert page.read_text() == "<p>another</p>"
    assert (page.parent / "drift_first.html").read_text() == "<p>a page</p>"
    assert [line["id"] for line in history(page.parent)] == ["first", "second"]
    assert json.loads((page.parent / "drift.json").read_text())["id"] == "second"
    assert history(page.parent)[0]["window"]["compared"] == 1000


def test_only_the_newest_reports_stay_and_the_history_whole(tmp_path, report):
    page = tmp_path / "drift.html"
    for number in range(4):
        keep_report(page, report(f"run{number}", keep=2))
    assert sorted(file.name for file in tmp_path.glob("drift_*.html")) == [
        "drift_run2.html",
        "drift_run3.html",
    ]
    assert not list(tmp_path.glob("drift_run1*"))
    assert len(history(tmp_path)) == 4


def test_a_full_disk_loses_nothing_of_earlier_runs_and_leaves_nothing_half(tmp_path, report):
    page = tmp_path / "drift.html"
    keep_report(page, report("first"))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    second = report("second", page="x" * 200_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DriftError, match=r"cannot be kept in .*: File too large\. Make room") as error:
            keep_report(page, second)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    keep_report(page, second)
    assert [line["id"] for line in history(tmp_path)] == ["first", "second"]


def test_a_history_that_something_else_has_spoiled_is_kept_and_goes_on(tmp_path, report):
    (tmp_path / "drift_history.jsonl").write_bytes(b"gar\xff\xfebage")
    keep_report(tmp_path / "drift.html", report("first"))
    spoiled, line = (tmp_path / "drift_history.jsonl").read_bytes().splitlines()
    assert (spoiled, json.loads(line)["id"]) == (b"gar\xff\xfebage", "first")


def test_what_a_killed_run_has_left_half_written_goes_with_the_next_one(tmp_path, report):
    (tmp_path / ".drift_killed.html.123.new").write_text("half a page")
    (tmp_path / ".other.new").write_text("somebody else's")
    keep_report(tmp_path / "drift.html", report("first"))
    assert [file.name for file in tmp_path.glob(".*.new")] == [".other.new"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, report):
    (tmp_path / "file").write_text("")
    with pytest.raises(DriftError, match="cannot be kept in"):
        keep_report(Path(tmp_path / "file" / "drift.html"), report("first"))


def test_reports_made_at_once_all_have_their_line(tmp_path, report):
    made = report("any")
    reports = [
        replace(made, verdict=made.verdict.model_copy(update={"id": f"run{number}"})) for number in range(8)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: keep_report(tmp_path / "drift.html", each), reports))
    assert {line["id"] for line in history(tmp_path)} == {f"run{number}" for number in range(8)}


def test_run_ids_sort_by_time_and_differ():
    ids = [new_run_id() for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(each.replace("-", "").isalnum() for each in ids)
