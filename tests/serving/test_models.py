from __future__ import annotations

import threading

import pytest

from fraud_kedro.champion.registry import Registry


@pytest.fixture
def registry(real_registry):
    return Registry(real_registry.uri)


@pytest.fixture
def registered(make_bundle, real_registry, registry, tmp_path):
    """Two versions, the first of them champion, and no local bundle; gives the root."""
    for number, algorithm in enumerate(("lightgbm", "xgboost"), start=1):
        real_registry.register(
            make_bundle(tmp_path / "made" / str(number), version=None, algorithm=algorithm, intercept=-number)
        )
    registry.set_alias("champion", 1, by="ann", why="first")
    return tmp_path


def version(answer):
    return answer.json()["model_version"]


def test_the_champion_of_the_registry_serves(start_server, registered, transactions):
    server = start_server(registered)
    health = server.client.get("/health").json()
    assert health["status"] == "ok"
    assert health["model_source"] == "registry"
    assert health["model_version"] == "fraud_detection_lightgbm_v1"
    assert health["algorithm"] == "lightgbm"
    assert health["trained_on"] == {
        "kind": "simulated",
        "name": "card transactions",
        "location": "drawn, seed 1",
    }
    assert health["model_problem"] is None
    assert version(server.client.post("/predict", json=transactions(1)[0])) == "fraud_detection_lightgbm_v1"


def test_the_service_follows_a_moved_alias_at_its_next_poll_without_a_failed_request(
    start_server, registered, registry, transactions
):
    server = start_server(registered, model_poll_seconds=0.3)
    [transaction] = transactions(1)
    answers, done = [], threading.Event()

    def ask():
        while not done.is_set():
            answers.append(server.client.post("/predict", json=transaction))

    asking = threading.Thread(target=ask)
    asking.start()
    registry.set_alias("champion", 2, by="bob", why="better")
    server.wait_for("/model", lambda answer: answer.json()["version"] == 2)
    done.set()
    asking.join()
    answers.append(server.client.post("/predict", json=transaction))
    assert {answer.status_code for answer in answers} == {200}
    scored = [(version(answer), answer.json()["probability"]) for answer in answers]
    # Each answer is one model's whole, and none goes back.
    assert len(set(scored)) == 2
    assert scored == sorted(scored)
    assert scored[-1][0] == "fraud_detection_xgboost_v2"


def test_a_reload_follows_at_once(start_server, registered, registry):
    server = start_server(registered, model_poll_seconds=3600)
    registry.set_alias("champion", 2, by="bob", why="better")
    assert server.client.post("/model/reload").json() == {
        "changed": True,
        "model_version": "fraud_detection_xgboost_v2",
        "model_source": "registry",
        "problem": None,
    }
    assert server.client.post("/model/reload").json()["changed"] is False


def test_a_tampered_bundle_is_refused_and_the_running_model_goes_on(
    start_server, registered, real_registry, registry, transactions
):
    server = start_server(registered, model_poll_seconds=3600)
    model = real_registry.files(2) / "model.onnx"
    good = model.read_bytes()
    model.write_bytes(good + b" ")
    registry.set_alias("champion", 2, by="bob", why="better")
    reload = server.client.post("/model/reload").json()
    assert reload["changed"] is False
    assert reload["model_version"] == "fraud_detection_lightgbm_v1"
    assert "Version 2 is champion and could not be loaded" in reload["problem"]
    assert "does not match its checksum" in reload["problem"]
    assert server.client.post("/predict", json=transactions(1)[0]).status_code == 200
    assert server.client.get("/health").json()["status"] == "degraded"
    assert 'fraud_model_loads_total{outcome="failed"} 1.0' in server.client.get("/metrics").text
    model.write_bytes(good)
    assert server.client.post("/model/reload").json()["changed"] is True
    assert server.client.get("/health").json()["status"] == "ok"


def test_a_model_that_fails_its_self_test_is_refused_and_the_running_one_goes_on(
    start_server, registered, make_bundle, real_registry, registry, logistic_graph, tmp_path
):
    server = start_server(registered, model_poll_seconds=3600)
    wrong = make_bundle(tmp_path / "wrong", version=None, model=logistic_graph([0.5] * 30, 1.0))
    registry.set_alias("champion", real_registry.register(wrong), by="bob", why="worse")
    reload = server.client.post("/model/reload").json()
    assert reload["model_version"] == "fraud_detection_lightgbm_v1"
    assert "fails its self-test" in reload["problem"]


