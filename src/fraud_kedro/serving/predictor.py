"""Request in, answer out: check, score, decide, log, answer. Every door of the service leads here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from time import perf_counter

import msgspec
import numpy as np
import uuid_utils
from prometheus_client import Counter

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import GroupCommit, PredictionRecord
from fraud_kedro.prediction_log.database import LogUnavailableError
from fraud_kedro.prediction_log.group_commit import LogFullError
from fraud_kedro.prediction_log.spill import SpillError
from fraud_kedro.prediction_log.tables import Role
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
from fraud_kedro.serving.explaining import MOST_ROWS, Explaining, explained, wanted_reasons
from fraud_kedro.serving.log_gate import LogGate
from fraud_kedro.serving.metrics import (
    CHALLENGER_FAILURES,
    FAILURES,
    PREDICTIONS,
    PROBABILITY,
    REQUEST_SECONDS,
)
from fraud_kedro.serving.model_store import ModelStore, Roles, ServedModel
from fraud_kedro.serving.requests import FieldError, InvalidRequestError, Transaction
from fraud_kedro.serving.routing import is_challenged
from fraud_kedro.serving.settings import ServingSettings
from fraud_kedro.serving.shadow import Shadow, Shadowed

logger = logging.getLogger(__name__)

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
        self._explaining = Explaining()
        self._share = settings.challenger_share
        self._complained: set[str] = set()
        self.shadow = Shadow(log, settings.shadow_waiting_limit)
        self._decode_batch = msgspec.json.Decoder(_BatchBody).decode
        self._seconds = REQUEST_SECONDS.labels("/predict", "200")
        self._decisions: dict[tuple[str, str], Counter] = {}

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
        model = roles.champion
        if model is None or commits is None:
            FAILURES.labels("no_model" if model is None else "log_closed").inc()
            return self.unready()
        transaction = model.requests.decode(body)
        arrived = datetime.now(UTC)
        record = None
        if roles.challenger is not None:
            transaction = _with_id(transaction)
            if self._is_challenged(transaction):
                record = self._challenged(roles.challenger, transaction, arrived, request_id)
        if record is None:
            scorer = model.scorer
            probability = float(scorer.probabilities(scorer.row(transaction.values))[0])
            record = _record(model, transaction, probability, arrived, request_id)
        try:
            stored = await commits.add(record)
        except PredictionLogError as error:
            return self._unlogged(error)
        if stored is None:
            return refusal(409, [conflict("body")])
        if stored.timestamp == record.timestamp:
            self._count(record)
            if roles.shadow is not None:
                self.shadow.offer(roles.shadow, [Shadowed(transaction.values, record)])
        if reasons:
            by = roles.named(stored.model_version)
            return Reply(200, encode(await self._explaining.explain(by, transaction.values, stored, reasons)))
        return Reply(200, encode(answer(stored)))

    async def predict_batch(self, body: bytes, request_id: str | None = None, query: bytes = b"") -> Reply:
        """Answer many transactions; those that cannot be scored do not hold up the others.

        Parameters
        ----------
        body : bytes
            ``{"transactions": [...]}``.
        request_id : str, optional
            Kept with the log rows.
        query : bytes
            The query string, as for one transaction.

        Returns
        -------
        Reply
            200 if a transaction has been scored, else 422; 503 with the reason.
        """
        start = perf_counter()
        try:
            reply = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._predict_batch, body, request_id, wanted_reasons(query)
            )
        except InvalidRequestError as error:
            reply = refusal(422, error.errors)
        REQUEST_SECONDS.labels("/predict/batch", str(reply.status)).observe(perf_counter() - start)
        return reply

    def _predict_batch(self, body: bytes, request_id: str | None, reasons: int) -> Reply:
        roles, commits = self._models.roles, self._log.commits
        model = roles.champion
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
        if reasons:
            limit = min(limit, MOST_ROWS)
        if not 1 <= len(rows) <= limit:
            message = f"should have 1 to {limit} transactions, not {len(rows)}"
            return refusal(
                422 if not rows else 413, [FieldError("list_length", ("body", "transactions"), message)]
            )
        good, errors = _decode_rows(model, rows)
        try:
            answers, conflicts = self._score(roles, model, commits, good, request_id, reasons)
        except PredictionLogError as error:
            return self._unlogged(error)
        errors = sorted([*errors, *conflicts], key=lambda e: e.row)
        return Reply(200 if answers else 422, encode(BatchAnswer(answers, errors)))

    def _score(
        self,
        roles: Roles,
        champion: ServedModel,
        commits: GroupCommit,
        good: Sequence[tuple[int, Transaction]],
        request_id: str | None,
        reasons: int,
    ) -> tuple[list[Answer], list[RowError]]:
        answers: list[Answer] = []
        conflicts: list[RowError] = []
        for first in range(0, len(good), _ROWS_PER_COMMIT):
            part = good[first : first + _ROWS_PER_COMMIT]
            arrived = datetime.now(UTC)
            records = self._records(roles, champion, [t for _, t in part], arrived, request_id)
            shadowed = []
            for (row, transaction), record, stored in zip(part, records, commits.write(records), strict=True):
                if stored is None:
                    conflicts.append(
                        RowError(row, record.transaction_id, [conflict("body", "transactions", row)])
                    )
                    continue
                if stored.timestamp == record.timestamp:
                    self._count(record)
                    if roles.shadow is not None:
                        shadowed.append(Shadowed(transaction.values, record))
                if reasons:
                    by = roles.named(stored.model_version)
                    answers.append(explained(by, transaction.values, stored, reasons))
                else:
                    answers.append(answer(stored))
            if roles.shadow is not None and shadowed:
                self.shadow.offer(roles.shadow, shadowed)
        return answers, conflicts

    def _records(
        self,
        roles: Roles,
        champion: ServedModel,
        transactions: list[Transaction],
        arrived: datetime,
        request_id: str | None,
    ) -> list[PredictionRecord]:
        found: dict[int, PredictionRecord] = {}
        if roles.challenger is not None:
            transactions = [_with_id(transaction) for transaction in transactions]
            chosen = [i for i, t in enumerate(transactions) if self._is_challenged(t)]
            try:
                share = _scored(
                    roles.challenger, [transactions[i] for i in chosen], arrived, request_id, "challenger"
                )
            except Exception:  # noqa: BLE001 (whatever the challenger does, the champion answers)
                self._challenger_failed(roles.challenger, len(chosen))
            else:
                found = dict(zip(chosen, share, strict=True))
        rest = [i for i in range(len(transactions)) if i not in found]
        found.update(
            zip(rest, _scored(champion, [transactions[i] for i in rest], arrived, request_id), strict=True)
        )
        return [found[i] for i in range(len(transactions))]

    def _is_challenged(self, transaction: Transaction) -> bool:
        return is_challenged(transaction.transaction_id or "", self._share)

    def _challenged(
        self, challenger: ServedModel, transaction: Transaction, arrived: datetime, request_id: str | None
    ) -> PredictionRecord | None:
        """Score by the challenger; None if it fails."""
        try:
            [record] = _scored(challenger, [transaction], arrived, request_id, "challenger")
        except Exception:  # noqa: BLE001 (whatever the challenger does, the champion answers)
            self._challenger_failed(challenger, 1)
            return None
        return record

    def _challenger_failed(self, challenger: ServedModel, transactions: int) -> None:
        CHALLENGER_FAILURES.inc(transactions)
        if challenger.name not in self._complained:
            self._complained.add(challenger.name)
            logger.exception("The challenger %s fails, and the champion answers for it.", challenger.name)

    def unready(self) -> Reply:
        """Say what is missing, or what is wrong with the log."""
        problems = [self._models.problem if self._models.current is None else None, self._log.problem]
        return refusal(503, " ".join(p for p in problems if p), retry_after=RETRY_SECONDS)

    def close(self) -> None:
        """Finish the batch and the explanations that are under way."""
        self._executor.shutdown()
        self._explaining.close()
        self.shadow.close()

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
    role: Role = "champion",
) -> PredictionRecord:
    return PredictionRecord(
        transaction_id=transaction.transaction_id or str(uuid_utils.uuid7()),
        role=role,
        timestamp=arrived,
        event_time=transaction.event_time,
        **model.judgement(probability),
        request_hash=transaction.request_hash,
        request_id=request_id,
        features=transaction.features,
    )


def _with_id(transaction: Transaction) -> Transaction:
    if transaction.transaction_id is not None:
        return transaction
    return transaction._replace(transaction_id=str(uuid_utils.uuid7()))


def _scored(
    model: ServedModel,
    transactions: Sequence[Transaction],
    arrived: datetime,
    request_id: str | None,
    role: Role = "champion",
) -> list[PredictionRecord]:
    if not transactions:
        return []
    scorer = model.scorer
    probabilities = scorer.probabilities(scorer.matrix([t.values for t in transactions]))
    if role == "challenger" and not np.isfinite(probabilities).all():
        # The log takes numbers alone, and would refuse the champion's rows of the same commit.
        raise ValueError("the challenger's probability is no number")
    return [
        _record(model, transaction, probability, arrived, request_id, role)
        for transaction, probability in zip(transactions, probabilities.tolist(), strict=True)
    ]


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
