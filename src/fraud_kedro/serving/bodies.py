"""What the layers of the service share about requests and their bodies."""

from __future__ import annotations

from starlette.types import Receive

from fraud_kedro.serving.answers import Reply, refusal

# Where the layers behind the first find a request's id.
REQUEST_ID_KEY = "fraud_kedro.request_id"

_HELD_BYTES = 64 * 1024 * 1024

# Goes nowhere, but BentoML keeps a request alive until its timeout if nothing is sent.
GONE = Reply(499, b"")


class ClientGoneError(Exception):
    """The client hung up before its body was whole."""


class BodyTooLargeError(Exception):
    """The body is larger than the limit."""


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


def held_limit(max_batch_bytes: int) -> int:
    """Most bytes of a body that is held whole."""
    return min(max_batch_bytes, _HELD_BYTES)


def too_large(limit: int) -> Reply:
    """Refuse a body for its size."""
    return refusal(413, f"The body should have at most {limit} bytes. Send it in parts.")
