"""Late labels: ``POST /feedback``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy.engine import Engine

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import Label, write_labels
from fraud_kedro.prediction_log.tables import MAX_ID_LENGTH
from fraud_kedro.schema import with_offset
from fraud_kedro.serving.answers import Reply, encode, refusal
from fraud_kedro.serving.log_gate import LogGate
from fraud_kedro.serving.metrics import LABELS, REQUEST_SECONDS
from fraud_kedro.serving.requests import TIMESTAMP_EXAMPLE, FieldError, is_id
from fraud_kedro.serving.settings import ServingSettings

_RETRY_SECONDS = 5
_SHOWN_ERRORS = 100

# A label of the future would outweigh every correction until then; clocks may differ by this.
_AHEAD = timedelta(minutes=5)

_WHERE = ("body", "labels")


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    labels: list[msgspec.Raw]


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    transaction_id: str
    label: int
    labelled_at: datetime | UnsetType | None = UNSET


class FeedbackTaker:
    """Checks labels and puts them into the log.

    Parameters
    ----------
    settings : ServingSettings
    log : LogGate
    """

    def __init__(self, settings: ServingSettings, log: LogGate) -> None:
        self._limit = settings.max_batch_rows
        self._log = log
        self._decode_body = msgspec.json.Decoder(_Body).decode
        self._decode_row = msgspec.json.Decoder(_Row).decode
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feedback")

    async def take(self, body: bytes, request_id: str | None = None) -> Reply:
        """Take labels, all or none.

        Parameters
        ----------
        body : bytes
            ``{"labels": [{"transaction_id": ..., "label": 0 or 1}]}``; ``labelled_at``
            may say when the label was known.
        request_id : str, optional
            Kept with the labels.

        Returns
        -------
        Reply
            200 with what was made of them; 413, 422 or 503 with the reason.
        """
        start = perf_counter()
        reply = await asyncio.get_running_loop().run_in_executor(self._executor, self._take, body, request_id)
        REQUEST_SECONDS.labels("/feedback", str(reply.status)).observe(perf_counter() - start)
        return reply

    def close(self) -> None:
        """Finish what is under way."""
        self._executor.shutdown()

    def _take(self, body: bytes, request_id: str | None) -> Reply:
        engine = self._log.engine
        if engine is None:
            return refusal(503, self._log.problem, retry_after=_RETRY_SECONDS)
        try:
            rows = self._decode_body(body).labels
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            reason = str(error) or type(error).__name__
            message = f'should be {{"labels": [{{"transaction_id": ..., "label": 0 or 1}}, ...]}}: {reason}'
            return refusal(422, [FieldError("json_invalid", ("body",), message)])
        if not 1 <= len(rows) <= self._limit:
            message = f"should have 1 to {self._limit} labels, not {len(rows)}"
            return refusal(422 if not rows else 413, [FieldError("list_length", _WHERE, message)])
        now = datetime.now(UTC)
        labels, errors = self._decode_rows(rows, now)
        errors += _contradictions(labels)
        if errors:
            return refusal(422, errors[:_SHOWN_ERRORS])
        return self._write(engine, labels, now, request_id)

    def _write(
        self, engine: Engine, labels: Sequence[tuple[int, Label]], now: datetime, request_id: str | None
    ) -> Reply:
        each_once = [*dict.fromkeys(label for _, label in labels)]
        try:
            written = write_labels(engine, each_once, received_at=now, request_id=request_id)
        except PredictionLogError:
            return refusal(
                503,
                "The labels could not be stored. Send the request again later: what was stored of it is not "
                "stored twice.",
                retry_after=_RETRY_SECONDS,
            )
        # The same label twice in a request is held already the second time.
        written.unchanged += len(labels) - len(each_once)
        LABELS.labels("stored").inc(written.stored)
        LABELS.labels("unchanged").inc(written.unchanged)
        return Reply(200, encode({"received": len(labels), **vars(written)}))

    def _decode_rows(
        self, rows: Sequence[msgspec.Raw], now: datetime
    ) -> tuple[list[tuple[int, Label]], list[FieldError]]:
        labels, errors = [], list[FieldError]()
        for number, raw in enumerate(rows):
            if len(errors) >= _SHOWN_ERRORS:
                break
            try:
                row = self._decode_row(raw)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                errors.append(_unreadable(number, error))
                continue
            found = _problems(number, row, now)
            errors += found
            if not found:
                moment = with_offset(row.labelled_at).astimezone(UTC) if row.labelled_at else None
                labels.append((number, Label(row.transaction_id, row.label, moment)))
        return labels, errors


def _problems(number: int, row: _Row, now: datetime) -> list[FieldError]:
    def problem(field: str, kind: str, message: str) -> FieldError:
        return FieldError(kind, (*_WHERE, number, field), message)

    errors = []
    if not is_id(row.transaction_id):
        message = f"should be 1 to {MAX_ID_LENGTH} printable characters"
        errors.append(problem("transaction_id", "string_id", message))
    if row.label not in (0, 1):
        errors.append(problem("label", "literal_error", "should be 0 (legitimate) or 1 (fraud)"))
    if row.labelled_at:
        try:
            ahead = with_offset(row.labelled_at).astimezone(UTC) > now + _AHEAD
        except OverflowError:
            ahead = True
        if ahead:
            errors.append(problem("labelled_at", "datetime_past", "should not lie in the future"))
    return errors


def _unreadable(number: int, error: Exception) -> FieldError:
    # msgspec's words name the field, and never repeat a value of it.
    text = str(error)
    for field, message in (
        ("label", "should be 0 (legitimate) or 1 (fraud)"),
        ("labelled_at", f"should be a timestamp, such as {TIMESTAMP_EXAMPLE!r}"),
        ("transaction_id", "should be a string"),
    ):
        if text.endswith(f"`$.{field}`") or f"required field `{field}`" in text:
            message = "is required" if "required" in text else message
            return FieldError("value_error", (*_WHERE, number, field), message)
    return FieldError("json_invalid", (*_WHERE, number), text)


def _contradictions(labels: Sequence[tuple[int, Label]]) -> list[FieldError]:
    """Name the rows whose transaction has another label, or another moment, in another row."""
    rows: dict[str, list[tuple[int, Label]]] = {}
    for number, label in labels:
        rows.setdefault(label.transaction_id, []).append((number, label))
    errors = []
    for given in rows.values():
        if len({label[1:] for _, label in given}) > 1:
            numbers: list[Any] = [number for number, _ in given]
            shown = ", ".join(map(str, numbers[:10]))
            message = f"has different labels in the rows {shown}; give each transaction one"
            errors.append(FieldError("conflict", (*_WHERE, numbers[0], "transaction_id"), message))
    return errors
