"""One process's service: its model, its log, and the task that keeps both up to date."""

from __future__ import annotations

import asyncio
import gc
import logging
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Literal

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import raise_generation, read_generation
from fraud_kedro.serving.answers import Reply
from fraud_kedro.serving.drift import DriftRuns
from fraud_kedro.serving.feedback import FeedbackTaker
from fraud_kedro.serving.figures import LogFigures
from fraud_kedro.serving.guard import Guard
from fraud_kedro.serving.log_gate import LogGate
from fraud_kedro.serving.logs import write_json
from fraud_kedro.serving.model_store import ModelStore
from fraud_kedro.serving.monitoring_gauges import MonitoringGauges
from fraud_kedro.serving.monitoring_process import label_options
from fraud_kedro.serving.predictor import Predictor
from fraud_kedro.serving.settings import ServingSettings, unknown_variables
from fraud_kedro.serving.switches import quick_switches

logger = logging.getLogger(__name__)

# What is allocated while serving is freed by reference counts; the collector only walks the heap.
_COLLECT_AFTER = (100_000, 50, 1000)

_FOLLOW_SECONDS = 1.0


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
        self.comparison = LogFigures("comparison", settings)
        self.performance = LogFigures("performance", settings)
        self.drift = DriftRuns(settings, self.models)
        self.gauges = MonitoringGauges(settings.root)
        self.feedback = FeedbackTaker(settings, self.log)
        self.started = datetime.now(UTC)
        self._tasks: list[asyncio.Task[None]] = []
        # The last one that this worker has followed.
        self._generation: int | None = None
        self._refreshing = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether a transaction would be scored and logged."""
        return self.models.current is not None and self.log.commits is not None

    def show_monitoring(self) -> None:
        """Set the metrics of what monitoring has found last."""
        model = self.models.current
        self.gauges.refresh(model.name if model else None, model.scorer.metadata if model else None)

    async def measure_performance(self, days: int, by: Literal["day", "week"]) -> Reply:
        """Measure performance over time from the log and the labels that have come."""
        settings, model = self.settings, self.models.current
        amount = [] if model is None else [f"--amount={model.scorer.schema.amount}"]
        return await self.performance.compute(
            f"--days={days}",
            f"--by={by}",
            *label_options(settings),
            f"--review-cost={settings.review_cost}",
            f"--false-decline-cost={settings.false_decline_cost}",
            *amount,
        )

    async def start(self) -> None:
        """Open the log and load the model; what fails is tried again at every poll."""
        self.started = datetime.now(UTC)
        if self.settings.json_logs:
            write_json()
        for message in unknown_variables():
            logger.warning("%s", message)
        self._say_who_may_ask()
        await self.log.ensure_open()
        await self._must_follow()
        await self.refresh()
        if self.models.current is None:
            _settle_memory()
        self._tasks = [
            asyncio.create_task(self._poll(), name="model poll"),
            asyncio.create_task(self._follow(), name="model generation"),
        ]

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
            changed = await asyncio.to_thread(self._look_for_models)
            model = self.models.current
            if model is not None:
                await self.log.show(model.scorer.schema.features)
            if changed:
                _settle_memory()
            return changed

    async def reload(self) -> bool:
        """Look for moved aliases, and have every other worker look.

        Returns
        -------
        bool
            Whether another model serves in this process now.
        """
        changed = await self.refresh()
        await self._tell_the_others()
        return changed

    async def _tell_the_others(self) -> None:
        if self.log.engine is None:
            return
        try:
            raised = await asyncio.to_thread(raise_generation, self.log.engine)
            # Had another worker raised it meanwhile, its news would be missed.
            if self._generation is not None and raised == self._generation + 1:
                self._generation = raised
        except PredictionLogError as error:
            logger.warning("Other workers follow at their next poll, since they cannot be told: %s", error)

    async def stop(self) -> None:
        """Answer what is under way, commit it, and let go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.drift.close()
        await asyncio.to_thread(self.predictor.close)
        await asyncio.to_thread(self.feedback.close)
        await self.log.close()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self.settings.model_poll_seconds)
            try:
                if await self.refresh():
                    await self._tell_the_others()
            except Exception:
                # A defect met here must not end the polling: the next alias may be the mend.
                logger.exception("Looking for a new champion failed.")

    async def _follow(self) -> None:
        """Look every second whether another worker has met a moved alias or was told to reload."""
        while True:
            await asyncio.sleep(_FOLLOW_SECONDS)
            try:
                if await self._must_follow():
                    await self.refresh()
            except Exception:
                logger.exception("Following another worker failed.")

    def _look_for_models(self) -> bool:
        with quick_switches:
            return self.models.refresh()

    async def _must_follow(self) -> bool:
        """Look whether the generation is another one than at the last look."""
        if self.log.engine is None:
            return False
        try:
            found = await asyncio.to_thread(read_generation, self.log.engine)
        except PredictionLogError:
            # Predictions meet the same, and /health says it; the registry is polled all the same.
            return False
        known, self._generation = self._generation, found
        return known is not None and found != known


def _settle_memory() -> None:
    """Take what was loaded out of the garbage collector's sight: walking it stops requests for 20 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
