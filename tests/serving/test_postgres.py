from __future__ import annotations

from fraud_kedro.prediction_log import open_for_reading


def test_the_log_may_be_kept_in_postgresql_by_two_workers(
    start_server, make_bundle, postgres, transactions, tmp_path
):
    make_bundle(tmp_path / "06_models" / "champion")
    url = postgres.database("served")
    server = start_server(tmp_path, log_url=url, workers=2)
    answers = [server.client.post("/predict", json=t).json() for t in transactions(30)]
    batch = server.client.post("/predict/batch", json={"transactions": transactions(1_200, seed=2)}).json()
    reader = open_for_reading(url)
    rows = {row["transaction_id"]: row["probability"] for row in reader.rows()}
    reader.close()
    assert rows == {a["transaction_id"]: a["probability"] for a in [*answers, *batch["predictions"]]}
    assert not (tmp_path / "prediction_log.db").exists()


def test_while_the_database_is_down_requests_are_refused_and_the_service_lives(
    start_server, make_bundle, postgres, transactions, tmp_path
):
    make_bundle(tmp_path / "06_models" / "champion")
    server = start_server(tmp_path, log_url=postgres.database("stopped"))
    [transaction] = transactions(1)
    transaction["transaction_id"] = "retried"
    assert server.client.post("/predict", json=transactions(1)[0]).status_code == 200
    postgres.stop()
    try:
        answer = server.client.post("/predict", json=transaction)
        assert answer.status_code == 503
        assert "once however often it is sent" in answer.json()["detail"]
        assert server.client.get("/livez").status_code == 200
        assert server.client.get("/health").json()["prediction_log"]["status"] == "failing"
    finally:
        postgres.start()
    assert server.client.post("/predict", json=transaction).status_code == 200
    assert server.client.get("/health").json()["status"] == "ok"
