from __future__ import annotations

import asyncio
import csv
import io
import json
import math
import threading

import bentoml
import pytest
from bentoml.exceptions import BentoMLException

from fraud_kedro.champion.bundle import read_bundle
from fraud_kedro.champion.reasons import Explainer
from fraud_kedro.champion.scorer import Scorer
from fraud_kedro.serving.explaining import MOST_ROWS, Explaining, wanted_reasons
from fraud_kedro.serving.requests import InvalidRequestError

EXPLAINED = {"reasons", "base", "rest", "reasons_problem"}


def log_odds(probability):
    return math.log(probability / (1 - probability))


def total(answer):
    return answer["base"] + answer["rest"] + sum(reason["contribution"] for reason in answer["reasons"])


def test_reasons_are_the_explainers_and_add_up_to_the_answer(server, served_root, transactions):
    bundle = read_bundle(served_root / "06_models" / "champion")
    scorer, explainer = Scorer(bundle), Explainer(bundle)
    for transaction in transactions(5):
        plain = server.client.post("/predict", json=transaction).json()
        found = server.client.post("/predict?explain=true", json=transaction).json()
        assert set(found) == set(plain) | EXPLAINED
        assert found["probability"] == plain["probability"]
        assert found["reasons_problem"] is None
        explanation = explainer.explain(scorer.few([[*transaction.values()]]), found["probability"])
        assert found["reasons"] == [vars(reason) for reason in explanation.top_reasons(5)]
        assert total(found) == pytest.approx(log_odds(found["probability"]), abs=1e-9)


@pytest.mark.parametrize(("query", "count"), [("", 5), ("&reasons=1", 1), ("&reasons=20", 20)])
def test_as_many_reasons_are_given_as_are_asked_for(server, transactions, query, count):
    found = server.client.post(f"/predict?explain=true{query}", json=transactions(1)[0]).json()
    assert len(found["reasons"]) == count
    assert total(found) == pytest.approx(log_odds(found["probability"]), abs=1e-9)


