"""Answers ``POST /predict`` in front of every other layer, and guards the door of all routes.

The layers behind it (BentoML's middleware, routing, FastAPI) take longer than
model and log together.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import perf_counter

import uuid_utils
from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fraud_kedro.prediction_log.tables import MAX_ID_LENGTH
from fraud_kedro.serving.answers import Reply, refusal
from fraud_kedro.serving.batch_service import BATCH
from fraud_kedro.serving.bodies import (
    GONE,
    REQUEST_ID_KEY,
    BodyTooLargeError,
    ClientGoneError,
    held_limit,
    too_large,
)
from fraud_kedro.serving.guard import OPEN
from fraud_kedro.serving.logs import REQUEST_ID_FIELD
from fraud_kedro.serving.metrics import FAILURES, REQUESTS
from fraud_kedro.serving.runtime import Runtime
from fraud_kedro.serving.slow_clients import BodyClock, BodyTooSlowError

logger = logging.getLogger(__name__)
access = logging.getLogger("fraud_kedro.access")

PREDICT = "/predict"
DRIFT = "/monitoring/drift"
# Of BentoML, behind the API; other paths share one label.
_NATIVE = ("/score", "/score_batch")

_JSON = b"application/json"
_REQUEST_ID = b"x-request-id"
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    # Scores are nobody else's to keep.
    (b"cache-control", b"no-store"),
)
_JSON_SECURITY = (*_SECURITY, (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"))
_PAGE_SECURITY = (*_SECURITY, (b"content-security-policy", b"frame-ancestors 'self'"))
_MAX_DIGITS = 15
_MAX_HEADERS = 100

_TOO_SLOW = refusal(
    408, "The body took too long to arrive. Send it at once.", headers=((b"connection", b"close"),)
)
_TOO_MANY_HEADERS = refusal(
    431, f"At most {_MAX_HEADERS} headers are read.", headers=((b"connection", b"close"),)
)


class HotPath:
    """ASGI middleware for `bentoml.Service.add_asgi_middleware`.

    Parameters
    ----------
    app : ASGI application
        What comes behind.
    runtime : Runtime
    api : ASGI application
        The HTTP API, which answers the probes and batches.
    """

    def __init__(self, app: ASGIApp, runtime: Runtime, api: ASGIApp) -> None:
        self._app = app
        self._api = api
        self._runtime = runtime
        self._guard = None if runtime.guard.is_open else runtime.guard
        self._access_log = runtime.settings.access_log
        self._predict = runtime.predictor.predict
        self._limit = runtime.settings.max_body_bytes
        self._held_limit = held_limit(runtime.settings.max_batch_bytes)
        self._read = BodyClock(runtime.settings.request_timeout_seconds / 2).read
        known = {getattr(route, "path", "") for route in getattr(api, "routes", ())}
        self._routes = frozenset({*known, *_NATIVE})
        self._counters: dict[tuple[str, int], Counter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse, or hand on."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        refused = None if self._guard is None else self._guard.refuse(scope)
        if kind != "http":
            await (self._app if refused is None else _hang_up)(scope, receive, send)
            return
        request_id = scope[REQUEST_ID_KEY] = _request_id(scope)
        if self._access_log:
            send = _noting(scope, request_id, send)
        path = scope["path"]
        if refused is None and len(scope["headers"]) > _MAX_HEADERS:
            refused = _TOO_MANY_HEADERS
        if refused is not None:
            self._count(path, refused.status)
            await send_reply(send, refused, request_id)
            return
        try:
            if path == PREDICT and scope["method"] == "POST":
                await self._answer(scope, receive, send, request_id)
                return
            send = self._marked(send, request_id, path)
            if path == BATCH and scope["method"] == "POST":
                # It reads its body in parts and streams its answer; the layers behind hold both whole.
                await _stop_timer(send)
                await self._api(scope, receive, send)
            elif scope["method"] == "POST":
                if path == DRIFT:
                    # It answers within a minute, whatever the time of other requests.
                    await _stop_timer(send)
                await self._limited(scope, receive, send, request_id)
            else:
                await (self._api if path in OPEN else self._app)(scope, receive, send)
        except asyncio.CancelledError:
            # The server answers 504 in this one's place.
            self._count(path, 504)
            FAILURES.labels("timeout").inc()
            raise

    def _count(self, path: str, status: int) -> None:
        counter = self._counters.get((path, status))
        if counter is None:
            known = path in self._routes
            counter = REQUESTS.labels(path if known else "other", str(status))
            if known:
                self._counters[path, status] = counter
        counter.inc()

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        refused = inspect_headers(scope, self._limit)
        if refused is None:
            try:
                body = await self._read(receive, self._limit)
            except BodyTooLargeError:
                refused = too_large(self._limit)
            except BodyTooSlowError:
                refused = _TOO_SLOW
            except ClientGoneError:
                refused = GONE
        try:
            reply = refused or await self._predict(body, request_id, scope["query_string"])
        except Exception:
            # Left to BentoML, the client would wait for its timeout.
            logger.exception("A transaction could not be answered.")
            FAILURES.labels("defect").inc()
            reply = refusal(500, "The service failed to answer. Its log says why.")
        self._count(PREDICT, reply.status)
        await send_reply(send, reply, request_id)

    async def _limited(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Let a body through that is within the limit; the layers behind would hold it whole as well."""
        if _length(scope) > self._held_limit:
            await send_reply(send, too_large(self._held_limit), request_id)
            return
        try:
            body = await self._read(receive, self._held_limit)
        except BodyTooLargeError:
            await send_reply(send, too_large(self._held_limit), request_id)
            return
        except BodyTooSlowError:
            await send_reply(send, _TOO_SLOW, request_id)
            return
        except ClientGoneError:
            await send_reply(send, GONE, request_id)
            return
        whole: Message | None = {"type": "http.request", "body": body, "more_body": False}

        async def replay() -> Message:
            nonlocal whole
            if whole is None:
                return await receive()
            message, whole = whole, None
            return message

        await self._app(scope, replay, send)

    def _marked(self, send: Send, request_id: str, path: str) -> Send:
        """Count an answer of the layers behind, add the request's id and what browsers mind."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(path, message["status"])
                given = {name.lower() for name, _ in message["headers"]}
                added = ((_REQUEST_ID, request_id.encode("latin-1")), *_PAGE_SECURITY)
                message = {
                    **message,
                    "headers": [*message["headers"], *(pair for pair in added if pair[0] not in given)],
                }
            await send(message)

        return marked


async def _stop_timer(send: Send) -> None:
    """End BentoML's timer: a batch may come for minutes, and watches over its body itself.

    The timer ends with the first message that passes it. The server refuses this
    one, an extension it does not offer, and goes on.
    """
    with suppress(RuntimeError):
        await send({"type": "http.response.debug", "info": {}})


def inspect_headers(scope: Scope, limit: int) -> Reply | None:
    """Check what the headers of a JSON request say.

    Returns
    -------
    Reply or None
        413 or 415 if the body need not be read.
    """
    content_type = None
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            if len(value) > _MAX_DIGITS or int(value) > limit:
                return too_large(limit)
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            return refusal(415, "Send the body as it is, without Content-Encoding.")
    # Without the header a page of another site could post here unasked: browsers check it first.
    if content_type != _JSON and (content_type or b"").split(b";", 1)[0].strip().lower() != _JSON:
        return refusal(415, "Send JSON, with the header Content-Type: application/json.")
    return None


async def send_reply(send: Send, reply: Reply, request_id: str) -> None:
    """Send an answer with a JSON body."""
    headers = [
        (b"content-type", _JSON),
        (b"content-length", b"%d" % len(reply.body)),
        (_REQUEST_ID, request_id.encode("latin-1")),
        *_JSON_SECURITY,
        *reply.headers,
    ]
    if reply.retry_after is not None:
        headers.append((b"retry-after", b"%d" % reply.retry_after))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _noting(scope: Scope, request_id: str, send: Send) -> Send:
    """Write a line to the access log when the answer is whole: no values, no query, no key."""
    start, status = perf_counter(), 0

    async def noting(message: Message) -> None:
        nonlocal status
        await send(message)
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            milliseconds = round(1000 * (perf_counter() - start), 3)
            access.info(
                "%s %s %d",
                scope["method"],
                scope["path"],
                status,
                extra={REQUEST_ID_FIELD: request_id, "milliseconds": milliseconds, "status": status},
            )

    return noting


def _request_id(scope: Scope) -> str:
    """The client's id of the request, or a new one."""
    for name, value in scope["headers"]:
        if name == _REQUEST_ID:
            text: str = value.decode("latin-1")
            if 0 < len(text) <= MAX_ID_LENGTH and text.isprintable():
                return text
    return str(uuid_utils.uuid7())


async def _hang_up(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Refuse a WebSocket before it is open: the client gets 403."""
    await send({"type": "websocket.close", "code": 1008})


def _length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return 0
