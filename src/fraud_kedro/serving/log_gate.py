"""The prediction log as the service has it: open, spilled to a file, or the reason why not."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy.engine import Engine

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import GroupCommit, PredictionWriter, open_for_writing, refresh_wide_view
from fraud_kedro.prediction_log.database import LogUnavailableError
from fraud_kedro.prediction_log.retention import Retention
from fraud_kedro.prediction_log.spill import Spill, SpillingWriter
from fraud_kedro.serving.metrics import (
    LOG_COMMIT_SECONDS,
    LOG_LOST,
    LOG_PRUNED,
    LOG_RECORDS,
    LOG_REPLAYED,
    LOG_SET_ASIDE,
    LOG_SPILL_BYTES,
    LOG_SPILLED,
    LOG_WAITING,
)
from fraud_kedro.serving.settings import ServingSettings

logger = logging.getLogger(__name__)

# How often spilled predictions are tried to be put into the database, and the queue is measured.
_LOOK_SECONDS = 1.0
_PRUNE_SECONDS = 3600.0
_STOP_SECONDS = 0.1


class LogGate:
    """Opens the log, and tries again while it cannot be opened; keeps it in order while it is.

    Parameters
    ----------
    settings : ServingSettings
    """

    def __init__(self, settings: ServingSettings) -> None:
        self.commits: GroupCommit | None = None
        #: Why the database is not open; None when it is.
        self.problem: str | None = "The prediction log has not been opened yet."
        self._settings = settings
        self._database: PredictionWriter | None = None
        self._spilling: SpillingWriter | None = None
        self._retention: Retention | None = None
        self._viewed: tuple[str, ...] | None = None
        self._keeping: list[asyncio.Task[None]] = []
        self._stopping = threading.Event()
        self._opening = asyncio.Lock()
        spill = Spill(settings.spill_folder, limit_bytes=settings.log_spill_bytes)
        may_begin = settings.log_on_failure == "spill"
        # What an earlier process has left is put into the database whatever is set now.
        if may_begin or spill.size:
            self._spilling = SpillingWriter(spill, None, may_begin=may_begin)
            self._spilling.observe = LOG_SPILLED.inc

    @property
    def spilled_bytes(self) -> int:
        """What waits in the spill file."""
        return 0 if self._spilling is None else self._spilling.spill.size

    @property
    def engine(self) -> Engine | None:
        """The database itself, for what is no prediction; None while it is not open."""
        return None if self._database is None else self._database.engine

    async def ensure_open(self) -> None:
        """Open and migrate the log unless it is open; a failure is kept in `problem`."""
        async with self._opening:
            if self._database is None:
                await self._open()

    async def _open(self) -> None:
        try:
            database = await asyncio.to_thread(
                open_for_writing,
                self._settings.prediction_log,
                retry_seconds=self._settings.log_retry_seconds,
            )
        except PredictionLogError as error:
            if str(error) != self.problem:
                logger.error("%s", error)
            self.problem = str(error)
            # A wrong address is not an outage.
            if isinstance(error, LogUnavailableError) and self._spilling and self._spilling.may_begin:
                self._begin(self._spilling)
            return
        self._database, self.problem = database, None
        if self._spilling is None:
            self._begin(database)
        else:
            self._spilling.database = database
            self._begin(self._spilling)

    def _begin(self, writer: PredictionWriter | SpillingWriter) -> None:
        if self.commits is None:
            self.commits = GroupCommit(
                writer,
                waiting_limit=self._settings.log_waiting_limit,
                background=self._settings.log_mode == "background",
                observe=_observe_commit,
                observe_lost=LOG_LOST.inc,
            )
            tasks = [self._repeat(self._look, _LOOK_SECONDS)]
            if self._settings.log_retention_days:
                tasks.append(self._repeat(self._prune, _PRUNE_SECONDS))
            self._keeping = [asyncio.create_task(task) for task in tasks]

    async def show(self, features: Sequence[str]) -> None:
        """Make the view `predictions_wide` show these features; predictions go on without it."""
        wanted = tuple(features)
        if self._database is None or wanted == self._viewed:
            return
        try:
            await asyncio.to_thread(refresh_wide_view, self._database.engine, wanted)
        except PredictionLogError as error:
            logger.warning("The view predictions_wide is not up to date: %s", error)
        else:
            self._viewed = wanted

    async def close(self) -> None:
        """Commit what waits and let go of the database."""
        self._stopping.set()
        await asyncio.gather(*self._keeping)
        if self.commits is not None:
            await self.commits.close()
            self.commits = self._database = None
            self.problem = "The prediction log has been closed."

    async def _repeat(self, action: Callable[[], Awaitable[None]], seconds: float) -> None:
        while not self._stopping.is_set():
            try:
                await action()
            except PredictionLogError as error:
                logger.warning("%s", error)
            except Exception:
                # A defect met here must not end it: what is spilled would stay so.
                logger.exception("Keeping the prediction log in order failed.")
            due = time.monotonic() + seconds
            while not self._stopping.is_set() and time.monotonic() < due:
                await asyncio.sleep(_STOP_SECONDS)

    async def _look(self) -> None:
        """Measure the queue, and put what was spilled into the database."""
        LOG_WAITING.set(self.commits.waiting if self.commits else 0)
        LOG_SPILL_BYTES.set(self.spilled_bytes)
        if self._database is None:
            await self.ensure_open()
        if self.spilled_bytes:
            await asyncio.to_thread(self._replay)

    async def _prune(self) -> None:
        """Take the features out of old rows."""
        if self._database is None:
            return
        if self._retention is None:
            self._retention = Retention(self._database.engine, self._settings.log_retention_days)
        LOG_PRUNED.inc(await asyncio.to_thread(self._retention.prune, stopping=self._stopping.is_set))

    def _replay(self) -> None:
        if self._spilling is None:
            return
        done = self._spilling.replay(stopping=self._stopping.is_set)
        LOG_REPLAYED.inc(done.records)
        LOG_SET_ASIDE.inc(done.set_aside)
        if done.records or done.set_aside:
            logger.info("%d spilled predictions are in the prediction log now.", done.records)


def _observe_commit(records: int, seconds: float) -> None:
    LOG_RECORDS.inc(records)
    LOG_COMMIT_SECONDS.observe(seconds)
