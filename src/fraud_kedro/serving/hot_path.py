"""Answers ``POST /predict`` in front of every other layer, and holds the limits of all routes.

The layers behind it (BentoML's middleware, routing, FastAPI) take longer than
model and log together.
"""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fraud_kedro.prediction_log.tables import MAX_ID_LENGTH
from fraud_kedro.serving.answers import Reply, refusal
from fraud_kedro.serving.runtime import Runtime

logger = logging.getLogger(__name__)

PREDICT = "/predict"

# BentoML has routes of its own for these, and they come first.
_PROBES = frozenset({"/livez", "/readyz"})

_JSON = b"application/json"
_MAX_DIGITS = 15


# Goes nowhere, but BentoML keeps a request alive until its timeout if nothing is sent.
GONE = Reply(499, b"")


class ClientGoneError(Exception):
    """The client hung up before its body was whole."""


class BodyTooLargeError(Exception):
    """The body is larger than the limit."""


class HotPath:
    """ASGI middleware for `bentoml.Service.add_asgi_middleware`.

    Parameters
    ----------
    app : ASGI application
        What comes behind.
    runtime : Runtime
    api : ASGI application
        The HTTP API, which answers the probes.
    """

    def __init__(self, app: ASGIApp, runtime: Runtime, api: ASGIApp) -> None:
        self._app = app
        self._api = api
        self._runtime = runtime
        self._predict = runtime.predictor.predict
        self._limit = runtime.settings.max_body_bytes
        self._batch_limit = runtime.settings.max_batch_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse, or hand on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if scope["method"] == "POST":
            if path == PREDICT:
                await self._answer(scope, receive, send)
                return
            await self._limited(scope, receive, send)
            return
        await (self._api if path in _PROBES else self._app)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused, request_id = inspect_headers(scope, self._limit)
        if refused is None:
            try:
                body = await read_body(receive, self._limit)
            except BodyTooLargeError:
                refused = too_large(self._limit)
            except ClientGoneError:
                refused = GONE
        try:
            reply = refused or await self._predict(body, request_id)
        except Exception:
            # Left to BentoML, the client would wait for its timeout.
            logger.exception("A transaction could not be answered.")
            reply = refusal(500, "The service failed to answer. Its log says why.")
        await send_reply(send, reply)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a body through that is within the limit; the layers behind would hold it whole as well."""
        if _length(scope) > self._batch_limit:
            await send_reply(send, too_large(self._batch_limit))
            return
        try:
            body = await read_body(receive, self._batch_limit)
        except BodyTooLargeError:
            await send_reply(send, too_large(self._batch_limit))
            return
        except ClientGoneError:
            await send_reply(send, GONE)
            return
        whole: Message | None = {"type": "http.request", "body": body, "more_body": False}

        async def replay() -> Message:
            nonlocal whole
            if whole is None:
                return await receive()
            message, whole = whole, None
            return message

        await self._app(scope, replay, send)


def inspect_headers(scope: Scope, limit: int) -> tuple[Reply | None, str | None]:
    """Check what the headers of a JSON request say.

    Returns
    -------
    Reply or None
        413 or 415 if the body need not be read.
    str or None
        The client's request id.
    """
    content_type = request_id = None
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            if len(value) > _MAX_DIGITS or int(value) > limit:
                return too_large(limit), None
        elif name == b"content-encoding":
            if value.strip().lower() not in (b"", b"identity"):
                return refusal(415, "Send the body as it is, without Content-Encoding."), None
        elif name == b"x-request-id":
            text = value.decode("latin-1")
            request_id = text if 0 < len(text) <= MAX_ID_LENGTH and text.isprintable() else None
    # Without the header a page of another site could post here unasked: browsers check it first.
    if content_type != _JSON and (content_type or b"").split(b";", 1)[0].strip().lower() != _JSON:
        return refusal(415, "Send JSON, with the header Content-Type: application/json."), None
    return None, request_id


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read a request's body.

    Raises
    ------
    BodyTooLargeError
        As soon as more than `limit` bytes have come.
    ClientGoneError
        If the client hung up.
    """
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > limit:
            raise BodyTooLargeError
        return body
    parts, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise BodyTooLargeError
    return b"".join(parts)


async def send_reply(send: Send, reply: Reply) -> None:
    """Send an answer with a JSON body."""
    headers = [(b"content-type", _JSON), (b"content-length", b"%d" % len(reply.body))]
    if reply.retry_after is not None:
        headers.append((b"retry-after", b"%d" % reply.retry_after))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def too_large(limit: int) -> Reply:
    """Refuse a body for its size."""
    return refusal(413, f"The body should have at most {limit} bytes. Send it in parts.")


def _length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return 0
