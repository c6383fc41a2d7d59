"""The service's Prometheus metrics.

They belong to the module, as prometheus_client wants it: under several workers
each keeps its values in shared files and `/metrics` of any worker adds them up.
"""

from __future__ import annotations

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from fraud_kedro.serving.metrics_folder import use_metrics_folder

__all__ = ["CONTENT_TYPE_LATEST"]

use_metrics_folder()

_REGISTRY = CollectorRegistry()

REQUEST_SECONDS = Histogram(
    "fraud_request_seconds",
    "Time from a whole body to its answer, the commit included; its count is the requests by HTTP status.",
    ["route", "status"],
    buckets=(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0),
    registry=_REGISTRY,
)
PREDICTIONS = Counter(
    "fraud_predictions",
    "Transactions scored, by decision and model.",
    ["decision", "model_version"],
    registry=_REGISTRY,
)
PROBABILITY = Histogram(
    "fraud_probability",
    "Calibrated probability of fraud of the transactions scored.",
    buckets=(0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99),
    registry=_REGISTRY,
)
LOG_COMMIT_SECONDS = Histogram(
    "fraud_log_commit_seconds",
    "Time one commit of the prediction log takes.",
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0),
    registry=_REGISTRY,
)
LOG_RECORDS = Counter("fraud_log_records", "Predictions committed to the log.", registry=_REGISTRY)
LOG_FAILURES = Counter(
    "fraud_log_failures", "Requests refused because their prediction could not be logged.", registry=_REGISTRY
)
LOG_WAITING = Gauge(
    "fraud_log_waiting",
    "Predictions that wait for a commit.",
    registry=_REGISTRY,
    multiprocess_mode="livesum",
)
MODEL_LOADS = Counter(
    "fraud_model_loads", "Models loaded, and attempts that failed.", ["outcome"], registry=_REGISTRY
)
# The newest value wins: a gauge per worker would keep models that are gone.
MODEL_VERSION = Gauge(
    "fraud_model_version",
    "Registry version of the champion that serves; 0 for a bundle without one.",
    registry=_REGISTRY,
    multiprocess_mode="mostrecent",
)


def exposition() -> bytes:
    """Render every metric in Prometheus' text format, over all workers."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(_REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
