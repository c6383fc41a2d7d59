"""Ends what waits for clients that send slowly, or nothing: neither server nor framework does."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fraud_kedro.serving.bodies import read_body

_LOOK_SECONDS = 0.5


class BodyTooSlowError(Exception):
    """The body was not whole in time."""


class BodyClock:
    """Gives bodies a time to arrive in, at a tenth of what `asyncio.timeout` costs for each.

    Parameters
    ----------
    seconds : float
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._looking = False

    async def read(self, receive: Receive, limit: int) -> bytes:
        """Read a request's body: see `read_body`.

        Raises
        ------
        BodyTooSlowError
            If it is not whole in time.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._due[task] = loop.time() + self.seconds
        if not self._looking:
            self._looking = True
            loop.call_later(_LOOK_SECONDS, self._look, loop)
        try:
            return await read_body(receive, limit)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            raise BodyTooSlowError from None
        finally:
            del self._due[task]
            self._late.discard(task)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, due in self._due.items():
            if due < now and task not in self._late:
                self._late.add(task)
                task.cancel()
        self._looking = bool(self._due)
        if self._looking:
            loop.call_later(_LOOK_SECONDS, self._look, loop)


def close_silent_connections(seconds: float) -> None:
    """Have the server close a new connection without a whole header by then.

    uvicorn has a limit for connections that are kept alive, and none for these.
    """
    made = HttpToolsProtocol.connection_made

    def connection_made(self: HttpToolsProtocol, transport: asyncio.Transport) -> None:
        made(self, transport)
        self.loop.call_later(seconds, _close_if_silent, self)

    HttpToolsProtocol.connection_made = connection_made  # type: ignore[method-assign]


def _close_if_silent(protocol: HttpToolsProtocol) -> None:
    if protocol.cycle is None:
        protocol.transport.close()