def test_a_registry_that_goes_away_leaves_the_running_model(
    start_server, registered, real_registry, transactions
):
    server = start_server(registered, model_poll_seconds=3600)
    (registered / "mlflow" / "mlflow.db").rename(registered / "elsewhere.db")
    reload = server.client.post("/model/reload").json()
    assert reload["model_version"] == "fraud_detection_lightgbm_v1"
    assert "there is no such file" in reload["problem"]
    assert not (registered / "mlflow" / "mlflow.db").exists()
    assert server.client.post("/predict", json=transactions(1)[0]).status_code == 200


def test_the_local_bundle_serves_without_a_registry_and_the_registry_takes_over(
    start_server, registered, make_bundle
):
    store = registered / "mlflow" / "mlflow.db"
    store.rename(registered / "elsewhere.db")
    make_bundle(registered / "06_models" / "champion", algorithm="random_forest", version=7)
    server = start_server(registered, model_poll_seconds=3600)
    health = server.client.get("/health").json()
    assert (health["status"], health["model_source"]) == ("ok", "local bundle")
    assert health["model_version"] == "fraud_detection_random_forest_v7"
    assert "No model registry" in health["model_problem"]
    (registered / "elsewhere.db").rename(store)
    assert server.client.post("/model/reload").json()["model_version"] == "fraud_detection_lightgbm_v1"
    assert server.client.get("/health").json()["model_source"] == "registry"


def test_a_new_local_bundle_is_followed(start_server, make_bundle, tmp_path):
    local = tmp_path / "06_models" / "champion"
    make_bundle(local, version=None)
    server = start_server(tmp_path, model_poll_seconds=0.3)
    assert version(server.client.get("/health")) == "fraud_detection_logistic_regression_v0"
    make_bundle(local, version=3, algorithm="ensemble")
    server.wait_for("/health", lambda a: version(a) == "fraud_detection_ensemble_v3")
    # One that is damaged is not.
    (local / "metadata.json").write_text("{}")
    server.wait_for("/health", lambda a: "format None" in (a.json()["model_problem"] or ""))
    assert version(server.client.get("/health")) == "fraud_detection_ensemble_v3"


def test_without_any_model_the_service_is_not_ready_and_says_what_to_do(
    start_server, make_bundle, transactions, tmp_path
):
    server = start_server(tmp_path, model_poll_seconds=0.3)
    assert server.client.get("/livez").status_code == 200
    for answer in (
        server.client.get("/readyz"),
        server.client.post("/predict", json=transactions(1)[0]),
        server.client.post("/predict/batch", json={"transactions": transactions(2)}),
    ):
        assert answer.status_code == 503
        assert "Train one with `kedro run`" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) > 0
    for path in ("/model", "/predict/batch/template"):
        assert server.client.get(path).status_code == 503
    assert server.client.get("/health").json()["status"] == "unready"
    assert "Transaction" in server.client.get("/openapi.json").json()["components"]["schemas"]
    make_bundle(tmp_path / "06_models" / "champion")
    server.wait_for("/readyz", lambda answer: answer.status_code == 200)
    assert server.client.post("/predict", json=transactions(1)[0]).status_code == 200


def test_thresholds_of_the_settings_decide_and_the_log_says_so(
    start_server, make_bundle, transactions, tmp_path
):
    from fraud_kedro.prediction_log import open_for_reading

    make_bundle(tmp_path / "06_models" / "champion")
    server = start_server(tmp_path, flag_threshold=0, decline_threshold=0)
    answer = server.client.post("/predict", json=transactions(1)[0]).json()
    assert (answer["decision"], answer["prediction"]) == ("decline", 1)
    reader = open_for_reading(f"sqlite:///{tmp_path / 'prediction_log.db'}")
    assert [row["policy"] for row in reader.rows()] == ["settings"]
    reader.close()


def test_another_schema_is_served_without_a_restart(
    start_server, make_bundle, registered, real_registry, registry
):
    import sqlite3

    server = start_server(registered, model_poll_seconds=3600)
    small = make_bundle(registered / "small", version=None, features=("Amount", "V1", "Merchant risk"))
    registry.set_alias("champion", real_registry.register(small), by="bob", why="another table")
    assert server.client.post("/model/reload").json()["changed"] is True
    # Time is not read by this model, but may be given.
    body = {"Amount": 5, "V1": 0.5, "Merchant risk": 0.1, "Time": 60}
    assert server.client.post("/predict", json=body | {"transaction_id": "small"}).status_code == 200
    schema = server.client.get("/openapi.json").json()["components"]["schemas"]["Transaction"]
    assert schema["required"] == ["Amount", "V1", "Merchant risk"]
    with sqlite3.connect(registered / "prediction_log.db") as connection:
        row = connection.execute(
            'SELECT "Merchant risk", event_time FROM predictions_wide WHERE transaction_id = ?', ("small",)
        ).fetchone()
    assert row == (0.1, "2013-09-01 00:01:00.000000")
