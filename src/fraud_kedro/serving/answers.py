"""What the service answers, in bytes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from fraud_kedro.prediction_log import PredictionRecord
from fraud_kedro.serving.requests import TRANSACTION_ID, FieldError


class Reply(NamedTuple):
    """An HTTP answer with a JSON body."""

    status: int
    body: bytes
    retry_after: int | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Answer(msgspec.Struct, gc=False):
    """The answer to one transaction; the log holds the same."""

    transaction_id: str
    prediction: int
    probability: float
    decision: str
    model_version: str
    timestamp: str


class RowError(msgspec.Struct, gc=False):
    """Why one transaction of a batch has no answer."""

    row: int
    transaction_id: str | None
    detail: list[FieldError]


encode = msgspec.json.Encoder().encode


def answer(record: PredictionRecord) -> Answer:
    """Make the answer to a transaction from its row in the log."""
    return Answer(
        transaction_id=record.transaction_id,
        prediction=record.prediction,
        probability=record.probability,
        decision=record.decision,
        model_version=record.model_version,
        timestamp=timestamp_text(record.timestamp),
    )


def timestamp_text(moment: datetime) -> str:
    """Write a moment in UTC as answers have it."""
    return f"{moment.isoformat(timespec='microseconds')[:-6]}Z"


def refusal(
    status: int,
    detail: Any,
    *,
    retry_after: int | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Reply:
    """Make an answer that says what is wrong, in the form FastAPI gives its own."""
    return Reply(status, encode({"detail": detail}), retry_after, headers)


def conflict(*where: str | int) -> FieldError:
    """Say that a transaction's id has been used for another one."""
    return FieldError(
        type="conflict",
        loc=(*where, TRANSACTION_ID),
        msg="was answered before for a transaction with other values; give each transaction an id of its own",
    )
