"""One transaction for all requests that wait: a commit before every answer, at a fraction of its cost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log.database import LogUnavailableError
from fraud_kedro.prediction_log.tables import PredictionRecord
from fraud_kedro.prediction_log.writer import LogBusyError

logger = logging.getLogger(__name__)

Answer = asyncio.Future[PredictionRecord | None]

# A commit on a local disk takes 0.2 to 1 ms, less than handing it to a thread and back under load.
# A disk whose sync is slower would hold up every other request meanwhile.
_SLOW_SECONDS = 0.004
_FAST_SECONDS = 0.002
_SMOOTHING = 0.1

# What was answered before its commit is tried again this often.
_RETRY_SECONDS = 0.5


class RecordWriter(Protocol):
    """What a group commit writes to: `PredictionWriter`, or one that can spill."""

    @property
    def local(self) -> bool:
        """Whether a commit is a matter of this machine's disk alone."""

    def write(
        self, records: Sequence[PredictionRecord], *, wait: bool = True
    ) -> list[PredictionRecord | None]:
        """Commit records: see `PredictionWriter.write`."""

    def close(self) -> None:
        """Let go of what is open."""


# A large writer waits no longer than this for small ones, 20 times.
_POLITE_SECONDS, _POLITE_WAITS = 0.0002, 20


class LogFullError(PredictionLogError):
    """More predictions wait for their commit than the limit allows."""


