"""BentoML's tracing, on request: a span of every request sent to an OpenTelemetry collector."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from fraud_kedro.serving.settings import SettingsError

_EXPORTER = "opentelemetry.exporter.otlp.proto.http"
# What orchestrators and Prometheus ask every few seconds.
_NOT_TRACED = "livez,readyz,metrics"


def tracing_options(endpoint: str | None) -> dict[str, Any]:
    """Make the option ``tracing`` of a BentoML service.

    Parameters
    ----------
    endpoint : str or None
        OTLP/HTTP address. Without one nothing is traced: a span of a request
        costs more than the model.

    Raises
    ------
    SettingsError
        If the exporter is not installed.
    """
    if endpoint is None:
        return {"excluded_urls": ".*"}
    if not _is_installed(_EXPORTER):
        raise SettingsError(
            "FRAUD_TRACING_ENDPOINT is set, and the exporter it needs is not installed. Install it "
            "(`pip install opentelemetry-exporter-otlp-proto-http`, or the extra `tracing` of fraud_kedro), "
            "or unset the variable."
        )
    return {
        "exporter_type": "otlp",
        "sample_rate": 1.0,
        "excluded_urls": _NOT_TRACED,
        "otlp": {"protocol": "http", "endpoint": endpoint, "http": {}},
    }


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        # One of its parents is not there.
        return False
