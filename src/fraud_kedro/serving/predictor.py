"""Request in, answer out: check, score, decide, log, answer. Every door of the service leads here."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from datetime import UTC, datetime
from time import perf_counter

import uuid_utils
from prometheus_client import Counter

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import PredictionRecord
from fraud_kedro.serving.answers import Reply, answer, conflict, encode, refusal
from fraud_kedro.serving.batch_service import BatchService
from fraud_kedro.serving.log_gate import LogGate
from fraud_kedro.serving.metrics import (
    LOG_FAILURES,
    PREDICTIONS,
    PROBABILITY,
    REQUEST_SECONDS,
    observe_all,
)
from fraud_kedro.serving.model_store import ModelStore, ServedModel
from fraud_kedro.serving.requests import InvalidRequestError, Transaction
from fraud_kedro.serving.settings import ServingSettings

RETRY_SECONDS = 5


class Predictor:
    """Answers transactions with the model and the log there are at the moment.

    Parameters
    ----------
    settings : ServingSettings
    models : ModelStore
    log : LogGate
    """

    def __init__(self, settings: ServingSettings, models: ModelStore, log: LogGate) -> None:
        self._settings = settings
        self._models = models
        self._log = log
        self._seconds = REQUEST_SECONDS.labels("/predict", "200")
        self._decisions: dict[tuple[str, str], Counter] = {}
        self.batches = BatchService(
            settings,
            models,
            log,
            make_record=_record,
            count=self._count_all,
            unready=self.unready,
            unlogged=self._unlogged,
        )

    async def predict(self, body: bytes, request_id: str | None = None) -> Reply:
        """Answer one transaction; the answer is returned once its log row is committed.

        Parameters
        ----------
        body : bytes
            A flat JSON object of the features.
        request_id : str, optional
            Kept with the log row.

        Returns
        -------
        Reply
            200 with the answer, 409, 422 or 503 with the reason.
        """
        start = perf_counter()
        reply = await self._predict(body, request_id)
        seconds = (
            self._seconds if reply.status == 200 else REQUEST_SECONDS.labels("/predict", str(reply.status))
        )
        seconds.observe(perf_counter() - start)
        return reply

    async def _predict(self, body: bytes, request_id: str | None) -> Reply:
        model, commits = self._models.current, self._log.commits
        if model is None or commits is None:
            return self.unready()
        try:
            transaction = model.requests.decode(body)
        except InvalidRequestError as error:
            return refusal(422, error.errors)
        scorer = model.scorer
        probability = float(scorer.probabilities(scorer.row(transaction.values))[0])
        record = _record(model, transaction, probability, datetime.now(UTC), request_id)
        try:
            stored = await commits.add(record)
        except PredictionLogError:
            return self._unlogged()
        if stored is None:
            return refusal(409, [conflict("body")])
        if stored.timestamp == record.timestamp:
            self._count(record)
        return Reply(200, encode(answer(stored)))

    def unready(self) -> Reply:
        """Say what is missing, or what is wrong with the log."""
        problems = [self._models.problem if self._models.current is None else None, self._log.problem]
        return refusal(503, " ".join(p for p in problems if p), retry_after=RETRY_SECONDS)

    def close(self) -> None:
        """Finish the parts of batches that are being answered."""
        self.batches.close()

    def _unlogged(self) -> Reply:
        LOG_FAILURES.inc()
        return refusal(
            503,
            "The prediction could not be logged, so it is not given. Send the request again later; with its "
            "own transaction_id it is scored once however often it is sent.",
            retry_after=RETRY_SECONDS,
        )

    def _count(self, record: PredictionRecord) -> None:
        key = (record.decision, record.model_version)
        counter = self._decisions.get(key)
        if counter is None:
            counter = self._decisions[key] = PREDICTIONS.labels(*key)
        counter.inc()
        PROBABILITY.observe(record.probability)

    def _count_all(self, records: Sequence[PredictionRecord]) -> None:
        for key, number in Tally((r.decision, r.model_version) for r in records).items():
            PREDICTIONS.labels(*key).inc(number)
        observe_all(PROBABILITY, [r.probability for r in records])


def _record(
    model: ServedModel,
    transaction: Transaction,
    probability: float,
    arrived: datetime,
    request_id: str | None,
) -> PredictionRecord:
    scorer = model.scorer
    # By position, which takes half the time; in the order of the columns.
    return PredictionRecord(
        transaction.transaction_id or str(uuid_utils.uuid7()),
        "champion",
        arrived,
        transaction.event_time,
        model.name,
        probability,
        scorer.prediction(probability),
        scorer.decision(probability),
        scorer.thresholds.policy,
        transaction.request_hash,
        request_id,
        transaction.features,
    )
