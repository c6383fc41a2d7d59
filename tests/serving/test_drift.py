from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fraud_kedro.locations import drift_page
from fraud_kedro.serving import drift
from fraud_kedro.serving.documents import DriftRunning, DriftSummary
from fraud_kedro.serving.drift import DriftRuns
from fraud_kedro.serving.model_store import ModelStore
from fraud_kedro.serving.settings import ServingSettings

KEYS = {"admin_keys": "a" * 16, "score_keys": "s" * 16}
ADMIN, SCORE = ({"X-API-Key": letter * 16} for letter in "as")
ROUTE = "/monitoring/drift"


def test_the_service_judges_drift_by_its_own_log(start_server, make_drift_bundle, draw_rows, tmp_path):
    bundle = make_drift_bundle(tmp_path / "06_models" / "champion", rows=1000)
    server = start_server(tmp_path, workers=2, **KEYS)
    names = bundle.metadata.schema_.features
    transactions = [dict(zip(names, row.tolist(), strict=True)) for row in draw_rows(600)]
    scored = server.client.post("/predict/batch", json={"transactions": transactions}, headers=SCORE)
    assert len(scored.json()["predictions"]) == 600
    nothing = server.client.get(f"{ROUTE}/report", headers=SCORE)
    assert nothing.status_code == 404
    assert nothing.json()["detail"] == "There is no report yet. POST /monitoring/drift makes one."
    assert server.client.post(ROUTE, json={"days": 30}, headers=SCORE).status_code == 403
    assert server.client.post(ROUTE, json={"days": 0}, headers=ADMIN).status_code == 422
    assert server.client.post(ROUTE, json={"month": 1}, headers=ADMIN).status_code == 422

    def ask(_):
        # On connections of their own, so that both workers may be asked.
        with type(server.client)(base_url=server.url, timeout=90) as client:
            return client.post(ROUTE, json={"days": 30}, headers=ADMIN)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    run = answers[0].json()["id"]
    for answer in answers:
        assert answer.status_code in (200, 202)
        assert answer.json()["id"] == run
    answer = None
    deadline = time.monotonic() + 120
    while answer is None or answer.status_code == 202:
        assert time.monotonic() < deadline
        answer = server.client.get(f"{ROUTE}/{run}", headers=SCORE)
        if answer.status_code == 202:
            DriftRunning.model_validate(answer.json())
            time.sleep(0.5)
    assert answer.status_code == 200, answer.text
    found = DriftSummary.model_validate(answer.json())
    assert (found.verdict, found.window.compared) == ("ok", 600)
    assert found.window.model_versions == {"fraud_detection_logistic_regression_v1": 600}
    # Nothing is left out of what the page of the API describes.
    assert found.model_dump(mode="json") == answer.json()
    page = server.client.get(f"{ROUTE}/report", headers=SCORE)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "http" not in page.headers["content-security-policy"]
    assert found.reason in page.text
    assert server.client.get(f"{ROUTE}/no-such-run", headers=SCORE).status_code == 404
    assert len((drift_page(tmp_path).parent / "drift_history.jsonl").read_text().splitlines()) == 1


