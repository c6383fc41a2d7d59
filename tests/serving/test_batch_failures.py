from __future__ import annotations

import asyncio
import io
import json

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.serving.batch import ROWS_PER_PART, BatchPipeline
from fraud_kedro.serving.batch_json import JsonSource
from fraud_kedro.serving.judging import Judge, Serving
from fraud_kedro.serving.runtime import Runtime
from fraud_kedro.serving.settings import ServingSettings


def answered(root, transactions, write):
    """The reply to a batch whose log writes by `write(original, records)`."""

    async def main():
        runtime = Runtime(ServingSettings(root=root, mlflow_tracking_uri=str(root / "none")))
        await runtime.start()
        commits = runtime.log.commits
        original = commits.write
        commits.write = lambda records: write(original, records)
        try:
            return await runtime.predictor.batches.answer_json(
                json.dumps({"transactions": transactions}).encode()
            )
        finally:
            await runtime.stop()

    return asyncio.run(main())


def test_rows_from_a_failure_of_the_log_on_are_not_answered(tmp_path, make_bundle, transactions):
    make_bundle(tmp_path / "06_models" / "champion")
    drawn = [t | {"transaction_id": f"t-{n}"} for n, t in enumerate(transactions(6 * ROWS_PER_PART))]
    failed_at = f"t-{2 * ROWS_PER_PART}"

    def write(original, records):
        if failed_at in {record.transaction_id for record in records}:
            raise PredictionLogError("for once")
        return original(records)

    reply = answered(tmp_path, drawn, write)
    assert reply.status == 200
    found = json.loads(reply.body)
    whole = len(found["predictions"])
    assert 0 < whole <= 2 * ROWS_PER_PART
    assert [a["transaction_id"] for a in found["predictions"]] == [f"t-{n}" for n in range(whole)]
    assert [e["row"] for e in found["errors"]] == [*range(whole, len(drawn))]


def test_what_is_logged_of_a_batch_that_is_given_up_is_counted(tmp_path, make_bundle, transactions):
    make_bundle(tmp_path / "06_models" / "champion")
    drawn = transactions(10 * ROWS_PER_PART)
    logged, counted = [], []

    async def main():
        runtime = Runtime(ServingSettings(root=tmp_path, mlflow_tracking_uri=str(tmp_path / "none")))
        await runtime.start()
        models, commits = runtime.models.roles, runtime.log.commits
        original = commits.write
        commits.write = lambda records: logged.extend(records) or original(records)
        pipeline = BatchPipeline(Judge(0.0), runtime.predictor.shadow, counted.extend)
        source = JsonSource(
            io.BytesIO(json.dumps({"transactions": drawn}).encode()), models[0].requests, 10**6
        )
        source.check()
        answers = pipeline.answer(source.parts(), Serving(models, models[0], commits), None)
        await asyncio.to_thread(next, answers)
        await asyncio.to_thread(answers.close)
        pipeline.close()
        await runtime.stop()

    asyncio.run(main())
    assert 0 < len(counted) < len(drawn)
    assert counted == logged


def test_a_defect_is_answered_in_json_and_takes_no_other_batch_along(tmp_path, make_bundle, transactions):
    make_bundle(tmp_path / "06_models" / "champion")

    def write(original, records):
        raise KeyError("a defect")

    reply = answered(tmp_path, transactions(3), write)
    assert reply.status == 500
    assert "log says why" in json.loads(reply.body)["detail"]
