"""Drift on request: judged in a process of its own, since the libraries for it do not serve.

A run is known by files, so that each worker can tell of what another has started:
a marker for each number of days that is being judged, and what the run leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil
from pydantic import ValidationError

from fraud_kedro.locations import RUN_ID, drift_page
from fraud_kedro.serving.answers import Reply, encode, refusal
from fraud_kedro.serving.documents import DriftRequest
from fraud_kedro.serving.model_store import ModelStore
from fraud_kedro.serving.monitoring_process import MODULE, label_options, start_monitoring
from fraud_kedro.serving.requests import FieldError
from fraud_kedro.serving.settings import ServingSettings

logger = logging.getLogger(__name__)

#: A request is answered by then, with the verdict or with where to ask for it.
MOST_SECONDS = 60.0

_LOOK_SECONDS = 0.2
# A worker that has made a marker starts its process at once, unless it dies in between.
_STARTING_SECONDS = 10.0
_RETRY_SECONDS = 5


class _Run(NamedTuple):
    """A run as its marker tells of it."""

    id: str
    days: int
    pid: int | None


class DriftRuns:
    """Starts ``python -m fraud_kedro.monitoring drift``, and tells what became of it.

    Parameters
    ----------
    settings : ServingSettings
    models : ModelStore
        Whose champion's reference is compared with.
    """

    def __init__(self, settings: ServingSettings, models: ModelStore) -> None:
        self._settings = settings
        self._models = models
        self._page = drift_page(settings.root)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # What runs of this worker that came to no verdict said, newest last.
        self._failures: dict[str, str] = {}

    async def start(self, body: bytes) -> Reply:
        """Judge the last days, or wait for a run that is doing so.

        Parameters
        ----------
        body : bytes
            ``{"days": 30}``.

        Returns
        -------
        Reply
            200 with the verdict; 202 with the run's id if it takes longer; 422 or
            503 with the reason.
        """
        try:
            days = DriftRequest.model_validate_json(body or b"{}").days
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            return refusal(422, [FieldError(p["type"], ("body", *p["loc"]), p["msg"]) for p in problems])
        deadline = time.monotonic() + MOST_SECONDS
        try:
            run = await self._running_or_new(days)
        except OSError as error:
            return refusal(
                503,
                f"Drift cannot be judged: {self._page.parent} cannot be written ({error.strerror}). Make "
                "room or give the folder back its rights.",
                retry_after=_RETRY_SECONDS,
            )
        while (reply := self._reply(run)).status == 202 and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_SECONDS)
        return reply

    def find(self, run: str) -> Reply:
        """Tell what became of a run: 200 with its verdict, 202 while it works, 503 if it failed, 404."""
        return self._reply(run)

    def page(self) -> Path | None:
        """The newest page, None before there is one."""
        return self._page if self._page.is_file() else None

    async def close(self) -> None:
        """End the runs of this worker."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _reply(self, run: str) -> Reply:
        known = RUN_ID.fullmatch(run) is not None
        if known:
            with contextlib.suppress(FileNotFoundError):
                return Reply(200, self._page.with_name(f"{self._page.stem}_{run}.json").read_bytes())
            if run in self._failures:
                return refusal(503, self._failures[run], retry_after=_RETRY_SECONDS)
            if run in self._tasks or any(each.id == run for each in self._alive()):
                return Reply(
                    202, encode({"id": run, "status": "running"}), _RETRY_SECONDS,
                    ((b"location", f"/monitoring/drift/{run}".encode()),),
                )  # fmt: skip
            # Of another worker, whose process has ended meanwhile.
            with contextlib.suppress(FileNotFoundError):
                return Reply(200, self._page.with_name(f"{self._page.stem}_{run}.json").read_bytes())
            with contextlib.suppress(FileNotFoundError):
                return refusal(503, self._failed(run).read_text(encoding="utf-8"), retry_after=_RETRY_SECONDS)
        return refusal(
            404,
            "There is no such run, or it was ended before its verdict. POST /monitoring/drift starts one.",
        )

    async def _running_or_new(self, days: int) -> str:
        self._page.parent.mkdir(parents=True, exist_ok=True)
        marker = self._marker(days)
        while True:
            run = _Run(f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}", days, None)
            beside = _written(marker, run)
            try:
                # Whole, and by one worker alone.
                marker.hardlink_to(beside)
            except FileExistsError:
                running = _read(marker)
                if running is not None:
                    return running.id
                # What a worker that was killed has left.
                marker.unlink(missing_ok=True)
            else:
                break
            finally:
                beside.unlink(missing_ok=True)
        process = None
        try:
            process = await self._spawn(run)
            _written(marker, run._replace(pid=process.pid)).replace(marker)
        except BaseException:
            marker.unlink(missing_ok=True)
            if process is not None:
                process.kill()
                await process.communicate()
            raise
        task = asyncio.create_task(self._follow(run, process), name=f"drift {run.id}")
        self._tasks[run.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(run.id, None))
        return run.id

    async def _spawn(self, run: _Run) -> asyncio.subprocess.Process:
        current = self._models.current
        version = [] if current is None else [f"--version={current.version}"]
        options = (f"--days={run.days}", f"--run-id={run.id}", *version, *label_options(self._settings))
        return await start_monitoring(self._settings, "drift", *options, keep_output=False)

    async def _follow(self, run: _Run, process: asyncio.subprocess.Process) -> None:
        """Wait for a run's process, and keep what it says if it fails."""
        try:
            _, errors = await process.communicate()
        finally:
            # Also when the service ends.
            if process.returncode is None:
                process.kill()
                await process.wait()
            self._marker(run.days).unlink(missing_ok=True)
        if process.returncode == 0:
            return
        said = errors.decode(errors="replace").strip()
        last = said.rpartition("\n")[2]
        if last.startswith("Error: "):
            logger.warning("Drift could not be judged: %s", last.removeprefix("Error: "))
        else:
            logger.error("Judging drift failed with %s: %s", process.returncode, said)
            last = "Judging drift failed. The service's log says why."
        self._keep_failure(run, last.removeprefix("Error: "))

    def _keep_failure(self, run: _Run, reason: str) -> None:
        self._failures = {**dict([*self._failures.items()][-20:]), run.id: reason}
        for old in sorted(self._page.parent.glob(".drift_*.failed"))[:-20]:
            old.unlink(missing_ok=True)
        try:
            self._failed(run.id).write_text(reason, encoding="utf-8")
        except OSError as error:
            # A full disk may be what it failed of. This worker can tell it all the same.
            logger.warning("Other workers cannot tell why run %s failed: %s", run.id, error.strerror)

    def _alive(self) -> list[_Run]:
        return [run for file in self._page.parent.glob(".drift_*_days.running") if (run := _read(file))]

    def _marker(self, days: int) -> Path:
        return self._page.with_name(f".drift_{days}_days.running")

    def _failed(self, run: str) -> Path:
        return self._page.with_name(f".drift_{run}.failed")


def _read(marker: Path) -> _Run | None:
    """Read a marker; None if its process has gone, or a full disk or a power cut has spoiled it."""
    try:
        started = time.time() - marker.stat().st_mtime < _STARTING_SECONDS
        run = _Run(**json.loads(marker.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if run.pid is None:
        return run if started else None
    try:
        process = psutil.Process(run.pid)
        lives = process.status() != psutil.STATUS_ZOMBIE and MODULE in process.cmdline()
    except psutil.Error:
        return None
    return run if lives else None


def _written(marker: Path, run: _Run) -> Path:
    beside = marker.with_name(f"{marker.name}.{run.id}")
    try:
        beside.write_text(json.dumps(run._asdict()), encoding="utf-8")
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    return beside
