"""Reasons beside an answer, where a request asks for them: ``?explain=true``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs

import msgspec

from fraud_kedro.errors import ExplanationError
from fraud_kedro.prediction_log import PredictionRecord
from fraud_kedro.serving.answers import Answer, answer
from fraud_kedro.serving.model_store import Roles, ServedModel
from fraud_kedro.serving.requests import FieldError, InvalidRequestError, Transaction

logger = logging.getLogger(__name__)

DEFAULT_REASONS = 5
MOST_REASONS = 20
MOST_ROWS = 1000

# One takes up to 10 ms: the last of so many waits less than a second.
_MOST_WAITING = 64
_TRUE, _FALSE = frozenset({"true", "1"}), frozenset({"false", "0"})


class ReasonGiven(msgspec.Struct, gc=False):
    """One feature's part in a score, in log-odds."""

    feature: str
    value: float
    contribution: float


class ExplainedAnswer(Answer, gc=False):
    """An answer with its reasons, or with why there are none.

    ``base``, the contributions of ``reasons`` and ``rest`` add up to the log-odds of
    the probability.
    """

    reasons: list[ReasonGiven] | None
    base: float | None
    rest: float | None
    reasons_problem: str | None


def wanted_reasons(query: bytes) -> int:
    """Read how many reasons a query string asks for, 0 for none.

    Raises
    ------
    InvalidRequestError
        If ``explain`` is no boolean, or ``reasons`` no number from 1 to 20.
    """
    given = {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}
    explain, count = given.get("explain", "false").lower(), given.get("reasons", str(DEFAULT_REASONS))
    errors = []
    if explain not in _TRUE | _FALSE:
        errors.append(FieldError("bool_parsing", ("query", "explain"), "should be true or false"))
    # More digits than two are too many whatever they say.
    if not (count.isascii() and count.isdigit() and len(count) <= 2 and 1 <= int(count) <= MOST_REASONS):
        message = f"should be a whole number from 1 to {MOST_REASONS}"
        errors.append(FieldError("int_range", ("query", "reasons"), message))
    if errors:
        raise InvalidRequestError(errors)
    return int(count) if explain in _TRUE else 0


class Explaining:
    """Explains answers in a thread of its own: one takes longer than scoring many transactions."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="explain")
        self._waiting = 0

    async def explain(
        self, model: ServedModel | None, values: Sequence[float], stored: PredictionRecord, count: int
    ) -> ExplainedAnswer:
        """Give an answer with its reasons; there is always an answer.

        Parameters
        ----------
        model : ServedModel or None
            The one that scored; None if it serves no longer.
        values : sequence of float of length n_features
            Raw features in the schema's order.
        stored : PredictionRecord
            What is answered.
        count : int
            How many reasons at most.
        """
        if self._waiting >= _MOST_WAITING:
            return _unexplained(stored, "Too many explanations are under way. Ask again later.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._executor, explained, model, values, stored, count
            )
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Finish what is under way."""
        self._executor.shutdown()


def explained_batch(
    roles: Roles, transactions: Sequence[Transaction], stored: Sequence[PredictionRecord], count: int
) -> list[ExplainedAnswer]:
    """Give the answers to some transactions with their reasons, in this thread."""
    return [
        explained(roles.named(record.model_version), transaction.values, record, count)
        for transaction, record in zip(transactions, stored, strict=True)
    ]


def explained(
    model: ServedModel | None, values: Sequence[float], stored: PredictionRecord, count: int
) -> ExplainedAnswer:
    """Give an answer with its reasons, in this thread."""
    if model is None:
        return _unexplained(stored, f"{stored.model_version}, which gave this answer, serves no longer.")
    if model.explainer.problem is not None:
        return _unexplained(stored, model.explainer.problem)
    try:
        explanation = model.explainer.explain(model.scorer.few([values]), stored.probability)
    except ExplanationError as error:
        return _unexplained(stored, f"This score cannot be explained: {error}.")
    except Exception:
        # The answer is committed; a defect here must not take it from the client.
        logger.exception("A score could not be explained.")
        return _unexplained(stored, "The explanation failed. The service's log says why.")
    top = explanation.top_reasons(count)
    return _with_reasons(
        stored,
        reasons=[ReasonGiven(reason.feature, reason.value, reason.contribution) for reason in top],
        base=explanation.base,
        rest=explanation.log_odds - explanation.base - sum(reason.contribution for reason in top),
        reasons_problem=None,
    )


def _unexplained(stored: PredictionRecord, problem: str) -> ExplainedAnswer:
    return _with_reasons(stored, reasons=None, base=None, rest=None, reasons_problem=problem)


def _with_reasons(stored: PredictionRecord, **reasons: Any) -> ExplainedAnswer:
    return ExplainedAnswer(**msgspec.structs.asdict(answer(stored)), **reasons)
