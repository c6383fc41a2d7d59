from __future__ import annotations

import json
import socket
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import pytest

from fraud_kedro.champion.bundle import read_bundle
from fraud_kedro.champion.scorer import Scorer
from fraud_kedro.prediction_log import open_for_reading


@pytest.fixture
def scorer(served_root):
    return Scorer(read_bundle(served_root / "06_models" / "champion"))


@pytest.fixture
def reader(served_root):
    reader = open_for_reading(f"sqlite:///{served_root / 'prediction_log.db'}")
    yield reader
    reader.close()


def logged(reader, transaction_id):
    return next(row for row in reader.rows() if row["transaction_id"] == transaction_id)


def fields(answer):
    assert answer.status_code == 422, answer.text
    return {problem["loc"][-1]: problem["msg"] for problem in answer.json()["detail"]}


def test_an_answer_is_what_the_bundle_scores(server, scorer, transactions):
    for transaction in transactions(20):
        before = datetime.now(UTC)
        answer = server.client.post("/predict", json=transaction)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        found = answer.json()
        expected = float(scorer.probabilities(scorer.matrix([list(transaction.values())]))[0])
        assert found["probability"] == expected
        assert found["decision"] == scorer.decision(expected)
        assert found["prediction"] == scorer.prediction(expected)
        assert found["model_version"] == "fraud_detection_logistic_regression_v1"
        assert UUID(found["transaction_id"]).version == 7
        assert before <= datetime.fromisoformat(found["timestamp"]) <= datetime.now(UTC)
        assert set(found) == {
            "transaction_id", "prediction", "probability", "decision", "model_version", "timestamp"
        }  # fmt: skip


def test_every_decision_can_be_reached(server, transactions):
    answers = [server.client.post("/predict", json=t).json() for t in transactions(150, seed=5)]
    assert {a["decision"] for a in answers} == {"approve", "review", "decline"}
    assert all(a["prediction"] == (a["decision"] != "approve") for a in answers)


def test_the_order_of_fields_does_not_matter(server, transactions):
    [transaction] = transactions(1)
    backwards = dict(reversed(transaction.items()))
    first, second = (server.client.post("/predict", json=t).json() for t in (transaction, backwards))
    assert first["probability"] == second["probability"]


def test_the_row_is_in_the_log_with_everything_that_was_asked_and_answered(server, reader, transactions):
    [transaction] = transactions(1)
    answer = server.client.post(
        "/predict", json=transaction | {"transaction_id": "whole"}, headers={"X-Request-ID": "req-7"}
    ).json()
    row = logged(reader, "whole")
    assert row["features"] == transaction
    assert {name: row[name] for name in ("probability", "prediction", "decision", "model_version")} == {
        name: answer[name] for name in ("probability", "prediction", "decision", "model_version")
    }
    assert row["timestamp"] == datetime.fromisoformat(answer["timestamp"])
    assert row["event_time"] == datetime(2013, 9, 1, tzinfo=UTC) + timedelta(seconds=transaction["Time"])
    assert (row["role"], row["policy"], row["request_id"]) == ("champion", "expected_cost", "req-7")


def test_a_repeated_request_gets_the_stored_answer(server, reader, transactions):
    [transaction] = transactions(1)
    body = transaction | {"transaction_id": "again"}
    first = server.client.post("/predict", json=body).json()
    rows = reader.count()
    again = server.client.post("/predict", content=json.dumps(dict(reversed(body.items())), indent=3),
                               headers={"Content-Type": "application/json; charset=utf-8"})  # fmt: skip
    assert again.status_code == 200
    assert again.json() == first
    assert reader.count() == rows


def test_another_body_under_the_same_id_is_a_conflict(server, transactions):
    first, second = transactions(2)
    assert server.client.post("/predict", json=first | {"transaction_id": "taken"}).status_code == 200
    answer = server.client.post("/predict", json=second | {"transaction_id": "taken"})
    assert answer.status_code == 409
    assert answer.json()["detail"][0]["loc"] == ["body", "transaction_id"]


