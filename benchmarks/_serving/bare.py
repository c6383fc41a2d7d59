"""The bare limit: the least that answers a transaction with the graph's probability."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fraud_kedro.champion.bundle import read_bundle
from fraud_kedro.champion.scorer import Scorer

_scorer = Scorer(read_bundle(Path(os.environ["BENCHMARK_BUNDLE"])))
_features = _scorer.schema.features
_decode = msgspec.json.Decoder(dict[str, float]).decode
_encode = msgspec.json.Encoder().encode
_run = _scorer._session.run


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An ASGI application."""
    if scope["type"] != "http":
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if body:
        values = _decode(body)
        row = np.array([[values[name] for name in _features]], dtype=np.float32)
        content = _encode({"probability": float(_run(["probability"], {"features": row})[0][0])})
    else:
        content = b"{}"
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})
