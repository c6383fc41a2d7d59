"""One transaction for all requests that wait: a commit before every answer, at a fraction of its cost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log.tables import PredictionRecord
from fraud_kedro.prediction_log.writer import LogBusyError, PredictionWriter

logger = logging.getLogger(__name__)

Answer = asyncio.Future[PredictionRecord | None]

# A commit on a local disk takes 0.2 to 1 ms, less than handing it to a thread and back under load.
# A disk whose sync is slower would hold up every other request meanwhile.
_SLOW_SECONDS = 0.004
_FAST_SECONDS = 0.002
_SMOOTHING = 0.1

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
    writer : PredictionWriter
    waiting_limit : int
        How many records may wait; beyond, requests are refused.
    batch_limit : int
        How many records share a transaction.
    observe : callable, optional
        Called with (records, seconds) after each commit.
    """

    def __init__(
        self,
        writer: PredictionWriter,
        *,
        waiting_limit: int = 10_000,
        batch_limit: int = 1000,
        observe: Callable[[int, float], None] | None = None,
    ) -> None:
        self.writer = writer
        self.last_failure: PredictionLogError | None = None
        self._observe = observe
        self._waiting_limit = waiting_limit
        self._batch_limit = batch_limit
        self._waiting: deque[tuple[PredictionRecord, Answer]] = deque()
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prediction-log")
        self._due = False
        self._seconds = 0.0
        self._inline = writer.local

    @property
    def waiting(self) -> int:
        """The number of records that wait for a commit."""
        return len(self._waiting)

    def add(self, record: PredictionRecord) -> Answer:
        """Queue a record.

        Returns
        -------
        asyncio.Future
            What the log holds once it is committed: see `PredictionWriter.write`.
            Fails with `PredictionLogError` if it could not be.

        Raises
        ------
        LogFullError
            If too many records wait already.
        """
        if len(self._waiting) >= self._waiting_limit:
            raise LogFullError(
                f"{len(self._waiting)} predictions wait already for the prediction log, which is slow or "
                "down. Try again later."
            )
        answer: Answer = self._loop.create_future()
        self._waiting.append((record, answer))
        if not self._due:
            self._due = True
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
        while self._due:
            await asyncio.sleep(0.001)
        self._executor.shutdown()
        self.writer.close()

    def _commit(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_limit))]
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
        work = self._executor.submit(self._write, [record for record, _ in batch])
        work.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._committed, batch, done))

    def _committed(
        self, batch: list[tuple[PredictionRecord, Answer]], done: ThreadFuture[list[PredictionRecord | None]]
    ) -> None:
        error = done.exception()
        if error is None:
            self._settle(batch, done.result())
        else:
            self._fail(batch, error)
        self._next()

    def _write(self, records: list[PredictionRecord], *, wait: bool = True) -> list[PredictionRecord | None]:
        start = time.perf_counter()
        stored = self._timed(records, wait=wait)
        self._seconds += _SMOOTHING * (time.perf_counter() - start - self._seconds)
        if self.writer.local:
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
        for (_, answer), record in zip(batch, stored, strict=True):
            # A client that hung up has cancelled its future; its record is logged all the same.
            if not answer.done():
                answer.set_result(record)

    def _fail(self, batch: list[tuple[PredictionRecord, Answer]], error: BaseException) -> None:
        if isinstance(error, PredictionLogError):
            self.last_failure = error
            logger.error(
                "%d predictions could not be logged, their requests are refused. %s", len(batch), error
            )
        else:
            logger.error("%d predictions could not be logged.", len(batch), exc_info=error)
        for _, answer in batch:
            if not answer.done():
                answer.set_exception(error)

    def _next(self) -> None:
        self._due = bool(self._waiting)
        if self._due:
            self._loop.call_soon(self._commit)
