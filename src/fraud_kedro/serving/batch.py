"""A batch, part by part: score, log, answer, so that no more than a few parts are in memory.

While one part is committed, the next is scored and the one after it is read:
scoring and the database both release Python's lock.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.champion.scorer import Scorer
from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import GroupCommit, PredictionRecord
from fraud_kedro.serving.answers import RowError, conflict
from fraud_kedro.serving.failures import cause
from fraud_kedro.serving.judging import Judge, Serving
from fraud_kedro.serving.metrics import FAILURES
from fraud_kedro.serving.model_store import Roles, ServedModel
from fraud_kedro.serving.requests import FieldError, Transaction
from fraud_kedro.serving.shadow import Shadow, Shadowed

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

#: What the locations of a row's errors start with.
WHERE = ("body", "transactions")

#: Rows of a table that are read, scored and answered together.
ROWS_PER_PART = 2000

# A transaction of the log with this many rows holds up other requests for a few milliseconds.
_ROWS_PER_COMMIT = 500

# Parts that may wait for their scores, and for their commits.
_AHEAD, _BEHIND = 2, 1

# Python lets another thread run after 5 ms, which a single request meets several times.
_SWITCH_SECONDS = 0.0002

_PROGRESS_SECONDS = 5.0
_ROWS_WORTH_A_LINE = 10_000


class BatchError(Exception):
    """A batch that cannot be scored as a whole.

    Attributes
    ----------
    status : int
        Of the answer.
    errors : list of FieldError
    """

    def __init__(self, status: int, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(error.msg for error in errors))
        self.status = status
        self.errors = list(errors)


def broken(kind: str, message: str, *where: str, status: int = 422) -> BatchError:
    """Make the error of a body that cannot be read."""
    return BatchError(status, [FieldError(kind, ("body", *where), message)])


@dataclass(slots=True)
class Part:
    """Some consecutive rows of a batch.

    Attributes
    ----------
    first, count : int
        Which rows of the batch.
    rows : sequence of int
        The valid ones, counted from the part's first.
    values : ndarray of shape (n_valid, n_features), float64
        Their raw features.
    transactions : callable
        Makes the valid rows' transactions, which takes a while.
    errors : list of RowError
        Why the other rows are not valid.
    columns : pyarrow.RecordBatch, optional
        The rows as they came, where the answer repeats them.
    """

    first: int
    count: int
    rows: Sequence[int]
    values: NDArray[np.float64]
    transactions: Callable[[], Sequence[Transaction]]
    errors: list[RowError]
    columns: pa.RecordBatch | None = None


class Answered(NamedTuple):
    """A part with what became of it.

    Attributes
    ----------
    part : Part
    rows : sequence of int
        Rows that were answered, counted from the part's first.
    stored : sequence of PredictionRecord
        What the log holds for each of them.
    transactions : sequence of Transaction
        What was asked for each of them.
    errors : list of RowError
        Why the others were not, in their order.
    """

    part: Part
    rows: Sequence[int]
    stored: Sequence[PredictionRecord]
    transactions: Sequence[Transaction]
    errors: list[RowError]


class Source(Protocol):
    """The rows of a body in one format."""

    def check(self) -> int:
        """Read all of it once and give the number of rows.

        Raises
        ------
        BatchError
            If it cannot be read to its end.
        """

    def parts(self) -> Iterator[Part]:
        """Read it in parts."""


Count = Callable[[Sequence[PredictionRecord]], None]

# What the log holds for each record, or why nothing could be committed.
_Committed = list[PredictionRecord | None] | PredictionLogError
_Committing = tuple[Part, Sequence[Transaction], list[PredictionRecord], Future[_Committed]]


class BatchPipeline:
    """Scores and logs the parts of batches; safe to share between threads.

    Parameters
    ----------
    judge : Judge
    shadow : Shadow
    count : callable
        Called with the records that are new in the log.
    """

    def __init__(self, judge: Judge, shadow: Shadow, count: Count) -> None:
        self._judge = judge
        self._shadow = shadow
        self._count = count
        self._scoring = ThreadPoolExecutor(1, thread_name_prefix="batch-score")
        self._committing = ThreadPoolExecutor(1, thread_name_prefix="batch-commit")

    def answer(self, parts: Iterator[Part], serving: Serving, request_id: str | None) -> Iterator[Answered]:
        """Answer every part, in order, once its rows are committed.

        Raises
        ------
        PredictionLogError
            If the first part cannot be logged. Rows that cannot be later on are
            answered with an error.
        """
        behind: deque[_Committing] = deque()
        failures: list[PredictionLogError] = []
        begun = False
        try:
            for part, scores in self._scored(parts, serving.champion):
                transactions = part.transactions()
                records = self._judge.many(
                    serving,
                    transactions,
                    scores.result(),
                    datetime.now(UTC),
                    [request_id] * len(transactions),
                )
                commit = self._committing.submit(self._commit, serving.commits, records, failures)
                behind.append((part, transactions, records, commit))
                if len(behind) > _BEHIND:
                    yield self._settled(serving.roles, behind.popleft(), begun)
                    begun = True
            while behind:
                yield self._settled(serving.roles, behind.popleft(), begun)
                begun = True
        finally:
            # Of a client that has hung up: what is committed is counted, though nobody is answered.
            while behind:
                self._settled(serving.roles, behind.popleft(), begun=True)

    def close(self) -> None:
        """Finish what is under way."""
        self._scoring.shutdown()
        self._committing.shutdown()

    def _scored(
        self, parts: Iterator[Part], model: ServedModel
    ) -> Iterator[tuple[Part, Future[NDArray[np.float32]]]]:
        """Let the scoring of some parts begin before they are asked for."""
        scorer = model.scorer
        ahead: deque[tuple[Part, Future[NDArray[np.float32]]]] = deque()
        for part in parts:
            ahead.append((part, self._scoring.submit(_score, scorer, part.values)))
            if len(ahead) > _AHEAD:
                yield ahead.popleft()
        yield from ahead

    def _commit(
        self, commits: GroupCommit, records: list[PredictionRecord], failures: list[PredictionLogError]
    ) -> _Committed:
        # Kept by this thread: the next part is handed over before the failure of this one is seen.
        if failures:
            return failures[0]
        stored: list[PredictionRecord | None] = []
        try:
            for first in range(0, len(records), _ROWS_PER_COMMIT):
                commits.let_others_go_first()
                stored += commits.write(records[first : first + _ROWS_PER_COMMIT])
        except PredictionLogError as error:
            # What is committed already stays so, and is answered when the batch is sent again.
            failures.append(error)
            return error
        return stored

    def _settled(self, roles: Roles, committing: _Committing, begun: bool) -> Answered:
        part, transactions, records, commit = committing
        committed = commit.result()
        if isinstance(committed, PredictionLogError):
            if not begun:
                raise committed
            logger.error("%d predictions of a batch could not be logged. %s", len(records), committed)
            FAILURES.labels(cause(committed)).inc()
            refused = [
                RowError(part.first + row, record.transaction_id, [_unlogged(part.first + row)])
                for row, record in zip(part.rows, records, strict=True)
            ]
            return Answered(part, [], [], [], _ordered(part.errors, refused))
        if all(a is b for a, b in zip(committed, records, strict=True)):
            self._note(roles, transactions, records)
            return Answered(part, part.rows, records, transactions, part.errors)
        rows: list[int] = []
        stored: list[PredictionRecord] = []
        answered: list[Transaction] = []
        # By id: rows that repeat one share a moment as well.
        new: dict[str, tuple[Transaction, PredictionRecord]] = {}
        conflicts: list[RowError] = []
        for row, asked, record, found in zip(part.rows, transactions, records, committed, strict=True):
            if found is None:
                place = part.first + row
                conflicts.append(RowError(place, record.transaction_id, [conflict(*WHERE, place)]))
                continue
            rows.append(row)
            stored.append(found)
            answered.append(asked)
            if found.timestamp == record.timestamp:
                new.setdefault(found.transaction_id, (asked, found))
        self._note(roles, [asked for asked, _ in new.values()], [found for _, found in new.values()])
        return Answered(part, rows, stored, answered, _ordered(part.errors, conflicts))

    def _note(
        self, roles: Roles, transactions: Sequence[Transaction], records: Sequence[PredictionRecord]
    ) -> None:
        """Count what is new in the log, and have the shadow score it."""
        self._count(records)
        if roles.shadow is not None:
            self._shadow.offer(
                roles.shadow,
                [Shadowed(asked.values, record) for asked, record in zip(transactions, records, strict=True)],
            )


class QuickSwitches(AbstractContextManager[None]):
    """Makes threads take turns quickly while a part is worked on: a single request waits for several."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(_SWITCH_SECONDS)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                sys.setswitchinterval(self._before)


