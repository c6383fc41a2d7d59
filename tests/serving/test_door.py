"""Keys, headers and the process's log, over a real socket."""

from __future__ import annotations

import json
import socket
import time

import bentoml
import pytest
from bentoml.exceptions import BentoMLException

SCORE, ADMIN = "score-key-of-sixteen", "admin-key-of-sixteen"


@pytest.fixture(scope="module")
def door(start_servers, served_root):
    settings = {
        "score_keys": SCORE,
        "admin_keys": ADMIN,
        "host": "127.0.0.1",
        "access_log": True,
        "json_logs": True,
    }
    return start_servers(served_root, **settings)


def with_key(key):
    return {"Authorization": f"Bearer {key}"}


def logged(server):
    """The lines of JSON in the process's log."""
    return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]


def test_there_is_no_side_door(door, transactions):
    page = door.client.get("/openapi.json", headers=with_key(ADMIN)).json()
    described = [(method, path) for path, methods in page["paths"].items() for method in methods]
    native = [("post", "/score"), ("post", "/score_batch"), ("get", "/docs.json"), ("get", "/schema.json")]
    for method, path in [*described, *native]:
        answer = door.client.request(method, path)
        expected = 200 if path in ("/livez", "/readyz") else 401
        assert answer.status_code == expected, (method, path)


def test_a_key_scores_by_every_way_in(door, transactions):
    (transaction,) = transactions(1)
    assert door.client.post("/predict", json=transaction).status_code == 401
    answer = door.client.post("/predict", json=transaction, headers=with_key(SCORE))
    assert answer.status_code == 200
    with bentoml.SyncHTTPClient(door.url, token=SCORE) as client:
        assert client.score(transaction=transaction)["probability"] == answer.json()["probability"]
    with pytest.raises(BentoMLException), bentoml.SyncHTTPClient(door.url, token="x" * 20) as client:
        client.score(transaction=transaction)


def test_a_key_that_scores_does_not_reload(door):
    assert door.client.post("/model/reload", headers=with_key(SCORE)).status_code == 403
    assert door.client.post("/model/reload", headers=with_key(ADMIN)).status_code == 200


def test_a_websocket_without_a_key_is_not_opened(door):
    handshake = (
        f"GET /ui/socket HTTP/1.1\r\nHost: 127.0.0.1:{door.port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", door.port), timeout=10) as connection:
        connection.sendall(handshake.encode())
        status = connection.recv(100).split(b"\r\n")[0]
    assert b"101" not in status


@pytest.mark.parametrize("path", ["/predict", "/model", "/docs", "/nothing"])
def test_every_answer_has_its_request_id_and_is_not_kept_by_others(door, path, transactions):
    body = {"json": transactions(1)[0]} if path == "/predict" else {}
    method = "POST" if body else "GET"
    given = door.client.request(method, path, headers={**with_key(ADMIN), "X-Request-ID": "till-7"}, **body)
    made = [door.client.request(method, path, headers=with_key(ADMIN), **body) for _ in range(2)]
    assert given.headers["x-request-id"] == "till-7"
    assert len({answer.headers["x-request-id"] for answer in made}) == 2
    for answer in (given, *made):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers


def test_the_log_is_json_with_request_ids_and_neither_values_nor_keys(door, transactions):
    transaction = {**transactions(1)[0], "V7": 1.2345678, "transaction_id": "seen-in-no-log"}
    headers = {**with_key(SCORE), "X-Request-ID": "till-8"}
    door.client.post("/predict", json=transaction, headers=headers)
    door.client.post("/predict", json={**transaction, "V7": "1.2345678"}, headers=headers)

    def lines_of_both():
        return [line for line in logged(door) if line.get("request_id") == "till-8"]

    # A line is written when its answer is out already.
    deadline = time.monotonic() + 10
    while len(lines := lines_of_both()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [(line["message"], line["status"]) for line in lines] == [
        ("POST /predict 200", 200),
        ("POST /predict 422", 422),
    ]
    assert all(line["milliseconds"] > 0 and line["level"] == "INFO" and line["time"] for line in lines)
    text = door.log.read_text()
    for secret in (SCORE, ADMIN, "1.2345678", "seen-in-no-log"):
        assert secret not in text
    assert any("Requests need a key: score, admin are set." in line["message"] for line in logged(door))


def test_without_keys_the_service_says_that_it_asks_for_none(server):
    assert "No keys are set: the service listens on 127.0.0.1 alone" in server.log.read_text()
