from __future__ import annotations

import asyncio
import logging

import httpx
import pytest

from fraud_kedro.serving.app import create_app
from fraud_kedro.serving.hot_path import HotPath
from fraud_kedro.serving.runtime import Runtime
from fraud_kedro.serving.settings import ServingSettings


@pytest.fixture
def ask(make_bundle, tmp_path):
    """A function that asks a service within this process; `break_it` gets its runtime first."""
    make_bundle(tmp_path / "06_models" / "champion")

    def run(*requests, break_it=lambda runtime: None):
        async def main():
            runtime = Runtime(ServingSettings(root=tmp_path))
            api = create_app(runtime)
            async with api.router.lifespan_context(api):
                break_it(runtime)
                transport = httpx.ASGITransport(HotPath(api, runtime, api))
                async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                    return [await client.request(*request[:2], **request[2]) for request in requests]

        return asyncio.run(main())

    return run


def test_the_hot_path_and_the_route_behind_it_answer_alike(make_bundle, tmp_path, transactions):
    make_bundle(tmp_path / "06_models" / "champion")
    drawn = transactions(1)[0] | {"transaction_id": "same"}
    requests = [
        {"json": drawn},
        {"json": drawn | {"V1": "x"}},
        {"content": b"{}", "headers": {"content-type": "text/plain"}},
        {"content": b" " * 70_000, "headers": {"content-type": "application/json"}},
        {"json": drawn | {"V1": 1.0}},
    ]

    async def main():
        runtime = Runtime(ServingSettings(root=tmp_path))
        api = create_app(runtime)
        answers = []
        async with api.router.lifespan_context(api):
            for app in (HotPath(api, runtime, api), api):
                transport = httpx.ASGITransport(app)
                async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                    answers.append([await client.post("/predict", **request) for request in requests])
        return answers

    hot, behind = asyncio.run(main())
    assert [a.status_code for a in hot] == [200, 422, 415, 413, 409]
    assert [(a.status_code, a.content) for a in hot] == [(a.status_code, a.content) for a in behind]


def test_a_defect_is_answered_without_its_trace_and_logged_with_it(ask, transactions, caplog):
    def break_it(runtime):
        runtime.models.current.scorer._run = lambda *_: {}["defect in the model"]

    with caplog.at_level(logging.ERROR):
        [answer] = ask(("POST", "/predict", {"json": transactions(1)[0]}), break_it=break_it)
    assert answer.status_code == 500
    assert "defect" not in answer.text
    assert "defect in the model" in caplog.text


def test_a_full_queue_refuses_and_says_when_to_come_back(ask, transactions):
    def break_it(runtime):
        runtime.log.commits._waiting_limit = 0

    [answer] = ask(("POST", "/predict", {"json": transactions(1)[0]}), break_it=break_it)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


def test_what_is_not_http_is_handed_on(make_bundle, tmp_path):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    async def main():
        runtime = Runtime(ServingSettings(root=tmp_path))
        await HotPath(app, runtime, app)({"type": "websocket"}, None, None)

    asyncio.run(main())
    assert seen == ["websocket"]
