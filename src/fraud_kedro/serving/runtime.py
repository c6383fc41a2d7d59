"""One process's service: its model, its log, and the task that keeps both up to date."""

from __future__ import annotations

import asyncio
import gc
import logging
from datetime import UTC, datetime
from ipaddress import ip_address

from fraud_kedro.serving.feedback import FeedbackTaker
from fraud_kedro.serving.guard import Guard
from fraud_kedro.serving.log_gate import LogGate
from fraud_kedro.serving.logs import write_json
from fraud_kedro.serving.model_store import ModelStore
from fraud_kedro.serving.predictor import Predictor
from fraud_kedro.serving.settings import ServingSettings, unknown_variables

logger = logging.getLogger(__name__)

# What is allocated while serving is freed by reference counts; the collector only walks the heap.
_COLLECT_AFTER = (100_000, 50, 1000)


class Runtime:
    """Starts, keeps up to date and stops what serves.

    Parameters
    ----------
    settings : ServingSettings
    """

    def __init__(self, settings: ServingSettings) -> None:
        self.settings = settings
        self.models = ModelStore(settings)
        self.log = LogGate(settings)
        self.guard = Guard(settings)
        self.predictor = Predictor(settings, self.models, self.log)
        self.feedback = FeedbackTaker(settings, self.log)
        self.started = datetime.now(UTC)
        self._polling: asyncio.Task[None] | None = None
        self._refreshing = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether a transaction would be scored and logged."""
        return self.models.current is not None and self.log.commits is not None

    async def start(self) -> None:
        """Open the log and load the model; what fails is tried again at every poll."""
        self.started = datetime.now(UTC)
        if self.settings.json_logs:
            write_json()
        for message in unknown_variables():
            logger.warning("%s", message)
        self._say_who_may_ask()
        await self.refresh()
        if self.models.current is None:
            _settle_memory()
        self._polling = asyncio.create_task(self._poll(), name="model poll")

    def _say_who_may_ask(self) -> None:
        address = self.settings.listens_on
        if self.settings.keys_by_role:
            logger.info("Requests need a key: %s are set.", ", ".join(self.settings.keys_by_role))
        elif ip_address(address).is_loopback:
            logger.info("No keys are set: the service listens on %s alone, and asks for none.", address)
        else:
            logger.warning(
                "No keys are set, and the service listens on %s: everyone who reaches it may score, read "
                "and reload. Set FRAUD_SCORE_KEYS, FRAUD_FEEDBACK_KEYS and FRAUD_ADMIN_KEYS.",
                address,
            )

    async def refresh(self) -> bool:
        """Look for a moved alias, and for a log that could not be opened.

        Returns
        -------
        bool
            Whether another model serves now.
        """
        async with self._refreshing:
            await self.log.ensure_open()
            changed = await asyncio.to_thread(self.models.refresh)
            model = self.models.current
            if model is not None:
                await self.log.show(model.scorer.schema.features)
            if changed:
                _settle_memory()
            return changed

    async def stop(self) -> None:
        """Answer what is under way, commit it, and let go."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)
        await asyncio.to_thread(self.predictor.close)
        await asyncio.to_thread(self.feedback.close)
        await self.log.close()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self.settings.model_poll_seconds)
            try:
                await self.refresh()
            except Exception:
                # A defect met here must not end the polling: the next alias may be the mend.
                logger.exception("Looking for a new champion failed.")


def _settle_memory() -> None:
    """Take what was loaded out of the garbage collector's sight: walking it stops requests for 20 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
