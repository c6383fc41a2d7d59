from __future__ import annotations

import asyncio

import httpx
import pytest

from fraud_kedro.prediction_log import open_for_reading
from fraud_kedro.serving.metrics import PREDICTIONS
from fraud_kedro.serving.runtime import Runtime
from fraud_kedro.serving.settings import ServingSettings
from fraud_kedro.serving.turns import Turns


def body(transaction):
    return httpx.Request("POST", "http://x", json=transaction).content


def in_process(root, action, **settings):
    """What an action gets of a runtime that serves the root's bundle."""

    async def main():
        runtime = Runtime(ServingSettings(root=root, mlflow_tracking_uri=str(root / "none"), **settings))
        await runtime.start()
        try:
            return await action(runtime)
        finally:
            await runtime.stop()

    return asyncio.run(main())


def rows(root):
    reader = open_for_reading(f"sqlite:///{root / 'prediction_log.db'}")
    try:
        return {row["transaction_id"]: row for row in reader.rows()}
    finally:
        reader.close()


@pytest.fixture
def root(tmp_path, make_bundle):
    make_bundle(tmp_path / "06_models" / "champion")
    return tmp_path


def test_transactions_that_come_together_are_scored_at_once_and_answered_as_alone(root, transactions):
    drawn = [t | {"transaction_id": f"t-{n}"} for n, t in enumerate(transactions(20))]
    sizes = []

    async def ask(runtime):
        scorer = runtime.models.current.scorer
        score = scorer.probabilities
        scorer.probabilities = lambda matrix: sizes.append(len(matrix)) or score(matrix)
        alone = [
            await runtime.predictor.predict(body(t | {"transaction_id": f"alone-{n}"}))
            for n, t in enumerate(drawn)
        ]
        together = await asyncio.gather(
            *(runtime.predictor.predict(body(t), request_id=t["transaction_id"]) for t in drawn)
        )
        return [reply.body for reply in alone], [reply.body for reply in together]

    alone, together = in_process(root, ask)
    assert sizes == [1] * 20 + [20]
    logged = rows(root)
    for number, transaction in enumerate(drawn):
        name = transaction["transaction_id"]
        answered, single = (httpx.Response(200, content=c).json() for c in (together[number], alone[number]))
        assert answered["transaction_id"] == logged[name]["request_id"] == name
        assert answered["probability"] == logged[name]["probability"]
        assert answered["probability"] == pytest.approx(single["probability"], abs=1e-7)
        assert answered["decision"] == single["decision"]


def test_the_same_transaction_twice_at_once_is_logged_once(root, transactions):
    [transaction] = transactions(1)
    same = body(transaction | {"transaction_id": "same"})
    other = body(transaction | {"transaction_id": "same", "V1": 9.0})

    async def ask(runtime):
        return await asyncio.gather(*(runtime.predictor.predict(one) for one in (same, same, other)))

    replies = in_process(root, ask)
    assert [reply.status for reply in replies] == [200, 200, 409]
    assert replies[0].body == replies[1].body
    assert len(rows(root)) == 1


def counted():
    return sum(
        sample.value
        for metric in PREDICTIONS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )


def test_what_is_logged_once_is_counted_once(root, transactions):
    same, other = (t | {"transaction_id": "same"} for t in transactions(2))
    twice = {"transactions": [t | {"transaction_id": "in a batch"} for t in (same, same, other)]}

    async def ask(runtime):
        before = counted()
        await asyncio.gather(*(runtime.predictor.predict(body(one)) for one in (same, other, same, same)))
        single = counted() - before
        await runtime.predictor.batches.answer_json(body(twice))
        return single, counted() - before - single

    assert in_process(root, ask) == (1, 1)


def test_a_transaction_is_answered_by_the_model_it_came_to(root, make_bundle, transactions):
    drawn = transactions(2)

    async def ask(runtime):
        first = asyncio.create_task(runtime.predictor.predict(body(drawn[0])))
        await asyncio.sleep(0)
        make_bundle(root / "06_models" / "champion", version=2, intercept=-1)
        runtime.models.refresh()
        second = asyncio.create_task(runtime.predictor.predict(body(drawn[1])))
        return [httpx.Response(200, content=r.body).json() for r in await asyncio.gather(first, second)]

    first, second = in_process(root, ask)
    assert first["model_version"].endswith("_v1")
    assert second["model_version"].endswith("_v2")


def test_a_client_that_goes_takes_no_other_answer_along_and_its_row_is_logged(root, transactions):
    drawn = [body(t | {"transaction_id": f"t-{n}"}) for n, t in enumerate(transactions(3))]

    async def ask(runtime):
        tasks = [asyncio.create_task(runtime.predictor.predict(one)) for one in drawn]
        await asyncio.sleep(0)
        tasks[1].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        return [getattr(one, "status", type(one)) for one in found]

    assert in_process(root, ask) == [200, asyncio.CancelledError, 200]
    assert set(rows(root)) == {"t-0", "t-1", "t-2"}


def test_a_queue_that_is_full_refuses_those_that_do_not_fit(root, transactions):
    drawn = [body(t) for t in transactions(5)]

    async def ask(runtime):
        return await asyncio.gather(*(runtime.predictor.predict(one) for one in drawn))

    replies = in_process(root, ask, log_waiting_limit=3)
    assert [reply.status for reply in replies] == [200, 200, 200, 503, 503]
    assert len(rows(root)) == 3


def test_a_defect_while_scoring_reaches_everyone_who_waits():
    class Broken:
        def many(self, *_):
            raise KeyError("a defect")

    class Anything:
        def __getattr__(self, _name):
            return self

        def __call__(self, *_):
            return self

    async def main():
        turns, serving = Turns(Broken()), (Anything(),) * 3
        from fraud_kedro.serving.judging import Serving

        waiting = [turns.add(Serving(*serving), Anything(), None) for _ in range(3)]
        return await asyncio.gather(*(turn.stored for turn in waiting), return_exceptions=True)

    assert [type(found) for found in asyncio.run(main())] == [KeyError] * 3
