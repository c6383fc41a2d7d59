"""What was answered is in the log: through kills, outages, and a clean end."""

from __future__ import annotations

import importlib.util
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from fraud_kedro.prediction_log import PredictionRecord, open_for_reading, open_for_writing
from fraud_kedro.prediction_log.spill import SPILLED

# `.ci/kill.py` kills twenty times.
KILLS = 2
PROGRAM = Path(__file__).parents[2] / ".ci" / "kill.py"


@pytest.fixture(scope="module")
def killing():
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("kill_program", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def rows(url):
    reader = open_for_reading(url)
    try:
        return {row["transaction_id"]: row for row in reader.rows()}
    finally:
        reader.close()


class Load:
    """Clients that ask in a closed loop until they are told to stop; a refusal is not an answer."""

    def __init__(self, url, bodies, clients=3, name="load"):
        self._name = name
        self.answers, self.refused = [], []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(url, bodies, number)) for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, url, bodies, client):
        number = 0
        with httpx.Client(base_url=url, timeout=30) as own:
            while not self._stop.is_set():
                named = bodies[number % len(bodies)] | {"transaction_id": f"{self._name}-{client}-{number}"}
                try:
                    answer = own.post("/predict", json=named)
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    self.answers.append(answer.json())
                else:
                    self.refused.append(answer)
                number += 1

    def wait_for(self, more):
        wanted = len(self.answers) + more
        for _ in range(3000):
            if len(self.answers) >= wanted:
                return
            threading.Event().wait(0.01)
        raise AssertionError(f"{len(self.answers)} answers, {wanted} expected; refused: {self.refused[-1:]}")

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_every_answer_is_in_the_log_once_however_often_the_service_is_killed(killing, make_bundle, tmp_path):
    make_bundle(tmp_path / "06_models" / "champion")
    answers = killing.kill_under_load(tmp_path, kills=KILLS, seconds=0.7, environment={"FRAUD_WORKERS": "2"})
    outcome = killing.compare(answers, f"sqlite:///{tmp_path / 'prediction_log.db'}")
    assert len(answers) > 50 * KILLS
    assert outcome.is_whole, (outcome.missing[:3], outcome.different[:3])
    assert outcome.rows >= len(outcome.answers)


def test_an_answer_that_is_not_in_the_log_is_found(killing, tmp_path):
    url = f"sqlite:///{tmp_path / 'log.db'}"
    writer = open_for_writing(url)
    same = {"probability": 0.25, "decision": "approve", "model_version": "v1"}
    rest = {"prediction": 0, "policy": "p", "request_hash": "h", "request_id": None, "features": "{}"}
    arrived = {"role": "champion", "timestamp": datetime.now(UTC), "event_time": None}
    writer.write([PredictionRecord(name, **arrived, **same, **rest) for name in ("kept", "changed")])
    writer.close()
    outcome = killing.compare(
        [
            {"transaction_id": "kept", **same},
            {"transaction_id": "lost", **same},
            {"transaction_id": "changed", **same, "probability": 0.5},
        ],
        url,
    )
    assert (outcome.missing, outcome.different, outcome.is_whole) == (["lost"], ["changed"], False)


@pytest.mark.slow
def test_an_outage_of_postgresql_loses_no_answer_even_if_the_service_is_killed_during_it(
    start_server, make_bundle, postgres, transactions, tmp_path
):
    make_bundle(tmp_path / "06_models" / "champion")
    settings = {
        "log_url": postgres.database("outage"),
        "log_on_failure": "spill",
        "log_retry_seconds": 0.3,
        "workers": 2,
    }
    drawn = transactions(20)
    server = start_server(tmp_path, **settings)
    load = Load(server.url, drawn)
    load.wait_for(50)
    postgres.stop()
    try:
        load.wait_for(300)
        during = {answer["transaction_id"]: answer for answer in load.answers[-50:]}
        spilled = tmp_path / "prediction_log_spill" / SPILLED
        assert spilled.stat().st_size > 0
        health = server.client.get("/health").json()
        assert (health["status"], health["prediction_log"]["status"]) == ("degraded", "spilling")
        # Any worker gives the answer that was spilled, and refuses another under its id.
        name, answer = next(iter(during.items()))
        body = drawn[int(name.rpartition("-")[2]) % len(drawn)] | {"transaction_id": name}
        for _ in range(4):
            assert httpx.post(f"{server.url}/predict", json=body, timeout=30, verify=False).json() == answer
        assert httpx.post(f"{server.url}/predict", json=body | {"V1": 99.0}, timeout=30).status_code == 409
        server.kill()
        load.stop()
        server = start_server(tmp_path, **settings)
        again = server.client.post("/predict", json=body)
        assert again.json() == answer
        after = Load(server.url, drawn, clients=1, name="after")
        after.wait_for(20)
    finally:
        postgres.start()
    server.wait_for("/health", lambda a: a.json()["prediction_log"]["status"] == "ok")
    after.stop()
    assert not spilled.exists()
    stored = rows(settings["log_url"])
    for answer in [*load.answers, *after.answers]:
        assert stored[answer["transaction_id"]]["probability"] == answer["probability"]
    assert not load.refused
    assert not after.refused


def test_in_the_background_mode_a_stopped_service_has_committed_what_it_answered(
    start_server, make_bundle, transactions, tmp_path
):
    make_bundle(tmp_path / "06_models" / "champion")
    server = start_server(tmp_path, log_mode="background", log_waiting_limit=500)
    health = server.client.get("/health").json()["prediction_log"]
    assert health["mode"] == "background"
    assert health["loss_window"] == {"predictions": 0, "at_most": 500, "seconds": 0.0}
    load = Load(server.url, transactions(20))
    load.wait_for(200)
    # In the middle of it.
    assert server.stop() == 0
    load.stop()
    stored = rows(f"sqlite:///{tmp_path / 'prediction_log.db'}")
    assert {a["transaction_id"] for a in load.answers} <= set(stored)
    for answer in load.answers:
        assert stored[answer["transaction_id"]]["probability"] == answer["probability"]
