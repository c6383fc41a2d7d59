"""Request in, answer out: check, score, decide, log, answer. Every door of the service leads here."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from time import perf_counter

from prometheus_client import Counter

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import PredictionRecord
from fraud_kedro.serving.answers import Reply, answer, conflict, encode, refusal
from fraud_kedro.serving.batch_service import BatchService
from fraud_kedro.serving.explaining import Explaining, wanted_reasons
from fraud_kedro.serving.failures import cause
from fraud_kedro.serving.judging import Judge, Serving
from fraud_kedro.serving.log_gate import LogGate
from fraud_kedro.serving.metrics import (
    FAILURES,
    PREDICTIONS,
    PROBABILITY,
    REQUEST_SECONDS,
    observe_all,
)
from fraud_kedro.serving.model_store import ModelStore
from fraud_kedro.serving.requests import InvalidRequestError
from fraud_kedro.serving.settings import ServingSettings
from fraud_kedro.serving.shadow import Shadow, Shadowed
from fraud_kedro.serving.turns import Turns

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
        self._models = models
        self._log = log
        judge = Judge(settings.challenger_share)
        self._turns = Turns(judge)
        self._explaining = Explaining()
        self._seconds = REQUEST_SECONDS.labels("/predict", "200")
        self._decisions: dict[tuple[str, str], Counter] = {}
        self.shadow = Shadow(log, settings.shadow_waiting_limit)
        self.batches = BatchService(
            settings,
            models,
            log,
            judge=judge,
            shadow=self.shadow,
            count=self._count_all,
            refused=self._refused,
            unlogged=self._unlogged,
        )

    async def predict(self, body: bytes, request_id: str | None = None, query: bytes = b"") -> Reply:
        """Answer one transaction; the answer is returned once its log row is committed.

        Parameters
        ----------
        body : bytes
            A flat JSON object of the features.
        request_id : str, optional
            Kept with the log row.
        query : bytes
            The query string: ``explain=true&reasons=5``.

        Returns
        -------
        Reply
            200 with the answer, 409, 422 or 503 with the reason.
        """
        start = perf_counter()
        try:
            reply = await self._predict(body, request_id, wanted_reasons(query) if query else 0)
        except InvalidRequestError as error:
            reply = refusal(422, error.errors)
        seconds = (
            self._seconds if reply.status == 200 else REQUEST_SECONDS.labels("/predict", str(reply.status))
        )
        seconds.observe(perf_counter() - start)
        return reply

    async def _predict(self, body: bytes, request_id: str | None, reasons: int) -> Reply:
        roles, commits = self._models.roles, self._log.commits
        champion = roles.champion
        if champion is None or commits is None:
            return self._refused()
        transaction = champion.requests.decode(body)
        turn = self._turns.add(Serving(roles, champion, commits), transaction, request_id)
        try:
            stored = await turn.stored
        except PredictionLogError as error:
            return self._unlogged(error)
        if stored is None:
            return refusal(409, [conflict("body")])
        if turn.record is not None and stored.timestamp == turn.record.timestamp:
            self._count(turn.record)
            if roles.shadow is not None:
                self.shadow.offer(roles.shadow, [Shadowed(transaction.values, turn.record)])
        if reasons:
            by = roles.named(stored.model_version)
            return Reply(200, encode(await self._explaining.explain(by, transaction.values, stored, reasons)))
        return Reply(200, encode(answer(stored)))

    def unready(self) -> Reply:
        """Say what is missing, or what is wrong with the log."""
        problems = [self._models.problem if self._models.current is None else None, self._log.problem]
        return refusal(503, " ".join(p for p in problems if p), retry_after=RETRY_SECONDS)

    def close(self) -> None:
        """Finish the parts of batches and the explanations that are under way."""
        self.batches.close()
        self._explaining.close()
        self.shadow.close()

    def _refused(self) -> Reply:
        FAILURES.labels("no_model" if self._models.current is None else "log_closed").inc()
        return self.unready()

    def _unlogged(self, error: PredictionLogError) -> Reply:
        FAILURES.labels(cause(error)).inc()
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
