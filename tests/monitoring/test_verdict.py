from __future__ import annotations

import json

import pytest

from fraud_kedro.errors import DataError
from fraud_kedro.monitoring.verdict import read_verdict

VERDICT = {
    "verdict": "drift", "drift_detected": True, "reason": "V4", "until": "2026-06-01T00:00:00Z", "rows": 5,
    "model_version": "a", "columns": {"V4": 0.3},
}  # fmt: skip


def test_a_verdict_is_read_with_whatever_else_the_file_holds(tmp_path):
    (tmp_path / "verdict.json").write_text(json.dumps(VERDICT))
    assert read_verdict(tmp_path / "verdict.json").model_version == "a"


def test_what_the_window_holds_is_found_there(tmp_path):
    apart = {**VERDICT, "window": {"until": "2026-06-02T00:00:00Z", "rows": 7, "compared": 6}}
    del apart["until"], apart["rows"]
    (tmp_path / "drift.json").write_text(json.dumps(apart))
    found = read_verdict(tmp_path / "drift.json")
    assert (found.until.day, found.rows) == (2, 7)


def test_nobody_has_looked_where_there_is_no_file(tmp_path):
    assert read_verdict(tmp_path / "verdict.json") is None


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({**VERDICT, "until": "2026-06-01T00:00:00"})])
def test_what_is_no_verdict_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "verdict.json").write_text(content)
    with pytest.raises(DataError, match="is not a verdict about drift") as caught:
        read_verdict(tmp_path / "verdict.json")
    assert "\n" not in str(caught.value)
