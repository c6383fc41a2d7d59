"""The prediction log as the service has it: open, or the reason why not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import GroupCommit, open_for_writing, refresh_wide_view
from fraud_kedro.serving.metrics import LOG_COMMIT_SECONDS, LOG_RECORDS
from fraud_kedro.serving.settings import ServingSettings

logger = logging.getLogger(__name__)


class LogGate:
    """Opens the log, and tries again while it cannot be opened.

    Parameters
    ----------
    settings : ServingSettings
    """

    def __init__(self, settings: ServingSettings) -> None:
        self.commits: GroupCommit | None = None
        #: Why the log is not open; None when it is.
        self.problem: str | None = "The prediction log has not been opened yet."
        self._settings = settings
        self._viewed: tuple[str, ...] | None = None

    async def ensure_open(self) -> None:
        """Open and migrate the log unless it is open; a failure is kept in `problem`."""
        if self.commits is not None:
            return
        try:
            writer = await asyncio.to_thread(open_for_writing, self._settings.prediction_log)
        except PredictionLogError as error:
            if str(error) != self.problem:
                logger.error("%s", error)
            self.problem = str(error)
            return
        self.commits = GroupCommit(
            writer, waiting_limit=self._settings.log_waiting_limit, observe=_observe_commit
        )
        self.problem = None

    async def show(self, features: Sequence[str]) -> None:
        """Make the view `predictions_wide` show these features; predictions go on without it."""
        wanted = tuple(features)
        if self.commits is None or wanted == self._viewed:
            return
        try:
            await asyncio.to_thread(refresh_wide_view, self.commits.writer.engine, wanted)
        except PredictionLogError as error:
            logger.warning("The view predictions_wide is not up to date: %s", error)
        else:
            self._viewed = wanted

    async def close(self) -> None:
        """Commit what waits and let go of the database."""
        if self.commits is not None:
            await self.commits.close()
            self.commits = None
            self.problem = "The prediction log has been closed."


def _observe_commit(records: int, seconds: float) -> None:
    LOG_RECORDS.inc(records)
    LOG_COMMIT_SECONDS.observe(seconds)
