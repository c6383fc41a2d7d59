"""Takes in the body of a batch: counted while it comes, on disk if it is large."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import IO, BinaryIO, cast

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from fraud_kedro.serving.batch import BatchError, broken
from fraud_kedro.serving.batch_formats import Format, described, format_sent
from fraud_kedro.serving.bodies import BodyTooLargeError
from fraud_kedro.serving.requests import FieldError

FIELD = "file"

# More than this goes to a file in the folder for temporary files (TMPDIR).
_IN_MEMORY = 8 * 1024 * 1024
# Written at a time: off the event loop, which a slow disk would hold up.
_BLOCK = 1024 * 1024


@dataclass
class Upload:
    """A body that has come in whole.

    Attributes
    ----------
    file : binary file
        At its start.
    kind : Format
    name : str or None
        What the client calls it, without an ending.
    """

    file: BinaryIO
    kind: Format
    name: str | None = None


async def receive(request: Request, limit: int, patience: float) -> Upload:
    """Take in a request's body.

    Parameters
    ----------
    request : Request
    limit : int
        Most bytes.
    patience : float
        Seconds that may pass before more of it comes.

    Raises
    ------
    BodyTooLargeError
        As soon as more than `limit` bytes have come, or are announced.
    BatchError
        408, 415 or 422, with the reason.
    ClientDisconnect
        If the client hung up.
    """
    headers = request.headers
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise BatchError(
            415,
            [
                FieldError(
                    "encoding",
                    ("header", "content-encoding"),
                    "Send the body as it is, without Content-Encoding.",
                )
            ],
        )
    announced = headers.get("content-length", "")
    if announced.isdigit() and (len(announced) > len(str(limit)) or int(announced) > limit):
        raise BodyTooLargeError
    content_type = headers.get("content-type", "")
    body = _counted(request, limit, patience)
    try:
        if described(content_type).media_type == "multipart/form-data":
            _refuse_other_sites(request)
            return await _from_form(request, body)
        return await _from_body(content_type, body)
    except OSError as error:
        raise BatchError(
            503, [FieldError("spool", ("body",), f"could not be kept while it came: {error.strerror}")]
        ) from error


async def _counted(request: Request, limit: int, patience: float) -> AsyncGenerator[bytes, None]:
    size = 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(patience):
                chunk = await anext(stream, None)
        except TimeoutError as error:
            raise broken("timeout", f"nothing came for {patience:g} seconds", status=408) from error
        if chunk is None:
            return
        size += len(chunk)
        if size > limit:
            raise BodyTooLargeError
        yield chunk


async def _from_body(content_type: str, body: AsyncGenerator[bytes, None]) -> Upload:
    # Refused by its header alone, if that says enough.
    if described(content_type).media_type not in ("", "application/octet-stream"):
        format_sent(content_type, b"")
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - whoever answers closes it
    try:
        parts: list[bytes] = []
        held = 0
        async for chunk in body:
            parts.append(chunk)
            held += len(chunk)
            if held >= _BLOCK:
                await asyncio.to_thread(file.write, b"".join(parts))
                parts, held = [], 0
        file.write(b"".join(parts))
        return _recognised(file, content_type, None)
    except BaseException:
        file.close()
        raise


async def _from_form(request: Request, body: AsyncGenerator[bytes, None]) -> Upload:
    parser = MultiPartParser(request.headers, body, max_files=1, max_fields=0)
    try:
        form = await parser.parse()
    # A charset that decodes nothing is a UnicodeError.
    except (MultiPartException, FormParserError, KeyError, UnicodeError) as error:
        reason = getattr(error, "message", "") or "it cannot be read"
        raise broken("multipart_invalid", f"should have one file as the field `{FIELD}`: {reason}") from error
    upload = form.get(FIELD)
    if not isinstance(upload, UploadFile):
        await form.close()
        raise broken("missing", "is required: one file", FIELD)
    try:
        return _recognised(upload.file, upload.content_type or "", upload.filename)
    except BaseException:
        upload.file.close()
        raise


def _recognised(file: IO[bytes], content_type: str, file_name: str | None) -> Upload:
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    kind = format_sent(content_type, start, file_name)
    name = None if file_name is None else file_name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]
    return Upload(cast("BinaryIO", file), kind, name or None)


def _refuse_other_sites(request: Request) -> None:
    """Browsers post forms of any site without asking: see who sent this one."""
    headers = request.headers
    origin = headers.get("origin")
    own = headers.get("host", "")
    if headers.get("sec-fetch-site", "same-origin") in ("cross-site", "same-site") or (
        origin is not None and origin.partition("://")[2] != own
    ):
        raise BatchError(
            403, [FieldError("origin", ("header", "origin"), "a page of another site may not upload")]
        )
