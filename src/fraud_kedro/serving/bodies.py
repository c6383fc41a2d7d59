"""Reads the body of a request, up to a limit."""

from __future__ import annotations

from starlette.types import Receive


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
