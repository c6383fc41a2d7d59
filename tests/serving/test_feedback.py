from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from fraud_kedro.prediction_log import open_for_reading
from fraud_kedro.simulation.stream import main

_numbers = count()


@pytest.fixture
def identity(server, transactions):
    """The id of a transaction that has been answered."""
    body = transactions(1)[0] | {"transaction_id": f"fed-{next(_numbers)}"}
    return server.client.post("/predict", json=body).json()["transaction_id"]


def give(server, *labels):
    return server.client.post("/feedback", json={"labels": list(labels)})


def label_in(root, identity):
    reader = open_for_reading(f"sqlite:///{root / 'prediction_log.db'}")
    try:
        return next(row for row in reader.labelled() if row["transaction_id"] == identity)
    finally:
        reader.close()


def test_a_label_joins_its_prediction(server, served_root, identity):
    answer = give(server, {"transaction_id": identity, "label": 1})
    assert answer.status_code == 200
    assert answer.json() == {
        "received": 1, "stored": 1, "unchanged": 0, "corrections": 0, "unknown": []
    }  # fmt: skip
    assert label_in(served_root, identity)["label"] == 1


def test_labels_sent_again_change_nothing_and_a_correction_counts(server, served_root, identity):
    give(server, {"transaction_id": identity, "label": 1})
    again = give(server, {"transaction_id": identity, "label": 1}).json()
    assert (again["stored"], again["unchanged"]) == (0, 1)
    corrected = give(server, {"transaction_id": identity, "label": 0}).json()
    assert (corrected["stored"], corrected["corrections"]) == (1, 1)
    assert label_in(served_root, identity)["label"] == 0


def test_an_unknown_id_is_reported_and_its_label_kept(server, served_root, transactions):
    answer = give(server, {"transaction_id": "not-yet", "label": 1})
    assert (answer.status_code, answer.json()["unknown"]) == (200, ["not-yet"])
    server.client.post("/predict", json=transactions(1)[0] | {"transaction_id": "not-yet"})
    assert label_in(served_root, "not-yet")["label"] == 1


def test_the_moment_of_a_label_is_kept_in_utc(server, served_root, identity):
    moment = "2026-01-05T13:45:00+02:00"
    give(server, {"transaction_id": identity, "label": 1, "labelled_at": moment})
    assert label_in(served_root, identity)["labelled_at"] == datetime(2026, 1, 5, 11, 45, tzinfo=UTC)


def test_conflicting_labels_in_one_request_name_the_rows_and_store_nothing(server, served_root, identity):
    labels = [
        {"transaction_id": identity, "label": 1},
        {"transaction_id": "other", "label": 0},
        {"transaction_id": identity, "label": 0},
    ]
    answer = give(server, *labels)
    assert answer.status_code == 422
    [problem] = answer.json()["detail"]
    assert problem["loc"] == ["body", "labels", 0, "transaction_id"]
    assert "in the rows 0, 2" in problem["msg"]
    assert label_in(served_root, identity)["label"] is None


def test_the_same_label_twice_in_one_request_is_stored_once(server, identity):
    label = {"transaction_id": identity, "label": 1}
    found = give(server, label, label).json()
    assert (found["received"], found["stored"], found["unchanged"]) == (2, 1, 1)


FUTURE = (datetime.now(UTC) + timedelta(days=2)).isoformat()