def program(tmp_path, monkeypatch, text):
    """Put another program in the place of Python; it is asked as `-m fraud_kedro.monitoring` is."""
    script = tmp_path / "program"
    head = (
        "import os, sys, time\n"
        f"folder = {str(drift_page(tmp_path).parent)!r}\n"
        "run = next(a for a in sys.argv if a.startswith('--run-id=')).removeprefix('--run-id=')\n"
        f"open({str(tmp_path / 'count')!r}, 'a').write('x')\n"
    )
    script.write_text(f"#!{sys.executable}\n{head}{text}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


WRITE = "open(os.path.join(folder, f'drift_{run}.json'), 'w').write('{\"id\": \"' + run + '\"}')"


def runs(tmp_path):
    settings = ServingSettings(root=tmp_path)
    return DriftRuns(settings, ModelStore(settings))


def ask(tmp_path, *bodies):
    """Ask workers, each with a body of its own, at once."""

    async def main():
        workers = [runs(tmp_path) for _ in bodies]
        answers = await asyncio.gather(
            *(worker.start(body) for worker, body in zip(workers, bodies, strict=True))
        )
        for worker in workers:
            await worker.close()
        return answers

    return asyncio.run(main())


def detail(reply):
    return json.loads(reply.body)["detail"]


def test_workers_that_are_asked_at_once_share_one_run(tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, f"time.sleep(0.5); {WRITE}")
    first, second, other = ask(tmp_path, b'{"days": 7}', b'{"days": 7}', b'{"days": 8}')
    assert first.status == second.status == other.status == 200
    assert first.body == second.body != other.body
    assert (tmp_path / "count").read_text() == "xx"


def test_a_run_that_takes_longer_is_asked_for_again(tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, f"time.sleep(1.5); {WRITE}")
    monkeypatch.setattr(drift, "MOST_SECONDS", 0.5)

    async def main():
        worker, other = runs(tmp_path), runs(tmp_path)
        begun = await worker.start(b"{}")
        run = json.loads(begun.body)["id"]
        seen = [begun.status, worker.find(run).status, other.find(run).status]
        while worker.find(run).status == 202:
            await asyncio.sleep(0.05)
        await worker.close()
        return begun, seen, other.find(run)

    begun, seen, ended = asyncio.run(main())
    assert seen == [202, 202, 202]
    assert dict(begun.headers)[b"location"].endswith(json.loads(begun.body)["id"].encode())
    assert (ended.status, json.loads(ended.body)["id"]) == (200, json.loads(begun.body)["id"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sys.exit('Error: No prediction log.')", "No prediction log."),
        ("secret = 1 / 0", "Judging drift failed. The service's log says why."),
        ("os.kill(os.getpid(), 9)", "Judging drift failed. The service's log says why."),
    ],
)
def test_why_there_is_no_verdict_is_said_by_every_worker(tmp_path, monkeypatch, text, said):
    program(tmp_path, monkeypatch, text)
    [reply] = ask(tmp_path, b"{}")
    assert (reply.status, detail(reply)) == (503, said)
    [failed] = drift_page(tmp_path).parent.glob(".drift_*.failed")
    reply = runs(tmp_path).find(failed.name.removeprefix(".drift_").removesuffix(".failed"))
    assert (reply.status, detail(reply)) == (503, said)
    assert not list(drift_page(tmp_path).parent.glob("*.running*"))


def test_a_marker_of_a_process_that_has_gone_holds_nothing_up(tmp_path, monkeypatch):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = drift_page(tmp_path).parent
    folder.mkdir(parents=True)
    for pid in (gone.pid, os.getpid()):
        # The second is that of a program that judges nothing: the number was given anew.
        (folder / ".drift_30_days.running").write_text(json.dumps({"id": "old", "days": 30, "pid": pid}))
        assert runs(tmp_path).find("old").status == 404
        program(tmp_path, monkeypatch, WRITE)
        [reply] = ask(tmp_path, b"{}")
        monkeypatch.undo()
        assert reply.status == 200
        assert json.loads(reply.body)["id"] != "old"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"id": "half'])
def test_a_spoiled_marker_holds_nothing_up(tmp_path, monkeypatch, content):
    folder = drift_page(tmp_path).parent
    folder.mkdir(parents=True)
    (folder / ".drift_30_days.running").write_text(content)
    assert runs(tmp_path).find("any").status == 404
    program(tmp_path, monkeypatch, WRITE)
    [reply] = ask(tmp_path, b"{}")
    assert reply.status == 200


def test_a_disk_that_fills_up_while_a_run_starts_leaves_no_process(tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, "time.sleep(60)")
    written, started = drift._written, []

    def full(marker, run):
        if run.pid is not None:
            started.append(run.pid)
            raise OSError(28, "No space left on device")
        return written(marker, run)

    monkeypatch.setattr(drift, "_written", full)
    [reply] = ask(tmp_path, b"{}")
    assert (reply.status, "No space left on device" in detail(reply)) == (503, True)
    import psutil

    [pid] = started
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert not list(drift_page(tmp_path).parent.glob(".drift_*.running*"))


def test_a_process_that_ends_at_once_is_no_fault_of_the_folder(tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, WRITE)

    def gone(*_):
        raise ProcessLookupError(3, "No such process")

    monkeypatch.setattr(os, "setpriority", gone)
    [reply] = ask(tmp_path, b"{}")
    assert reply.status == 200


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "08_reporting").write_text("a file")
    [reply] = ask(tmp_path, b"{}")
    assert reply.status == 503
    assert "cannot be written" in detail(reply)


def test_the_service_ends_its_runs_when_it_ends(tmp_path, monkeypatch):
    program(
        tmp_path, monkeypatch, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    monkeypatch.setattr(drift, "MOST_SECONDS", 1.0)
    [reply] = ask(tmp_path, b"{}")
    assert reply.status == 202
    import psutil

    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("run", ["../../secret", "..", "a" * 50, ""])
def test_no_other_file_can_be_asked_for(tmp_path, run):
    assert runs(tmp_path).find(run).status == 404
