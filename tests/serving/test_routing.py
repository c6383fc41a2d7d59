from __future__ import annotations

import asyncio
import csv
import io
import time

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_kedro.champion.registry import Registry
from fraud_kedro.prediction_log import open_for_reading
from fraud_kedro.serving.routing import is_challenged
from fraud_kedro.serving.runtime import Runtime
from fraud_kedro.serving.settings import ServingSettings

ALGORITHMS = ("lightgbm", "xgboost", "random_forest")
CHAMPION, CHALLENGER, SHADOW = (
    f"fraud_detection_{algorithm}_v{number}" for number, algorithm in enumerate(ALGORITHMS, start=1)
)


@pytest.fixture
def registry(real_registry):
    return Registry(real_registry.uri)


@pytest.fixture
def registered(make_bundle, real_registry, registry, tmp_path):
    """Three versions, an alias each; gives the root."""
    for number, algorithm in enumerate(ALGORITHMS, start=1):
        real_registry.register(
            make_bundle(tmp_path / "made" / str(number), version=None, algorithm=algorithm, intercept=-number)
        )
    for number, alias in enumerate(("champion", "challenger", "shadow"), start=1):
        registry.set_alias(alias, number, by="ann", why="first")
    return tmp_path


def rows(root, **window):
    reader = open_for_reading(f"sqlite:///{root / 'prediction_log.db'}")
    try:
        return list(reader.rows(**window))
    finally:
        reader.close()


