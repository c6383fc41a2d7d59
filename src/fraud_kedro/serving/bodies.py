"""What the layers of the service share about requests and their bodies."""

from __future__ import annotations

from fraud_kedro.serving.answers import Reply, refusal

# Where the layers behind the first find a request's id.
REQUEST_ID_KEY = "fraud_kedro.request_id"

# Goes nowhere, but BentoML keeps a request alive until its timeout if nothing is sent.
GONE = Reply(499, b"")


class BodyTooLargeError(Exception):
    """The body is larger than the limit."""


def too_large(limit: int) -> Reply:
    """Refuse a body for its size."""
    return refusal(413, f"The body should have at most {limit} bytes. Send it in parts.")
