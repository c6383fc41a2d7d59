"""Request in, answer out: check, score, decide, log, answer. Every door of the service leads here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from time import perf_counter

import msgspec
import uuid_utils
from prometheus_client import Counter

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import GroupCommit, PredictionRecord
from fraud_kedro.prediction_log.database import LogUnavailableError
from fraud_kedro.prediction_log.group_commit import LogFullError
from fraud_kedro.prediction_log.spill import SpillError
from fraud_kedro.prediction_log.writer import LogBusyError
from fraud_kedro.serving.answers import (
    Answer,
    BatchAnswer,
    Reply,
    RowError,
    answer,
    conflict,
    encode,
    refusal,
)
from fraud_kedro.serving.log_gate import LogGate
from fraud_kedro.serving.metrics import (
    FAILURES,
    PREDICTIONS,
    PROBABILITY,
    REQUEST_SECONDS,
)
from fraud_kedro.serving.model_store import ModelStore, ServedModel
from fraud_kedro.serving.requests import FieldError, InvalidRequestError, Transaction
from fraud_kedro.serving.settings import ServingSettings

RETRY_SECONDS = 5

# A transaction of the log with this many rows holds up other requests for a few milliseconds.
_ROWS_PER_COMMIT = 500


class _BatchBody(msgspec.Struct, forbid_unknown_fields=True):
    transactions: list[msgspec.Raw]


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
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")
        self._decode_batch = msgspec.json.Decoder(_BatchBody).decode
        self._seconds = REQUEST_SECONDS.labels("/predict", "200")
        self._decisions: dict[tuple[str, str], Counter] = {}

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
            FAILURES.labels("no_model" if model is None else "log_closed").inc()
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
        except PredictionLogError as error:
            return self._unlogged(error)
        if stored is None:
            return refusal(409, [conflict("body")])
        if stored.timestamp == record.timestamp:
            self._count(record)
        return Reply(200, encode(answer(stored)))

    async def predict_batch(self, body: bytes, request_id: str | None = None) -> Reply:
        """Answer many transactions; those that cannot be scored do not hold up the others.

        Parameters
        ----------
        body : bytes
            ``{"transactions": [...]}``.
        request_id : str, optional
            Kept with the log rows.

        Returns
        -------
        Reply
            200 if a transaction has been scored, else 422; 503 with the reason.
        """
        start = perf_counter()
        reply = await asyncio.get_running_loop().run_in_executor(
            self._executor, self._predict_batch, body, request_id
        )
        REQUEST_SECONDS.labels("/predict/batch", str(reply.status)).observe(perf_counter() - start)
        return reply

    def _predict_batch(self, body: bytes, request_id: str | None) -> Reply:
        model, commits = self._models.current, self._log.commits
        if model is None or commits is None:
            FAILURES.labels("no_model" if model is None else "log_closed").inc()
            return self.unready()
        try:
            rows = self._decode_batch(body).transactions
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            # Of the others the text may show a value.
            reason = str(error) if isinstance(error, msgspec.MsgspecError) else type(error).__name__
            message = f'should be {{"transactions": [{{...}}, ...]}}: {reason}'
            return refusal(422, [FieldError("json_invalid", ("body",), message)])
        limit = self._settings.max_batch_rows
        if not 1 <= len(rows) <= limit:
            message = f"should have 1 to {limit} transactions, not {len(rows)}"
            return refusal(
                422 if not rows else 413, [FieldError("list_length", ("body", "transactions"), message)]
            )
        good, errors = _decode_rows(model, rows)
        try:
            answers, conflicts = self._score(model, commits, good, request_id)
        except PredictionLogError as error:
            return self._unlogged(error)
        errors = sorted([*errors, *conflicts], key=lambda e: e.row)
        return Reply(200 if answers else 422, encode(BatchAnswer(answers, errors)))

    def _score(
        self,
        model: ServedModel,
        commits: GroupCommit,
        good: Sequence[tuple[int, Transaction]],
        request_id: str | None,
    ) -> tuple[list[Answer], list[RowError]]:
        answers: list[Answer] = []
        conflicts: list[RowError] = []
        scorer = model.scorer
        for first in range(0, len(good), _ROWS_PER_COMMIT):
            part = good[first : first + _ROWS_PER_COMMIT]
            arrived = datetime.now(UTC)
            probabilities = scorer.probabilities(scorer.matrix([t.values for _, t in part])).tolist()
            records = [
                _record(model, transaction, probability, arrived, request_id)
                for (_, transaction), probability in zip(part, probabilities, strict=True)
            ]
            for (row, _), record, stored in zip(part, records, commits.write(records), strict=True):
                if stored is None:
                    conflicts.append(
                        RowError(row, record.transaction_id, [conflict("body", "transactions", row)])
                    )
                    continue
                if stored.timestamp == record.timestamp:
                    self._count(record)
                answers.append(answer(stored))
        return answers, conflicts

    def unready(self) -> Reply:
        """Say what is missing, or what is wrong with the log."""
        problems = [self._models.problem if self._models.current is None else None, self._log.problem]
        return refusal(503, " ".join(p for p in problems if p), retry_after=RETRY_SECONDS)

    def close(self) -> None:
        """Finish the batch that is being answered."""
        self._executor.shutdown()

    def _unlogged(self, error: PredictionLogError) -> Reply:
        FAILURES.labels(_cause(error)).inc()
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


def _cause(error: PredictionLogError) -> str:
    match error:
        case LogFullError():
            return "log_queue_full"
        case SpillError():
            return "spill"
        case LogBusyError():
            return "log_busy"
        case LogUnavailableError():
            return "log_unavailable"
        case _:
            return "log_refused"


def _record(
    model: ServedModel,
    transaction: Transaction,
    probability: float,
    arrived: datetime,
    request_id: str | None,
) -> PredictionRecord:
    scorer = model.scorer
    return PredictionRecord(
        transaction_id=transaction.transaction_id or str(uuid_utils.uuid7()),
        role="champion",
        timestamp=arrived,
        event_time=transaction.event_time,
        model_version=model.name,
        probability=probability,
        prediction=scorer.prediction(probability),
        decision=scorer.decision(probability),
        policy=scorer.thresholds.policy,
        request_hash=transaction.request_hash,
        request_id=request_id,
        features=transaction.features,
    )


def _decode_rows(
    model: ServedModel, rows: Sequence[msgspec.Raw]
) -> tuple[list[tuple[int, Transaction]], list[RowError]]:
    good: list[tuple[int, Transaction]] = []
    errors: list[RowError] = []
    for row, raw in enumerate(rows):
        try:
            good.append((row, model.requests.decode(bytes(raw), where=("body", "transactions", row))))
        except InvalidRequestError as error:
            errors.append(RowError(row, None, error.errors))
    return good, errors