def rows_once_complete(root, role, count):
    deadline = time.monotonic() + 20
    while len(found := rows(root, role=role)) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@given(st.text(min_size=1, max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_has_every_transaction_of_a_smaller_one(identity, one, other):
    small, large = sorted((one, other))
    assert is_challenged(identity, large) or not is_challenged(identity, small)
    assert is_challenged(identity, 1)
    assert not is_challenged(identity, 0)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_the_share_is_what_was_set(share):
    found = np.mean([is_challenged(f"transaction-{number}", share) for number in range(20_000)])
    assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / 20_000)


def test_a_challenger_has_no_traffic_unless_its_share_is_set(start_server, registered, transactions):
    server = start_server(registered, shadow_version=1)
    answers = [server.client.post("/predict", json=t).json() for t in transactions(20)]
    assert {answer["model_version"] for answer in answers} == {CHAMPION}
    roles = server.client.get("/health").json()["roles"]
    assert roles["challenger"] == {
        "model_version": None, "version": None, "loaded": None, "share": 0.0, "problem": None
    }  # fmt: skip
    # The champion need not be its own shadow.
    assert roles["shadow"]["model_version"] is None


def test_share_and_shadow_are_served_and_logged_by_role(start_server, registered, transactions):
    server = start_server(registered, challenger_share=0.5)
    bodies = [t | {"transaction_id": f"t-{n}"} for n, t in enumerate(transactions(40))]
    answers = [server.client.post("/predict", json=body).json() for body in bodies[:20]]
    answers += server.client.post("/predict/batch", json={"transactions": bodies[20:30]}).json()[
        "predictions"
    ]
    sent = io.StringIO()
    table = csv.DictWriter(sent, bodies[0])
    table.writeheader()
    table.writerows(bodies[30:])
    received = server.client.post(
        "/predict/batch", content=sent.getvalue(), headers={"Content-Type": "text/csv"}
    )
    answers += csv.DictReader(received.text.splitlines())
    assert [answer["transaction_id"] for answer in answers] == [f"t-{n}" for n in range(40)]
    for answer in answers:
        challenged = is_challenged(answer["transaction_id"], 0.5)
        assert answer["model_version"] == (CHALLENGER if challenged else CHAMPION)
    logged = {row["transaction_id"]: row for row in rows(registered) if row["role"] != "shadow"}
    assert {(row["role"], row["model_version"]) for row in logged.values()} == {
        ("champion", CHAMPION),
        ("challenger", CHALLENGER),
    }
    shadowed = rows_once_complete(registered, "shadow", 40)
    assert {row["transaction_id"] for row in shadowed} == {f"t-{n}" for n in range(40)}
    for row in shadowed:
        answered = logged[row["transaction_id"]]
        assert row["model_version"] == SHADOW
        assert row["probability"] != answered["probability"]
        assert row["timestamp"] == answered["timestamp"]
        assert row["features"] == answered["features"]
    model = server.client.get("/model").json()
    assert model["model_version"] == CHAMPION
    assert model["roles"]["challenger"]["model_version"] == CHALLENGER
    assert model["roles"]["challenger"]["share"] == 0.5
    assert model["roles"]["shadow"]["model_version"] == SHADOW
    assert 'fraud_shadow_total{outcome="logged"} 40.0' in server.client.get("/metrics").text
    challenged = next(body for body in bodies if is_challenged(body["transaction_id"], 0.5))
    explained = server.client.post("/predict?explain=true", json=challenged).json()
    assert explained["model_version"] == CHALLENGER
    assert explained["reasons"]


def test_a_repeated_transaction_keeps_its_answer_when_the_share_changes(
    start_server, registered, transactions
):
    bodies = [t | {"transaction_id": f"t-{n}"} for n, t in enumerate(transactions(12))]

    def ask(**settings):
        server = start_server(registered, **settings)
        answers = [server.client.post("/predict", json=body).json() for body in bodies[:6]]
        answers += server.client.post("/predict/batch", json={"transactions": bodies[6:]}).json()[
            "predictions"
        ]
        other = server.client.post("/predict", json=bodies[0] | {"V1": 9.0})
        server.stop()
        assert other.status_code == 409
        return answers

    first = ask(challenger_share=1)
    assert {answer["model_version"] for answer in first} == {CHALLENGER}
    assert ask() == first


def test_pinned_versions_serve_whatever_the_aliases_say(start_server, registered, transactions):
    server = start_server(registered, challenger_share=1, challenger_version=3, shadow_version=2)
    answer = server.client.post("/predict", json=transactions(1)[0]).json()
    assert answer["model_version"] == SHADOW
    assert rows_once_complete(registered, "shadow", 1)[0]["model_version"] == CHALLENGER


def test_versions_that_cannot_be_loaded_leave_the_champion_alone(
    start_server, registered, real_registry, make_bundle, registry, transactions
):
    (real_registry.files(2) / "model.onnx").write_bytes(b"broken")
    other = make_bundle(registered / "other", version=None, features=("Amount", "V1"))
    registry.set_alias("shadow", real_registry.register(other), by="ann", why="another table")
    server = start_server(registered, challenger_share=1)
    answer = server.client.post("/predict", json=transactions(1)[0])
    assert (answer.status_code, answer.json()["model_version"]) == (200, CHAMPION)
    health = server.client.get("/health").json()
    assert health["status"] == "degraded"
    assert "does not match its checksum" in health["roles"]["challenger"]["problem"]
    assert "reads other features" in health["roles"]["shadow"]["problem"]


def test_an_alias_taken_away_ends_its_role(start_server, registered, registry, transactions):
    server = start_server(registered, challenger_share=1, model_poll_seconds=3600)
    registry.delete_alias("challenger", by="ann", why="the test is over")
    registry.delete_alias("shadow", by="ann", why="the test is over")
    assert server.client.post("/model/reload").json()["changed"] is True
    answer = server.client.post("/predict", json=transactions(1)[0]).json()
    assert answer["model_version"] == CHAMPION
    assert server.client.get("/health").json()["roles"]["shadow"]["model_version"] is None


def in_process(root, uri, transactions, break_it, **settings):
    """Answers of a service within this process whose models are tampered with, and its runtime."""

    async def main():
        runtime = Runtime(ServingSettings(root=root, mlflow_tracking_uri=uri, **settings))
        await runtime.start()
        break_it(runtime)
        encoded = [httpx.Request("POST", "http://x", json=t).content for t in transactions]
        batch = httpx.Request("POST", "http://x", json={"transactions": transactions}).content
        answers = [await runtime.predictor.predict(body) for body in encoded]
        answers.append(await runtime.predictor.batches.answer_json(batch))
        await runtime.stop()
        return [answer.status for answer in answers], runtime

    return asyncio.run(main())


def defect(*_):
    raise RuntimeError("a defect")


def no_number(_outputs, inputs):
    [matrix] = inputs.values()
    return [np.full(len(matrix), np.nan, dtype=np.float32)]


@pytest.mark.parametrize("fault", [defect, no_number])
def test_a_challenger_and_a_shadow_that_fail_harm_no_answer(
    registered, real_registry, transactions, caplog, fault
):
    def break_it(runtime):
        runtime.models.roles.challenger.scorer._run = fault
        runtime.models.roles.shadow.scorer._run = fault

    statuses, _ = in_process(registered, real_registry.uri, transactions(5), break_it, challenger_share=1)
    assert statuses == [200] * 6
    assert {(row["role"], row["model_version"]) for row in rows(registered)} == {("champion", CHAMPION)}
    assert len(rows(registered)) == 10
    # Each says it once, not for every transaction.
    assert caplog.text.count("and the champion answers for it") == 1
    assert caplog.text.count("The shadow fraud_detection_random_forest_v3 fails") == 1


def test_a_shadow_that_is_too_slow_goes_without_transactions(registered, real_registry, transactions):
    def slow(runtime):
        scorer = runtime.models.roles.shadow.scorer
        run = scorer._run
        scorer._run = lambda *arguments: (time.sleep(0.5), run(*arguments))[1]

    begun = time.monotonic()
    statuses, runtime = in_process(
        registered, real_registry.uri, transactions(30), slow, shadow_waiting_limit=10
    )
    assert statuses == [200] * 31
    assert time.monotonic() - begun < 30
    assert len(rows(registered, role="champion")) == 60
    assert 10 <= len(rows(registered, role="shadow")) < 60
    assert runtime.predictor.shadow.waiting == 0


def test_workers_follow_a_reload_together(start_server, registered, registry, transactions):
    server = start_server(registered, workers=2, model_poll_seconds=3600)
    registry.set_alias("champion", 2, by="bob", why="better")
    assert server.client.post("/model/reload").status_code == 200
    time.sleep(4)
    served = set()
    for _ in range(20):
        with httpx.Client(base_url=server.url) as client:
            served.add(client.get("/health").json()["model_version"])
    assert served == {CHALLENGER}
    assert server.log.read_text().count(f"{CHALLENGER} serves now as champion") == 2
