"""What breaks around the service, and what it does then: docs/operations.md has the list."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fraud_kedro.prediction_log import open_for_reading
from fraud_kedro.serving import turns
from fraud_kedro.serving.app import create_app
from fraud_kedro.serving.hot_path import HotPath
from fraud_kedro.serving.runtime import Runtime
from fraud_kedro.serving.settings import ServingSettings


@pytest.fixture
def service(make_bundle, tmp_path):
    """A function that runs an action with a client of a service in this process, and its runtime."""
    make_bundle(tmp_path / "06_models" / "champion")

    def run(action, **settings):
        async def main():
            runtime = Runtime(ServingSettings(root=tmp_path, **settings))
            api = create_app(runtime)
            async with api.router.lifespan_context(api):
                transport = httpx.ASGITransport(HotPath(api, runtime, api))
                async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                    return await action(client, runtime)

        return asyncio.run(main())

    return run


def rows(root):
    reader = open_for_reading(f"sqlite:///{root / 'prediction_log.db'}")
    try:
        return list(reader.rows())
    finally:
        reader.close()


def failures(text):
    return {
        sample.labels["cause"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "fraud_failures_total"
    }


def test_a_full_disk_refuses_until_there_is_room_and_the_log_is_whole(
    start_server, make_bundle, transactions, tmp_path
):
    make_bundle(tmp_path / "06_models" / "champion")
    server = start_server(tmp_path, log_on_failure="spill", log_spill_bytes=2 * 1024 * 1024)
    drawn = transactions(300)
    answered = server.client.post("/predict/batch", json={"transactions": drawn}).json()["predictions"]
    parent = psutil.Process(server._process.pid)
    [worker] = [p for p in parent.children(recursive=True) if "bentoml" in " ".join(p.cmdline())]
    # No file may grow beyond what the journal has, as on a disk that is full.
    room = (tmp_path / "prediction_log.db-wal").stat().st_size
    _, most = worker.rlimit(resource.RLIMIT_FSIZE)
    worker.rlimit(resource.RLIMIT_FSIZE, (room, most))
    outcomes = [server.client.post("/predict", json=t) for t in drawn[:50]]
    # The spill file takes what fits.
    assert {a.status_code for a in outcomes} <= {200, 503}
    answered += [a.json() for a in outcomes if a.status_code == 200]
    worker.rlimit(resource.RLIMIT_FSIZE, (1, most))
    refused = server.client.post("/predict", json=drawn[60])
    assert refused.status_code == 503
    assert "could not be logged" in refused.json()["detail"]
    assert server.client.get("/livez").status_code == 200
    worker.rlimit(resource.RLIMIT_FSIZE, (most, most))
    again = server.client.post("/predict", json=drawn[60])
    assert again.status_code == 200
    server.wait_for("/health", lambda a: a.json()["prediction_log"]["status"] == "ok")
    assert server.stop() == 0
    stored = {row["transaction_id"]: row["probability"] for row in rows(tmp_path)}
    assert len(answered) >= 300
    for answer in [*answered, again.json()]:
        assert stored[answer["transaction_id"]] == answer["probability"]
    with sqlite3.connect(tmp_path / "prediction_log.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_log_that_may_only_be_read_refuses_with_its_cause_and_recovers(service, transactions, tmp_path):
    [transaction] = transactions(1)

    async def action(client, runtime):
        connection = runtime.log.commits.writer._connection
        before = failures((await client.get("/metrics")).text).get("log_unavailable", 0)
        connection.execute("PRAGMA query_only = ON")
        refused = await client.post("/predict", json=transaction)
        health = (await client.get("/health")).json()
        counted = failures((await client.get("/metrics")).text)["log_unavailable"] - before
        connection.execute("PRAGMA query_only = OFF")
        return refused, health, counted, await client.post("/predict", json=transaction)

    refused, health, counted, after = service(action)
    assert refused.status_code == 503
    assert health["status"] == "degraded"
    assert "readonly" in health["prediction_log"]["problem"]
    assert counted == 1
    assert after.status_code == 200
    assert len(rows(tmp_path)) == 1


def test_a_clock_that_is_set_back_changes_no_answer_and_repeats_no_id(
    service, transactions, tmp_path, monkeypatch
):
    drawn = transactions(4)
    moments = []

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            moments.append(len(moments))
            return datetime(2026, 5, 6, tzinfo=UTC) - timedelta(days=len(moments))

    monkeypatch.setattr(turns, "datetime", Clock)

    async def action(client, _):
        first = (await client.post("/predict", json=drawn[0] | {"transaction_id": "one"})).json()
        made = [(await client.post("/predict", json=t)).json() for t in drawn]
        return first, made, (await client.post("/predict", json=drawn[0] | {"transaction_id": "one"})).json()

    first, made, again = service(action)
    assert len(moments) == 6
    assert again == first
    assert len({answer["transaction_id"] for answer in made}) == 4
    stored = {row["transaction_id"]: row["timestamp"] for row in rows(tmp_path)}
    for answer in [first, *made]:
        assert stored[answer["transaction_id"]] == datetime.fromisoformat(answer["timestamp"])


def test_without_its_database_a_service_starts_and_spills_where_that_is_allowed(
    service, transactions, tmp_path
):
    blocked = tmp_path / "blocked"
    blocked.touch()
    url = f"sqlite:///{blocked / 'log.db'}"
    [transaction] = transactions(1)

    async def action(client, runtime):
        ready = (await client.get("/readyz")).status_code
        answer = await client.post("/predict", json=transaction)
        health = (await client.get("/health")).json()
        if answer.status_code == 200:
            blocked.unlink()
            for _ in range(100):
                if not runtime.log.spilled_bytes:
                    break
                await asyncio.sleep(0.1)
        return ready, answer, health

    ready, answer, health = service(action, log_url=url)
    assert (ready, answer.status_code, health["prediction_log"]["status"]) == (503, 503, "closed")
    ready, answer, health = service(action, log_url=url, log_on_failure="spill")
    assert (ready, answer.status_code, health["prediction_log"]["status"]) == (200, 200, "spilling")
    reader = open_for_reading(url)
    assert [row["transaction_id"] for row in reader.rows()] == [answer.json()["transaction_id"]]
    reader.close()


def test_what_was_spilled_is_put_into_the_log_by_a_service_that_no_longer_spills(
    service, transactions, tmp_path
):
    blocked = tmp_path / "blocked"
    blocked.touch()
    url = f"sqlite:///{blocked / 'log.db'}"

    async def once(client, _):
        return await client.post("/predict", json=transactions(1)[0] | {"transaction_id": "left"})

    assert service(once, log_url=url, log_on_failure="spill").status_code == 200
    blocked.unlink()

    async def later(_, runtime):
        for _ in range(100):
            if not runtime.log.spilled_bytes:
                return
            await asyncio.sleep(0.1)

    service(later, log_url=url)
    reader = open_for_reading(url)
    assert reader.count() == 1
    reader.close()


def test_old_features_go_while_the_service_runs(service, transactions, tmp_path):
    async def first(client, _):
        return await client.post("/predict", json=transactions(1)[0])

    assert service(first).status_code == 200
    with sqlite3.connect(tmp_path / "prediction_log.db") as connection:
        connection.execute("UPDATE predictions SET timestamp = '2020-01-01 00:00:00.000000'")

    async def wait(client, _):
        assert (await client.post("/predict", json=transactions(1)[0])).status_code == 200
        await asyncio.sleep(0.5)

    service(wait, log_retention_days=0)
    assert all(row["features"] for row in rows(tmp_path))
    service(wait)
    assert [row["features"] is None for row in rows(tmp_path)] == [True, False, False]


def test_an_mlflow_server_that_is_gone_and_back_is_followed_without_a_refused_request(
    service, make_bundle, real_registry, transactions, tmp_path, monkeypatch
):
    from mlflow.server import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR, app
    from werkzeug.serving import make_server

    from fraud_kedro.champion.registry import Registry

    monkeypatch.setenv(BACKEND_STORE_URI_ENV_VAR, real_registry.uri)
    monkeypatch.setenv(ARTIFACT_ROOT_ENV_VAR, str(tmp_path / "mlflow" / "artifacts"))
    first = real_registry.register(make_bundle(tmp_path / "made", version=None))
    second = real_registry.register(make_bundle(tmp_path / "newer", version=None, intercept=-1.0))
    registry = Registry(real_registry.uri)
    registry.set_alias("champion", first, by="ann", why="first")
    [transaction] = transactions(1)

    def serve(port=0):
        started = make_server("127.0.0.1", port, app, threaded=True)
        threading.Thread(target=started.serve_forever, daemon=True).start()
        return started

    server = serve()

    async def action(client, runtime):
        async def version():
            return (await client.post("/predict", json=transaction)).json()["model_version"]

        served = [await version()]
        server.shutdown()
        server.server_close()
        await runtime.refresh()
        problem = runtime.models.problem
        served.append(await version())
        registry.set_alias("champion", second, by="ann", why="second")
        back = serve(server.server_port)
        await runtime.refresh()
        served.append(await version())
        back.shutdown()
        back.server_close()
        return served, problem, runtime.models.problem

    served, problem, after = service(
        action, mlflow_tracking_uri=f"http://127.0.0.1:{server.server_port}", model_poll_seconds=3600
    )
    assert [name.rpartition("_v")[2] for name in served] == [str(first), str(first), str(second)]
    assert "127.0.0.1" in problem
    assert after is None
