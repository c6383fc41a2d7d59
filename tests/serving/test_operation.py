from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import bentoml
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fraud_kedro.prediction_log import open_for_reading


def samples(text):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def rows(root):
    reader = open_for_reading(f"sqlite:///{root / 'prediction_log.db'}")
    try:
        return {row["transaction_id"]: row for row in reader.rows()}
    finally:
        reader.close()


def test_the_probes_answer(server):
    assert server.client.get("/livez").json() == {"status": "alive"}
    assert server.client.get("/readyz").json() == {"status": "ready"}


def test_health_tells_of_model_log_and_uptime(server):
    health = server.client.get("/health").json()
    assert health["prediction_log"] == {
        "status": "ok",
        "waiting": 0,
        "problem": None,
        "mode": "durable",
        "on_failure": "refuse",
        "spilled_bytes": 0,
        "loss_window": None,
    }
    assert health["uptime_seconds"] > 0
    assert health["trained_on"]["kind"] == "simulated"


def test_the_model_page_tells_what_serves(server):
    model = server.client.get("/model").json()
    assert model["algorithm"] == "logistic_regression"
    assert model["metrics"]["average_precision"] == {"value": 0.8, "low": 0.7, "high": 0.9}
    assert model["thresholds"] == {"flag": 0.2, "decline": 0.8, "policy": "expected_cost"}
    assert len(model["features"]) == 30


def test_the_examples_of_the_openapi_page_run(server):
    page = server.client.get("/openapi.json").json()
    example = page["components"]["schemas"]["Transaction"]["example"]
    assert server.client.post("/predict", json=example).status_code == 200
    assert server.client.post("/predict/batch", json={"transactions": [example]}).status_code == 200
    for path in ("/predict", "/predict/batch"):
        operation = page["paths"][path]["post"]
        name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert name in page["components"]["schemas"]
        assert {"200", "413", "415", "422", "503"} <= set(operation["responses"])