@pytest.mark.parametrize(
    ("label", "field"),
    [
        ({"transaction_id": "a", "label": 2}, "label"),
        ({"transaction_id": "a", "label": True}, "label"),
        ({"transaction_id": "a", "label": "1"}, "label"),
        ({"transaction_id": "a", "label": None}, "label"),
        ({"transaction_id": "a", "label": 0.5}, "label"),
        ({"transaction_id": "a"}, "label"),
        ({"label": 1}, "transaction_id"),
        ({"transaction_id": 7, "label": 1}, "transaction_id"),
        ({"transaction_id": "", "label": 1}, "transaction_id"),
        ({"transaction_id": "x" * 129, "label": 1}, "transaction_id"),
        ({"transaction_id": "a", "label": 1, "labelled_at": "yesterday"}, "labelled_at"),
        ({"transaction_id": "a", "label": 1, "labelled_at": FUTURE}, "labelled_at"),
        ({"transaction_id": "a", "label": 1, "labelled_at": "9999-12-31T23:59:59-05:00"}, "labelled_at"),
        ({"transaction_id": "a", "label": 1, "more": 1}, 1),
        ([], 1),
    ],
)
def test_a_label_that_is_none_is_named(server, label, field):
    answer = give(server, {"transaction_id": "good", "label": 1}, label)
    assert answer.status_code == 422, answer.text
    [problem] = answer.json()["detail"]
    assert problem["loc"][:3] == ["body", "labels", 1]
    assert problem["loc"][-1] == field


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"labels": 1}', b'{"labels": []}', b"\xff", b"[" * 5000]
)
def test_a_body_that_holds_no_labels_is_refused(server, body):
    answer = server.client.post("/feedback", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"


def test_more_labels_than_the_limit_are_refused(start_server, served_root):
    server = start_server(served_root, max_batch_rows=3)
    labels = [{"transaction_id": f"many-{number}", "label": 0} for number in range(4)]
    assert give(server, *labels).status_code == 413
    assert give(server, *labels[:3]).json()["stored"] == 3
    text = server.client.get("/metrics").text
    assert 'fraud_labels_total{outcome="stored"} 3.0' in text


def test_the_example_of_the_openapi_page_runs(server):
    page = server.client.get("/openapi.json").json()
    example = page["components"]["schemas"]["Feedback"]["example"]
    answer = server.client.post("/feedback", json=example)
    assert set(answer.json()) == set(page["components"]["schemas"]["FeedbackTaken"]["properties"])


def test_a_key_for_feedback_gives_labels_and_scores_nothing(start_server, served_root, transactions):
    keys = {"feedback_keys": "feedback-key-of-sixteen", "score_keys": "score-key-of-sixteen"}
    server = start_server(served_root, host="127.0.0.1", **keys)
    label = {"labels": [{"transaction_id": "a", "label": 1}]}
    headers = {name: {"X-API-Key": key} for name, key in keys.items()}
    assert server.client.post("/feedback", json=label, headers=headers["feedback_keys"]).status_code == 200
    assert server.client.post("/feedback", json=label, headers=headers["score_keys"]).status_code == 403
    assert server.client.post("/feedback", json=label).status_code == 401
    [transaction] = transactions(1)
    answer = server.client.post("/predict", json=transaction, headers=headers["feedback_keys"])
    assert answer.status_code == 403


def test_a_log_that_fails_refuses_labels(start_server, make_bundle, tmp_path):
    import sqlite3

    make_bundle(tmp_path / "06_models" / "champion")
    server = start_server(tmp_path)
    with sqlite3.connect(tmp_path / "prediction_log.db") as connection:
        connection.execute("ALTER TABLE labels RENAME TO gone")
    answer = give(server, {"transaction_id": "a", "label": 1})
    assert answer.status_code == 503
    assert "no such table" not in answer.text
    with sqlite3.connect(tmp_path / "prediction_log.db") as connection:
        connection.execute("ALTER TABLE gone RENAME TO labels")
    assert give(server, {"transaction_id": "a", "label": 1}).status_code == 200


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_simulators_stream_brings_its_labels(start_server, make_bundle, tmp_path, request, database):
    make_bundle(tmp_path / "06_models" / "champion")
    settings = {}
    url = f"sqlite:///{tmp_path / 'prediction_log.db'}"
    if database == "postgresql":
        url = settings["log_url"] = request.getfixturevalue("postgres").database("labelled")
    server = start_server(tmp_path, **settings)
    main(["--post", server.url, "--rows", "300", "--batch", "50", "--label-delay", "1s", "--labels", "all"])
    reader = open_for_reading(url)
    labels = [row["label"] for row in reader.labelled()]
    reader.close()
    assert len(labels) == 300
    assert set(labels) == {0, 1}
