from __future__ import annotations

import json

import pytest

from fraud_kedro.champion.bundle import read_bundle
from fraud_kedro.champion.scorer import Scorer
from fraud_kedro.prediction_log import open_for_reading


def post(server, transactions):
    return server.client.post("/predict/batch", json={"transactions": transactions})


def rows_in_log(root):
    reader = open_for_reading(f"sqlite:///{root / 'prediction_log.db'}")
    count = reader.count()
    reader.close()
    return count


def test_a_batch_scores_as_single_requests_do(server, served_root, transactions):
    drawn = transactions(1_234)
    before = rows_in_log(served_root)
    answer = post(server, drawn)
    assert answer.status_code == 200
    assert answer.json()["errors"] == []
    scorer = Scorer(read_bundle(served_root / "06_models" / "champion"))
    expected = scorer.probabilities(scorer.matrix([list(t.values()) for t in drawn]))
    assert [p["probability"] for p in answer.json()["predictions"]] == expected.tolist()
    assert len({p["transaction_id"] for p in answer.json()["predictions"]}) == 1_234
    assert rows_in_log(served_root) - before == 1_234
    single = server.client.post("/predict", json=drawn[0]).json()
    assert single["probability"] == answer.json()["predictions"][0]["probability"]


def test_bad_rows_do_not_hold_up_good_ones(server, transactions):
    rows = [t | {"transaction_id": f"mixed-{i}"} for i, t in enumerate(transactions(6))]
    rows[1]["V3"] = "x"
    rows[2] = 5
    del rows[4]["V28"]
    answer = post(server, rows)
    assert answer.status_code == 200
    assert [p["transaction_id"] for p in answer.json()["predictions"]] == ["mixed-0", "mixed-3", "mixed-5"]
    assert [(e["row"], e["detail"]) for e in answer.json()["errors"]] == [
        (1, [{"type": "float_type", "loc": ["body", "transactions", 1, "V3"],
              "msg": "should be a number, not a string"}]),
        (2, [{"type": "dict_type", "loc": ["body", "transactions", 2],
              "msg": "should be an object, not a number"}]),
        (4, [{"type": "missing", "loc": ["body", "transactions", 4, "V28"], "msg": "is required"}]),
    ]  # fmt: skip


def test_a_batch_without_a_good_row_is_refused_with_every_reason(server, served_root):
    before = rows_in_log(served_root)
    answer = post(server, [{}, {"V1": 1}])
    assert answer.status_code == 422
    assert answer.json()["predictions"] == []
    assert [e["row"] for e in answer.json()["errors"]] == [0, 1]
    assert rows_in_log(served_root) == before


def test_an_id_repeated_within_a_batch_is_one_transaction_or_a_conflict(server, transactions):
    first, second = transactions(2)
    same = first | {"transaction_id": "twice"}
    answer = post(server, [same, same, second | {"transaction_id": "twice"}]).json()
    assert len(answer["predictions"]) == 2
    assert answer["predictions"][0] == answer["predictions"][1]
    assert [(e["row"], e["transaction_id"], e["detail"][0]["type"]) for e in answer["errors"]] == [
        (2, "twice", "conflict")
    ]


def test_a_batch_sent_again_gets_the_stored_answers(server, served_root, transactions):
    rows = [t | {"transaction_id": f"sent-{i}"} for i, t in enumerate(transactions(700))]
    first = post(server, rows).json()
    before = rows_in_log(served_root)
    assert post(server, rows).json() == first
    assert rows_in_log(served_root) == before


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{}", '{"transactions": 1}', '{"transactions": [], "x": 1}', '{"transactions": []}', "{{"],
)
def test_a_body_of_another_form_is_refused(server, body):
    answer = server.client.post("/predict/batch", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"


def test_the_template_is_the_header_of_a_table(server, transactions):
    answer = server.client.get("/predict/batch/template")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "transactions.csv" in answer.headers["content-disposition"]
    assert answer.text.strip().split(",") == ["transaction_id", *transactions(1)[0]]


def test_too_many_rows_and_too_many_bytes_are_refused(start_server, served_root, transactions):
    server = start_server(served_root, max_batch_rows=10, max_batch_bytes=10_000)
    rows = post(server, [{}] * 11)
    assert rows.status_code == 413
    assert "1 to 10 transactions" in rows.text
    size = post(server, transactions(30))
    assert size.status_code == 413
    content = (json.dumps({"transactions": transactions(30)}).encode() for _ in range(1))
    assert server.client.post(
        "/predict/batch", content=content, headers={"Content-Type": "application/json"}
    ).status_code == 413  # fmt: skip
    native = server.client.post("/score_batch", json={"transactions": transactions(30)})
    assert native.status_code == 413