@pytest.mark.parametrize("query", ["explain=false&reasons=3", "reasons=3", "explain=0", "unknown=1"])
def test_who_does_not_ask_gets_none(server, transactions, query):
    found = server.client.post(f"/predict?{query}", json=transactions(1)[0]).json()
    assert not EXPLAINED & set(found)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("explain=perhaps", "explain"),
        ("explain=true&reasons=0", "reasons"),
        ("explain=true&reasons=21", "reasons"),
        ("explain=true&reasons=-1", "reasons"),
        ("explain=true&reasons=9999999999999999999999", "reasons"),
        ("explain=true&reasons=%D9%A3", "reasons"),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_a_parameter_that_cannot_be_is_named(server, transactions, path, query, field):
    body = transactions(1)[0] if path == "/predict" else {"transactions": transactions(1)}
    answer = server.client.post(f"{path}?{query}", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", field]


def test_a_stored_answer_is_explained_as_well(server, transactions):
    body = transactions(1)[0] | {"transaction_id": "explained-later"}
    first = server.client.post("/predict", json=body).json()
    again = server.client.post("/predict?explain=true", json=body).json()
    assert again["timestamp"] == first["timestamp"]
    assert total(again) == pytest.approx(log_odds(first["probability"]), abs=1e-9)


def test_a_batch_is_explained_row_by_row(server, transactions):
    rows = [*transactions(40), {"V1": 1}]
    answer = server.client.post("/predict/batch?explain=true&reasons=3", json={"transactions": rows}).json()
    assert len(answer["predictions"]) == 40
    assert [error["row"] for error in answer["errors"]] == [40]
    for found in answer["predictions"]:
        assert len(found["reasons"]) == 3
        assert total(found) == pytest.approx(log_odds(found["probability"]), abs=1e-9)


def test_a_table_is_explained_in_a_column_of_its_own(server, transactions):
    drawn = transactions(4)
    sent = io.StringIO()
    table = csv.DictWriter(sent, drawn[0])
    table.writeheader()
    table.writerows([*drawn, drawn[0] | {"V1": "none"}])
    headers = {"Content-Type": "text/csv"}
    plain = server.client.post("/predict/batch", content=sent.getvalue(), headers=headers)
    answer = server.client.post(
        "/predict/batch?explain=true&reasons=2", content=sent.getvalue(), headers=headers
    )
    assert answer.text.splitlines()[0] == f"{plain.text.splitlines()[0]},reasons"
    *rows, broken = csv.DictReader(answer.text.splitlines())
    for row in rows:
        found = json.loads(row["reasons"])
        assert len(found["reasons"]) == 2
        assert total(found) == pytest.approx(log_odds(float(row["probability"])), abs=1e-6)
    assert (broken["reasons"], broken["probability"]) == ("", "")
    assert "V1" in broken["error"]


def test_a_large_batch_is_not_explained(server, transactions):
    rows = transactions(MOST_ROWS + 1)
    answer = server.client.post("/predict/batch?explain=true", json={"transactions": rows})
    assert answer.status_code == 413
    assert f"1 to {MOST_ROWS} transactions" in answer.json()["detail"][0]["msg"]


def test_native_clients_may_ask_for_reasons(server, transactions):
    [transaction] = transactions(1)
    with bentoml.SyncHTTPClient(server.url) as client:
        found = client.score(transaction=transaction, explain=True)
        assert not EXPLAINED & set(client.score(transaction=transaction))
        with pytest.raises(BentoMLException):
            client.score(transaction=transaction, explain="perhaps")
    assert total(found) == pytest.approx(log_odds(found["probability"]), abs=1e-9)


def test_a_model_that_cannot_be_explained_scores_all_the_same(
    start_server, make_bundle, transactions, tmp_path
):
    make_bundle(tmp_path / "06_models" / "champion", background=())
    server = start_server(tmp_path)
    answers = [server.client.post("/predict?explain=true", json=transactions(1)[0])]
    answers.append(server.client.post("/predict/batch?explain=true", json={"transactions": transactions(2)}))
    assert [answer.status_code for answer in answers] == [200, 200]
    for found in (answers[0].json(), *answers[1].json()["predictions"]):
        assert found["reasons"] is None
        assert "holds no rows to compare with" in found["reasons_problem"]
        assert found["decision"]


def test_an_answer_of_a_model_that_serves_no_longer_says_so(
    start_server, make_bundle, transactions, tmp_path
):
    local = tmp_path / "06_models" / "champion"
    make_bundle(local)
    server = start_server(tmp_path, model_poll_seconds=3600)
    body = transactions(1)[0] | {"transaction_id": "old"}
    first = server.client.post("/predict", json=body).json()
    make_bundle(local, version=2, intercept=-1)
    server.client.post("/model/reload")
    found = server.client.post("/predict?explain=true", json=body).json()
    assert found["probability"] == first["probability"]
    assert found["reasons"] is None
    assert found["reasons_problem"].startswith("fraud_detection_logistic_regression_v1, which gave this")


def test_the_openapi_page_tells_of_reasons(server):
    page = server.client.get("/openapi.json").json()
    for path in ("/predict", "/predict/batch"):
        names = [parameter["name"] for parameter in page["paths"][path]["post"]["parameters"]]
        assert names == ["explain", "reasons"]
    example = page["components"]["schemas"]["Transaction"]["example"]
    answer = server.client.post("/predict?explain=true", json=example)
    assert set(answer.json()) == set(page["components"]["schemas"]["ExplainedPrediction"]["properties"])


class Slow:
    """A model whose explanations wait, and then meet a defect."""

    def __init__(self):
        self.go_on = threading.Event()
        self.explainer, self.scorer, self.problem = self, self, None

    def few(self, rows):
        return rows

    def explain(self, row, probability):
        self.go_on.wait(10)
        raise KeyError("a defect")


def test_beyond_a_number_that_wait_answers_come_without_reasons_and_a_defect_costs_no_answer(
    logged_record,
):
    async def main():
        explaining, model = Explaining(), Slow()
        waiting = [asyncio.create_task(explaining.explain(model, (), logged_record, 5)) for _ in range(65)]
        await asyncio.sleep(0.1)
        turned_away = [task.result() for task in waiting if task.done()]
        model.go_on.set()
        answers = await asyncio.gather(*waiting)
        explaining.close()
        return turned_away, answers

    turned_away, answers = asyncio.run(main())
    assert ["Too many" in answer.reasons_problem for answer in turned_away] == [True]
    assert sum("The explanation failed" in answer.reasons_problem for answer in answers) == 64
    assert {answer.probability for answer in answers} == {logged_record.probability}


@pytest.fixture
def logged_record():
    from datetime import UTC, datetime

    from fraud_kedro.prediction_log import PredictionRecord

    return PredictionRecord(
        "id", "champion", datetime.now(UTC), None, "m_v1", 0.25, 0, "approve", "p", "h", None, "{}"
    )


def test_the_last_of_a_parameter_given_twice_counts():
    assert wanted_reasons(b"explain=true&reasons=2&reasons=7") == 7
    with pytest.raises(InvalidRequestError):
        wanted_reasons(b"explain=\xff")
