"""Scores of the shadow: logged beside the answers, never in their way."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import PredictionRecord
from fraud_kedro.serving.log_gate import LogGate
from fraud_kedro.serving.metrics import SHADOW
from fraud_kedro.serving.model_store import ServedModel

logger = logging.getLogger(__name__)

# Answers wait for the log while so many rows are written: about a millisecond.
_ROWS_AT_ONCE = 200
# What comes within this time shares a transaction.
_GATHER_SECONDS = 0.02
# So many answers waiting for the log are load enough to go without the shadow.
_BUSY_LOG = 200


class Shadowed(NamedTuple):
    """An answered transaction that the shadow is to score.

    Attributes
    ----------
    values : tuple of float
        Raw features in the schema's order.
    answered : PredictionRecord
        The answer's row in the log.
    """

    values: tuple[float, ...]
    answered: PredictionRecord


class Shadow:
    """A queue of answered transactions, and the thread that scores them.

    Parameters
    ----------
    log : LogGate
    limit : int
        How many transactions may wait; others are shed.
    """

    def __init__(self, log: LogGate, limit: int) -> None:
        self._log = log
        self._limit = limit
        self._waiting: deque[tuple[ServedModel, Shadowed]] = deque()
        self._wanted = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._complained: set[str] = set()
        self._shed, self._logged, self._failed = (SHADOW.labels(o) for o in ("shed", "logged", "failed"))

    @property
    def waiting(self) -> int:
        """The number of transactions that wait."""
        return len(self._waiting)

    def offer(self, model: ServedModel, answered: Sequence[Shadowed]) -> None:
        """Have transactions scored if there is time for it; returns at once.

        Parameters
        ----------
        model : ServedModel
            The shadow.
        answered : sequence of Shadowed
        """
        commits = self._log.commits
        with self._wanted:
            room = 0 if self._closing or commits is None else self._limit - len(self._waiting)
            if commits is not None and commits.waiting > _BUSY_LOG:
                room = 0
            taken = answered[: max(room, 0)]
            self._waiting.extend((model, one) for one in taken)
            if taken and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
                self._thread.start()
            self._wanted.notify()
        if len(taken) < len(answered):
            self._shed.inc(len(answered) - len(taken))

    def close(self) -> None:
        """Score what waits, and end the thread."""
        with self._wanted:
            self._closing = True
            self._wanted.notify()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._wanted:
                self._wanted.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
            if len(self._waiting) < _ROWS_AT_ONCE and not self._closing:
                time.sleep(_GATHER_SECONDS)
            model, part = self._next()
            try:
                self._score(model, part)
            except Exception as error:
                # Whatever is wrong with the shadow is no matter of the answers: counted, and said once.
                self._failed.inc(len(part))
                if model.name not in self._complained:
                    self._complained.add(model.name)
                    known = isinstance(error, PredictionLogError)
                    logger.error(
                        "The shadow %s fails: %s",
                        model.name,
                        error if known else "",
                        exc_info=None if known else error,
                    )
                if self._closing:
                    # A log that fails would hold up the service's end.
                    return

    def _next(self) -> tuple[ServedModel, list[Shadowed]]:
        """Take the next transactions that are offered to one model."""
        with self._wanted:
            model = self._waiting[0][0]
            part = list[Shadowed]()
            while self._waiting and self._waiting[0][0] is model and len(part) < _ROWS_AT_ONCE:
                part.append(self._waiting.popleft()[1])
        return model, part

    def _score(self, model: ServedModel, part: Sequence[Shadowed]) -> None:
        commits = self._log.commits
        if commits is None:
            raise PredictionLogError("the prediction log is closed.")
        matrix = model.scorer.matrix([one.values for one in part])
        probabilities = model.scorer.probabilities(matrix).tolist()
        commits.write(
            [
                _record(model, one.answered, probability)
                for one, probability in zip(part, probabilities, strict=True)
            ]
        )
        self._logged.inc(len(part))


def _record(model: ServedModel, answered: PredictionRecord, probability: float) -> PredictionRecord:
    return PredictionRecord(
        answered.transaction_id,
        "shadow",
        answered.timestamp,
        answered.event_time,
        *model.judgement(probability),
        answered.request_hash,
        answered.request_id,
        answered.features,
    )