def test_every_reference_of_the_openapi_page_leads_somewhere(server):
    text = server.client.get("/openapi.json").text
    schemas = server.client.get("/openapi.json").json()["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= set(schemas)


def test_the_documentation_page_loads_nothing_from_elsewhere(server):
    page = server.client.get("/docs").text
    assert "https://" not in page.replace("https://github.com", "")
    for asset in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert server.client.get(f"/{asset}").status_code == 200, asset


def test_metrics_count_requests_decisions_and_commits(start_server, served_root, transactions):
    server = start_server(served_root)
    drawn = transactions(5)
    decisions = [server.client.post("/predict", json=t).json()["decision"] for t in drawn]
    server.client.post("/predict", json={})
    server.client.post("/predict/batch", json={"transactions": drawn})
    found = samples(server.client.get("/metrics").text)
    count = "fraud_request_seconds_count"
    assert found[count, (("route", "/predict"), ("status", "200"))] == 5
    assert found[count, (("route", "/predict"), ("status", "422"))] == 1
    assert found[count, (("route", "/predict/batch"), ("status", "200"))] == 1
    model = ("model_version", "fraud_detection_logistic_regression_v1")
    approved = found["fraud_predictions_total", (("decision", "approve"), model)]
    assert approved == 2 * decisions.count("approve")
    assert found["fraud_log_records_total", ()] == 10
    assert found["fraud_probability_count", ()] == 10
    assert found["fraud_model_version", ()] == 1


def test_native_clients_get_the_same_answers_from_the_same_log(server, served_root, transactions):
    first, second = transactions(2)
    with bentoml.SyncHTTPClient(server.url) as client:
        answer = client.score(transaction=first | {"transaction_id": "native"})
        batch = client.score_batch(transactions=[second, {"V1": 1}])
    assert answer == server.client.post("/predict", json=first | {"transaction_id": "native"}).json()
    assert rows(served_root)["native"]["probability"] == answer["probability"]
    assert len(batch["predictions"]) == 1
    assert batch["errors"][0]["row"] == 1
    refused = server.client.post("/score", json={"transaction": {"V1": 1}})
    assert refused.status_code == 422
    assert "is required" in refused.text


def test_two_workers_share_one_log_and_one_page_of_metrics(start_server, make_bundle, transactions, tmp_path):
    import httpx

    make_bundle(tmp_path / "06_models" / "champion")
    server = start_server(tmp_path, workers=2)
    for _ in range(20):
        # A worker is reached by a new connection, and either may answer.
        with httpx.Client(base_url=server.url) as client:
            client.post("/predict/batch", json={"transactions": transactions(10)})
            [transaction] = transactions(1)
            client.post("/predict", json=transaction | {"transaction_id": "shared"}).raise_for_status()
    assert len(rows(tmp_path)) == 201
    found = samples(server.client.get("/metrics").text)
    assert found["fraud_request_seconds_count", (("route", "/predict"), ("status", "200"))] == 20
    assert server.log.read_text().count("serves now") == 2


def test_probes_answer_head(server):
    assert [server.client.head(path).status_code for path in ("/livez", "/readyz")] == [200, 200]


def test_another_service_of_the_same_user_takes_no_metrics_away(
    start_server, make_bundle, transactions, tmp_path
):
    make_bundle(tmp_path / "06_models" / "champion")
    server = start_server(tmp_path)
    server.client.post("/predict", json=transactions(1)[0]).raise_for_status()
    start_server(tmp_path)
    found = samples(server.client.get("/metrics").text)
    assert found["fraud_request_seconds_count", (("route", "/predict"), ("status", "200"))] == 1
    [worker] = psutil.Process(server.pid).children()
    own = Path(worker.environ()["_FRAUD_KEDRO_METRICS"])
    assert any(own.iterdir())
    server.stop()
    assert not own.exists()


def test_a_log_that_fails_refuses_and_recovers(start_server, make_bundle, transactions, tmp_path):
    make_bundle(tmp_path / "06_models" / "champion")
    server = start_server(tmp_path)
    [transaction] = transactions(1)
    assert server.client.post("/predict", json=transaction).status_code == 200
    with sqlite3.connect(tmp_path / "prediction_log.db") as connection:
        connection.execute("ALTER TABLE predictions RENAME TO gone")
    for path, body in (("/predict", transaction), ("/predict/batch", {"transactions": [transaction]})):
        answer = server.client.post(path, json=body)
        assert answer.status_code == 503
        assert "could not be logged" in answer.json()["detail"]
        assert "no such table" not in answer.text
    health = server.client.get("/health").json()
    assert (health["status"], health["prediction_log"]["status"]) == ("degraded", "failing")
    with sqlite3.connect(tmp_path / "prediction_log.db") as connection:
        connection.execute("ALTER TABLE gone RENAME TO predictions")
    assert server.client.post("/predict", json=transaction).status_code == 200
    assert server.client.get("/health").json()["status"] == "ok"


def test_a_log_that_cannot_be_opened_leaves_the_service_alive_and_is_tried_again(
    start_server, make_bundle, transactions, tmp_path
):
    make_bundle(tmp_path / "06_models" / "champion")
    blocked = tmp_path / "blocked"
    blocked.touch()
    server = start_server(tmp_path, log_url=f"sqlite:///{blocked / 'log.db'}", model_poll_seconds=0.3)
    assert server.client.get("/livez").status_code == 200
    answer = server.client.post("/predict", json=transactions(1)[0])
    assert answer.status_code == 503
    blocked.unlink()
    server.wait_for("/readyz", lambda answer: answer.status_code == 200)
    assert server.client.post("/predict", json=transactions(1)[0]).status_code == 200


def test_a_stopped_server_has_committed_what_it_took(start_server, make_bundle, transactions, tmp_path):
    make_bundle(tmp_path / "06_models" / "champion")
    server = start_server(tmp_path)
    answers = server.client.post("/predict/batch", json={"transactions": transactions(2_000)}).json()
    assert server.stop() == 0
    assert len(rows(tmp_path)) == len(answers["predictions"]) == 2_000
    # The write-ahead log is folded into the file at a clean end.
    assert not (tmp_path / "prediction_log.db-wal").exists()


def test_an_unknown_setting_is_warned_of(start_server, make_bundle, tmp_path):
    make_bundle(tmp_path / "06_models" / "champion")
    server = start_server(tmp_path, model_pol_seconds=5)
    text = server.log.read_text()
    assert "FRAUD_MODEL_POL_SECONDS is not a setting; did you mean FRAUD_MODEL_POLL_SECONDS?" in text


def test_the_log_of_the_server_shows_no_values_of_a_request(start_server, served_root, transactions):
    server = start_server(served_root)
    wrong = transactions(1)[0] | {"V1": "4111111111111111"}
    server.client.post("/predict", json=wrong)
    server.client.post("/predict/batch", json={"transactions": [wrong]})
    server.client.post("/score", json={"transaction": wrong})
    server.stop()
    assert "4111111111111111" not in server.log.read_text()


FORBIDDEN = (
    "sklearn",
    "lightgbm",
    "xgboost",
    "optuna",
    "evidently",
    "kedro",
    "kedro_mlflow",
    "joblib",
)


def test_the_serving_process_imports_no_training_library_and_loads_no_pickle(
    make_bundle, real_registry, tmp_path, transactions
):
    from fraud_kedro.champion.registry import Registry

    version = real_registry.register(make_bundle(tmp_path / "made", version=None))
    Registry(real_registry.uri).set_alias("champion", version, by="ann", why="first")
    script = tmp_path / "serve_once.py"
    script.write_text(f"""
import asyncio, json, sys

import httpx

from fraud_kedro.serving.service import FraudDetection, runtime

unpickled = []
sys.addaudithook(lambda event, args: unpickled.append(args) if event == "pickle.find_class" else None)

async def main():
    app = FraudDetection.to_asgi()
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            answer = await client.post("/predict", json={transactions(1)[0]!r})
            assert answer.status_code == 200, answer.text
            batch = await client.post("/predict/batch", json={{"transactions": [{transactions(1)[0]!r}]}})
            assert batch.status_code == 200, batch.text
        assert runtime.models.current.source == "registry"

asyncio.run(main())
print(json.dumps({{"modules": sorted(sys.modules), "unpickled": unpickled}}))
""")
    # Earlier tests of this process may have told MLflow of another store.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FRAUD_", "MLFLOW_"))}
    environment = {**kept, "FRAUD_ROOT": str(tmp_path), "BENTOML_HOME": str(tmp_path / "bentoml")}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    modules = found["modules"]
    assert found["unpickled"] == []
    assert "onnxruntime" in modules
    assert "mlflow" in modules
    assert [m for m in modules if m.split(".")[0] in FORBIDDEN] == []


def test_settings_that_cannot_be_are_refused_in_words(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "FRAUD_ROOT": str(tmp_path), "FRAUD_PORT": "many"},
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "FRAUD_PORT" in done.stderr + done.stdout
    assert ".env.example" in done.stderr + done.stdout


@pytest.mark.parametrize("path", ["/", "/healthz", "/schema.json"])
def test_pages_of_bentoml_are_still_there(server, path):
    assert server.client.get(path).status_code == 200
