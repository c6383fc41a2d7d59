"""The BentoML service: what ``bentoml serve`` starts."""

from __future__ import annotations

import logging
import os
import sys
from http import HTTPStatus
from typing import Any, cast

import bentoml
import msgspec
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.utils.analytics import usage_stats
from bentoml.exceptions import BentoMLException

from fraud_kedro.serving.answers import Reply, encode
from fraud_kedro.serving.app import create_app
from fraud_kedro.serving.hot_path import HotPath
from fraud_kedro.serving.metrics_folder import make_metrics_folder
from fraud_kedro.serving.runtime import Runtime
from fraud_kedro.serving.settings import SettingsError, load_settings
from fraud_kedro.serving.slow_clients import close_silent_connections
from fraud_kedro.serving.tracing import tracing_options

# BentoML shows warnings alone of everyone else.
logging.getLogger("fraud_kedro").setLevel(logging.INFO)

# The command has read this setting, and keeps it, before it comes here.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
usage_stats.do_not_track.cache_clear()

_FLUSH_MILLISECONDS = 3000

make_metrics_folder()

try:
    settings = load_settings()
except SettingsError as error:
    sys.exit(str(error))

runtime = Runtime(settings)
api = create_app(runtime)


@bentoml.service(
    name="FraudDetection",
    workers=settings.workers,
    http={"host": settings.listens_on, "port": settings.port},
    # Access log, metrics and tracing of BentoML each cost more than the model; ours are in `metrics`, and
    # tracing is on where it is asked for.
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    tracing=tracing_options(settings.tracing_endpoint),
    # A timer of each request lives this long, answered or not.
    traffic={"timeout": settings.request_timeout_seconds},
)
class FraudDetection:
    """Card-fraud detection: native methods beside the HTTP API, with the same scorer and log."""

    @bentoml.api  # type: ignore[untyped-decorator]
    async def score(self, transaction: dict[str, Any], explain: bool = False) -> dict[str, Any]:
        """Score one transaction: its raw features by name, and an optional ``transaction_id``.

        With ``explain`` the answer has ``reasons``.
        """
        query = b"explain=true" if explain else b""
        return _result(await runtime.predictor.predict(encode(transaction), query=query))

    @bentoml.api  # type: ignore[untyped-decorator]
    async def score_batch(self, transactions: list[dict[str, Any]]) -> dict[str, Any]:
        """Score many transactions: ``predictions`` of those that could be, ``errors`` of the others."""
        return _result(await runtime.predictor.batches.answer_json(encode({"transactions": transactions})))

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def send_spans(self) -> None:
        """Send the spans of the last seconds, which a process ended by a signal would keep."""
        if settings.tracing_endpoint is not None:
            BentoMLContainer.tracer_provider.get().force_flush(timeout_millis=_FLUSH_MILLISECONDS)


# Half of the time goes to a request's arrival: its header here, its body in `hot_path`.
close_silent_connections(settings.request_timeout_seconds / 2)

# The decorator's type says it gives the class back; it gives a service.
_service = cast("bentoml.Service[FraudDetection]", FraudDetection)
_service.add_asgi_middleware(HotPath, runtime=runtime, api=api)
_service.mount_asgi_app(api, path="/")


def _result(reply: Reply) -> dict[str, Any]:
    if reply.status != 200:
        raise BentoMLException(reply.body.decode(), error_code=HTTPStatus(reply.status))
    return cast("dict[str, Any]", msgspec.json.decode(reply.body))