class Progress:
    """Tells the process's log how far a batch is.

    Parameters
    ----------
    name : str
        What to call it.
    rows : int
        How many it has.
    clock : callable
        Seconds that only grow.
    """

    def __init__(self, name: str, rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._rows, self._clock = name, rows, clock
        self._start = self._told = clock()

    def tell(self, answered: int) -> None:
        """Write a line if the last one is a while ago, and at the end of a batch of some size."""
        now = self._clock()
        done = answered >= self._rows >= _ROWS_WORTH_A_LINE
        if not done and now - self._told < _PROGRESS_SECONDS:
            return
        self._told = now
        speed = answered / max(now - self._start, 1e-9)
        logger.info(
            "Batch %s: %s of %s rows answered, %s rows/s.",
            self._name,
            f"{answered:,}",
            f"{self._rows:,}",
            f"{speed:,.0f}",
        )


def _score(scorer: Scorer, values: NDArray[np.float64]) -> NDArray[np.float32]:
    return scorer.probabilities(scorer.matrix(values)) if len(values) else np.empty(0, np.float32)


def _ordered(first: list[RowError], second: list[RowError]) -> list[RowError]:
    return sorted([*first, *second], key=lambda error: error.row) if second else first


def _unlogged(row: int) -> FieldError:
    return FieldError(
        "log_failed", (*WHERE, row), "could not be logged, so it is not answered; send it again later"
    )
