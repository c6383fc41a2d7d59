from __future__ import annotations

import asyncio
import json
import sys

import pytest

from fraud_kedro.serving.documents import ModelComparison
from fraud_kedro.serving.figures import LogFigures
from fraud_kedro.serving.settings import ServingSettings


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_service_compares_by_its_own_log_and_labels(
    start_server, make_bundle, transactions, tmp_path, request, database
):
    make_bundle(tmp_path / "06_models" / "champion")
    settings = {}
    if database == "postgresql":
        settings["log_url"] = request.getfixturevalue("postgres").database("compared")
    server = start_server(tmp_path, **settings)
    answers = server.client.post("/predict/batch", json={"transactions": transactions(200)}).json()
    labels = [
        {"transaction_id": answer["transaction_id"], "label": number % 5 == 0}
        for number, answer in enumerate(answers["predictions"])
    ]
    labels = [{**label, "label": int(label["label"])} for label in labels]
    assert server.client.post("/feedback", json={"labels": labels}).json()["stored"] == 200
    answer = server.client.get("/model/comparison?days=7")
    assert answer.status_code == 200, answer.text
    found = ModelComparison.model_validate(answer.json())
    [version] = found.versions
    assert version.predictions == version.labelled == 200
    assert version.frauds == 40
    assert version.figures.average_precision.low < version.figures.average_precision.value
    # Nothing is left out of what the page of the API describes.
    assert found.model_dump(mode="json").keys() == answer.json().keys()
    assert version.model_dump(mode="json") == answer.json()["versions"][0]
    server.client.post("/predict", json=transactions(1)[0])
    assert server.client.get("/model/comparison?days=7").json() == answer.json()
    assert server.client.get("/model/comparison?days=0").status_code == 422


def compare(tmp_path, program, monkeypatch, **settings):
    """Ask with another program in the place of Python."""
    script = tmp_path / "program"
    script.write_text(f"#!{sys.executable}\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))

    async def main():
        comparison = LogFigures("comparison", ServingSettings(root=tmp_path, **settings))
        return await asyncio.gather(comparison.compute("--days=1"), comparison.compute("--days=1"))

    return asyncio.run(main())


def test_who_asks_at_once_shares_one_process(tmp_path, monkeypatch):
    program = f"open({str(tmp_path / 'count')!r}, 'a').write('x'); print('{{}}')"
    answers = compare(tmp_path, program, monkeypatch)
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"{}")] * 2
    assert (tmp_path / "count").read_text() == "x"


def test_a_comparison_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    program = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    answer = compare(tmp_path, program, monkeypatch, request_timeout_seconds=2)[0]
    assert answer.status == 503
    assert "Ask for fewer days" in json.loads(answer.body)["detail"]
    import psutil

    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("import sys; sys.exit('Error: No prediction log.')", "No prediction log."),
        ("secret = 1 / 0", "The comparison failed. The service's log says why."),
    ],
)
def test_why_there_is_no_comparison_is_said(tmp_path, monkeypatch, program, detail):
    answer = compare(tmp_path, program, monkeypatch)[0]
    assert (answer.status, json.loads(answer.body)["detail"]) == (503, detail)
