"""Figures of the log: computed in a process of their own, since the libraries for it do not serve."""

from __future__ import annotations

import asyncio
import logging
import time

from fraud_kedro.serving.answers import Reply, refusal
from fraud_kedro.serving.monitoring_process import start_monitoring
from fraud_kedro.serving.settings import ServingSettings

logger = logging.getLogger(__name__)

# A page that is asked for again and again costs one process in this time.
_KEPT_SECONDS = 15.0
_MOST_SECONDS = 60.0
_RETRY_SECONDS = 30


class LogFigures:
    """Starts ``python -m fraud_kedro.monitoring``, and keeps what it found for some seconds.

    Parameters
    ----------
    command : str
        ``comparison`` or ``performance``.
    settings : ServingSettings
    """

    def __init__(self, command: str, settings: ServingSettings) -> None:
        self._command = command
        # Before the request is given up.
        self._seconds = min(_MOST_SECONDS, 0.9 * settings.request_timeout_seconds)
        self._settings = settings
        self._kept: dict[tuple[str, ...], tuple[float, Reply]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def compute(self, *arguments: str) -> Reply:
        """Run the command, or give what it found a moment ago.

        Parameters
        ----------
        *arguments : str
            Such as ``--days=7``.

        Returns
        -------
        Reply
            200 with the figures, 503 with the reason why there are none.
        """
        async with self._one_at_a_time:
            until, reply = self._kept.get(arguments, (0.0, None))
            if reply is None or time.monotonic() >= until:
                reply = await self._compute(arguments)
                now = time.monotonic()
                self._kept = {key: kept for key, kept in self._kept.items() if kept[0] > now}
                if reply.status == 200:
                    self._kept[arguments] = (now + _KEPT_SECONDS, reply)
            return reply

    async def _compute(self, arguments: tuple[str, ...]) -> Reply:
        process = await start_monitoring(self._settings, self._command, *arguments, keep_output=True)
        try:
            output, errors = await asyncio.wait_for(process.communicate(), self._seconds)
        except TimeoutError:
            return refusal(
                503,
                f"The {self._command} took more than {self._seconds:.0f} s. Ask for fewer days.",
                retry_after=_RETRY_SECONDS,
            )
        finally:
            # Also if the client has gone.
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == 0:
            return Reply(200, output.strip())
        said = errors.decode(errors="replace").strip()
        last = said.rpartition("\n")[2]
        if not last.startswith("Error: "):
            logger.error("The %s failed with %s: %s", self._command, process.returncode, said)
            last = f"The {self._command} failed. The service's log says why."
        return refusal(503, last.removeprefix("Error: "), retry_after=_RETRY_SECONDS)
