"""Tells another system what was decided: one POST of JSON, which may fail."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

logger = logging.getLogger(__name__)

URL_VARIABLE = "FRAUD_WEBHOOK_URL"
SECONDS = 5.0


class _NoRedirect(HTTPRedirectHandler):
    """What is told goes to the address that was given, and to no other."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


def announce(url: str | None, event: Mapping[str, Any], *, seconds: float = SECONDS) -> bool:
    """Send an event.

    Parameters
    ----------
    url : str or None
        Without one, nothing is sent. Its path may be a secret: the log names the
        host alone.
    event : mapping
        For JSON.
    seconds : float
        After which it is given up.

    Returns
    -------
    bool
        Whether it was taken. Why not is logged, and never an error: what was
        decided does not hang on who hears of it.
    """
    if not url:
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        host = None
    if host is None:
        logger.warning("%s is not an http or https address; nothing was sent.", URL_VARIABLE)
        return False
    body = json.dumps(event, default=str).encode()
    request = Request(url, data=body, headers={"Content-Type": "application/json"}, method="POST")  # noqa: S310 - its scheme is checked
    try:
        with build_opener(_NoRedirect).open(request, timeout=seconds) as answer:
            status = answer.status
    except HTTPError as error:
        status = error.code
        error.close()
    # An address that cannot be encoded is a ValueError.
    except (OSError, ValueError) as error:
        logger.warning("The webhook at %s took nothing (%s).", host, type(error).__name__)
        return False
    if status >= 300:
        logger.warning("The webhook at %s answered %s.", host, status)
    return bool(status < 300)