class GroupCommit:
    """Collects records of concurrent requests and commits them together.

    Lives in one event loop. Requests that arrive during an iteration of the
    loop share the transaction at its end. The commit runs in the loop's own
    thread while the log is a local file whose commits are quick and no one
    else writes; otherwise in a thread, and requests gather behind it.

    Parameters
    ----------
    writer : RecordWriter
    waiting_limit : int
        How many records may wait; beyond, requests are refused.
    batch_limit : int
        How many records share a transaction.
    background : bool
        Whether `add` answers before the commit. What waits is lost with the
        process then; a commit that fails is tried again until it succeeds.
    drain_seconds : float
        How long `close` goes on trying in that case.
    observe : callable, optional
        Called with (records, seconds) after each commit.
    observe_lost : callable, optional
        Called with the number of records that were answered and never logged.
    """

    def __init__(
        self,
        writer: RecordWriter,
        *,
        waiting_limit: int = 10_000,
        batch_limit: int = 1000,
        background: bool = False,
        drain_seconds: float = 10.0,
        observe: Callable[[int, float], None] | None = None,
        observe_lost: Callable[[int], None] | None = None,
    ) -> None:
        self.writer = writer
        self.last_failure: PredictionLogError | None = None
        self._observe = observe
        self._observe_lost = observe_lost
        self._background = background
        self._drain_seconds = drain_seconds
        self._committing = 0
        self._closed = False
        self._oldest = self._taken = 0.0
        self._waiting_limit = waiting_limit
        self._batch_limit = self._batch_size = batch_limit
        self._waiting: deque[tuple[PredictionRecord, Answer]] = deque()
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prediction-log")
        self._due = False
        self._seconds = 0.0
        self._inline = writer.local and not background

    @property
    def waiting(self) -> int:
        """The number of records that wait for a commit."""
        return len(self._waiting) + self._committing

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest of the records that wait has waited at most."""
        return time.monotonic() - self._oldest if self._due else 0.0

    def add(self, record: PredictionRecord, answer: Answer | None = None) -> Answer:
        """Queue a record.

        Parameters
        ----------
        record : PredictionRecord
        answer : asyncio.Future, optional
            What is given back, where there is one already.

        Returns
        -------
        asyncio.Future
            What the log holds once it is committed: see `PredictionWriter.write`.
            Fails with `PredictionLogError` if it could not be. In the
            background: the record itself, at once.

        Raises
        ------
        LogFullError
            If too many records wait already.
        PredictionLogError
            If it is closed.
        """
        if self._closed:
            raise PredictionLogError("The prediction log has been closed.")
        if self.waiting >= self._waiting_limit:
            raise LogFullError(
                f"{self.waiting} predictions wait already for the prediction log, which is slow or "
                "down. Try again later."
            )
        if answer is None:
            answer = self._loop.create_future()
        self._waiting.append((record, answer))
        if self._background and not answer.done():
            answer.set_result(record)
        if not self._due:
            self._due = True
            self._oldest = time.monotonic()
            self._loop.call_soon(self._commit)
        return answer

    def write(self, records: Sequence[PredictionRecord]) -> list[PredictionRecord | None]:
        """Commit records in a transaction of their own, from another thread than the loop's.

        Raises
        ------
        PredictionLogError
            If nothing could be committed.
        """
        return self._timed(records, wait=True)

    def let_others_go_first(self) -> None:
        """Wait a moment, in another thread than the loop's, while single records wait for their commit.

        Whoever writes again at once takes the writer's lock before they get it.
        """
        for _ in range(_POLITE_WAITS):
            if not self._due:
                return
            time.sleep(_POLITE_SECONDS)

    async def close(self) -> None:
        """Commit what waits, then close the writer."""
        deadline = time.monotonic() + self._drain_seconds
        while self._due and not (self._background and time.monotonic() > deadline):
            await asyncio.sleep(0.001)
        self._closed = True
        self._executor.shutdown()
        # The last commit's outcome comes back by the loop.
        await asyncio.sleep(0)
        if self.waiting:
            self._lose(self.waiting)
        self.writer.close()

    def _commit(self) -> None:
        if self._closed:
            return
        self._taken = time.monotonic()
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_size))]
        if self._inline:
            try:
                stored = self._write([record for record, _ in batch], wait=False)
            except LogBusyError:
                pass
            except Exception as error:  # noqa: BLE001 (a defect, too, must not leave requests waiting)
                self._fail(batch, error)
                self._next()
                return
            else:
                self._settle(batch, stored)
                self._next()
                return
        self._committing = len(batch)
        work = self._executor.submit(self._write, [record for record, _ in batch])
        work.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._committed, batch, done))

    def _committed(
        self, batch: list[tuple[PredictionRecord, Answer]], done: ThreadFuture[list[PredictionRecord | None]]
    ) -> None:
        self._committing = 0
        error = done.exception()
        if error is None:
            self._settle(batch, done.result())
        elif self._background:
            self._try_again(batch, error)
            return
        else:
            self._fail(batch, error)
        self._next()

    def _try_again(self, batch: list[tuple[PredictionRecord, Answer]], error: BaseException) -> None:
        """Keep what was answered already; a record the database will never take is given up."""
        if not isinstance(error, LogUnavailableError | LogBusyError) and len(batch) == 1:
            self._fail(batch, error)
            self._lose(1)
            self._next()
            return
        self._waiting.extendleft(reversed(batch))
        if not isinstance(error, LogUnavailableError | LogBusyError):
            # One of them is at fault: alone, the others get through.
            self._batch_size = max(1, len(batch) // 2)
            self._next()
            return
        if self.last_failure is None:
            logger.error("%d answered predictions wait for the prediction log. %s", self.waiting, error)
        self.last_failure = error
        self._loop.call_later(_RETRY_SECONDS, self._commit)

    def _lose(self, records: int) -> None:
        logger.error("%d predictions were answered and are not in the prediction log.", records)
        if self._observe_lost is not None:
            self._observe_lost(records)

    def _write(self, records: list[PredictionRecord], *, wait: bool = True) -> list[PredictionRecord | None]:
        start = time.perf_counter()
        stored = self._timed(records, wait=wait)
        self._seconds += _SMOOTHING * (time.perf_counter() - start - self._seconds)
        if self.writer.local and not self._background:
            self._inline = self._seconds < (_SLOW_SECONDS if self._inline else _FAST_SECONDS)
        return stored

    def _timed(self, records: Sequence[PredictionRecord], *, wait: bool) -> list[PredictionRecord | None]:
        start = time.perf_counter()
        stored = self.writer.write(records, wait=wait)
        if self._observe is not None:
            self._observe(len(records), time.perf_counter() - start)
        return stored

    def _settle(
        self, batch: list[tuple[PredictionRecord, Answer]], stored: list[PredictionRecord | None]
    ) -> None:
        self.last_failure = None
        self._batch_size = min(2 * self._batch_size, self._batch_limit)
        if self._background and None in stored:
            # Answered as a new transaction, under an id the log has for another.
            self._lose(stored.count(None))
        for (_, answer), record in zip(batch, stored, strict=True):
            # A client that hung up has cancelled its future; its record is logged all the same.
            if not answer.done():
                answer.set_result(record)

    def _fail(self, batch: list[tuple[PredictionRecord, Answer]], error: BaseException) -> None:
        if isinstance(error, PredictionLogError):
            self.last_failure = error
            logger.error("%d predictions could not be logged. %s", len(batch), error)
        else:
            logger.error("%d predictions could not be logged.", len(batch), exc_info=error)
        for _, answer in batch:
            if not answer.done():
                answer.set_exception(error)

    def _next(self) -> None:
        self._due = bool(self._waiting)
        if self._due:
            # They came after the batch before them was taken.
            self._oldest = self._taken
            self._loop.call_soon(self._commit)