def test_every_field_that_is_wrong_is_named(server, reader, transactions):
    [transaction] = transactions(1)
    rows = reader.count()
    del transaction["V7"]
    wrong = transaction | {
        "V1": "1.0",
        "V2": True,
        "V3": None,
        "V4": [1],
        "V5": {},
        "Class": 0,
        "Amount": 1e39,
    }
    assert fields(server.client.post("/predict", json=wrong)) == {
        "V7": "is required",
        "V1": "should be a number, not a string",
        "V2": "should be a number, not a boolean",
        "V3": "should be a number, not null",
        "V4": "should be a number, not an array",
        "V5": "should be a number, not an object",
        "Class": "is not a field of this model",
        "Amount": "should lie between -3.40282e+38 and 3.40282e+38",
    }
    assert reader.count() == rows


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e400"])
def test_a_number_that_is_not_finite_is_named(server, transactions, text):
    body = json.dumps(transactions(1)[0] | {"V9": "@"}).replace('"@"', text)
    answer = server.client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert fields(answer) == {"V9": "should be a finite number"}


def test_a_field_given_twice_is_named(server, transactions):
    body = json.dumps(transactions(1)[0])[:-1] + ', "V9": 1}'
    answer = server.client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert fields(answer) == {"V9": "is given more than once"}


@pytest.mark.parametrize("identity", ["", "x" * 129, 7, None, "tab\t", "nul\x00"])
def test_an_id_that_cannot_be_one_is_named(server, transactions, identity):
    answer = server.client.post("/predict", json=transactions(1)[0] | {"transaction_id": identity})
    assert list(fields(answer)) == ["transaction_id"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"7", b'"text"', b"\xff\xfe", b"[" * 50_000, b'{"a":' * 10_000, b"\x00"],
)
def test_a_body_that_is_no_object_is_refused(server, body):
    answer = server.client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"


def test_values_are_not_repeated_in_errors(server, transactions):
    wrong = transactions(1)[0] | {"V1": "4111111111111111", "V2": 8.7654321e77}
    assert not any(secret in server.client.post("/predict", json=wrong).text for secret in ("4111", "8.76"))


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "text/csv", ""])
def test_a_body_that_is_not_declared_as_json_is_refused(server, transactions, content_type):
    answer = server.client.post(
        "/predict", content=json.dumps(transactions(1)[0]), headers={"Content-Type": content_type}
    )
    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json()["detail"]


def test_a_compressed_body_is_refused(server):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert server.client.post("/predict", content=b"x", headers=headers).status_code == 415


def test_a_body_beyond_the_limit_is_refused_with_its_length_or_without(server):
    headers = {"Content-Type": "application/json"}
    whole = server.client.post("/predict", content=b" " * 70_000, headers=headers)
    chunked = server.client.post("/predict", content=(b" " * 10_000 for _ in range(7)), headers=headers)
    assert whole.status_code == chunked.status_code == 413
    assert "at most 65536 bytes" in whole.json()["detail"]


def test_a_body_in_pieces_is_read_whole(server, transactions):
    body = json.dumps(transactions(1)[0]).encode()
    pieces = (body[i : i + 50] for i in range(0, len(body), 50))
    answer = server.client.post("/predict", content=pieces, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200


def test_a_client_that_hangs_up_halfway_does_no_harm(start_server, served_root, transactions):
    server = start_server(served_root)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b'Content-Length: 500\r\n\r\n{"Time": 1'
            )
    assert server.client.post("/predict", json=transactions(1)[0]).status_code == 200
    start = time.monotonic()
    assert server.stop() == 0
    # Nothing is left of the five that the server would wait for.
    assert time.monotonic() - start < 20


def test_only_post_is_allowed(server):
    for method in ("GET", "PUT", "DELETE"):
        answer = server.client.request(method, "/predict")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"


def test_numbers_keep_their_precision_to_float32(server, scorer, transactions):
    [transaction] = transactions(1)
    transaction["Time"] = 1_700_000_007
    found = server.client.post("/predict", json=transaction).json()["probability"]
    row = scorer.matrix([list(transaction.values())])
    assert row[0, 0] == np.float32(1_700_000_007 % 86_400)
    assert found == float(scorer.probabilities(row)[0])


def test_a_time_beyond_the_calendar_is_named(server, transactions):
    answer = server.client.post("/predict", json=transactions(1)[0] | {"Time": 1e20})
    assert list(fields(answer)) == ["Time"]
