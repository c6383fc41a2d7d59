"""The service's Prometheus metrics.

They belong to the module, as prometheus_client wants it: under several workers
each keeps its values in shared files and `/metrics` of any worker adds them up.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Sequence
from pathlib import Path

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

REQUESTS = Counter(
    "fraud_requests",
    "Requests, by route and HTTP status; 499 stands for a client that hung up.",
    ["route", "status"],
    registry=_REGISTRY,
)
FAILURES = Counter(
    "fraud_failures",
    "Transactions and batches that the service could not answer, by what failed.",
    ["cause"],
    registry=_REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "fraud_request_seconds",
    "Time from a whole body to its answer, the commit included.",
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
    "Time one commit of the prediction log takes, that of a file that is synced included.",
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0),
    registry=_REGISTRY,
)
LOG_RECORDS = Counter("fraud_log_records", "Predictions committed to the log.", registry=_REGISTRY)
LOG_LOST = Counter(
    "fraud_log_lost",
    "Predictions answered before their commit that never came to it (FRAUD_LOG_MODE=background).",
    registry=_REGISTRY,
)
LOG_SPILLED = Counter(
    "fraud_log_spilled", "Predictions written to the spill file, or found there.", registry=_REGISTRY
)
LOG_REPLAYED = Counter("fraud_log_replayed", "Spilled predictions put into the database.", registry=_REGISTRY)
LOG_SET_ASIDE = Counter(
    "fraud_log_set_aside", "Spilled predictions the database did not take.", registry=_REGISTRY
)
LOG_PRUNED = Counter("fraud_log_pruned", "Rows whose features retention has taken away.", registry=_REGISTRY)
# All workers look at one file.
LOG_SPILL_BYTES = Gauge(
    "fraud_log_spill_bytes",
    "Bytes that wait in the spill file.",
    registry=_REGISTRY,
    multiprocess_mode="livemax",
)
LOG_WAITING = Gauge(
    "fraud_log_waiting",
    "Predictions that wait for a commit.",
    registry=_REGISTRY,
    multiprocess_mode="livesum",
)
LABELS = Counter(
    "fraud_labels", "Late labels taken: stored, or held already.", ["outcome"], registry=_REGISTRY
)
CHALLENGER_FAILURES = Counter(
    "fraud_challenger_failures",
    "Transactions of the challenger's share that the champion answered because the challenger failed.",
    registry=_REGISTRY,
)
SHADOW = Counter(
    "fraud_shadow",
    "Transactions offered to the shadow: logged, shed for want of time, or failed.",
    ["outcome"],
    registry=_REGISTRY,
)
MODEL_LOADS = Counter(
    "fraud_model_loads", "Models loaded, and attempts that failed.", ["outcome"], registry=_REGISTRY
)
MODEL_INFO = Gauge(
    "fraud_model_info",
    "How many workers serve this model.",
    ["model_version", "algorithm", "source"],
    registry=_REGISTRY,
    multiprocess_mode="livesum",
)
# The newest value wins: a gauge per worker would keep models that are gone.
MODEL_VERSION = Gauge(
    "fraud_model_version",
    "Registry version of the champion that serves; 0 for a bundle without one.",
    registry=_REGISTRY,
    multiprocess_mode="mostrecent",
)


# Of monitoring's files, the same for all workers: whoever is asked sets them first.
DRIFT = Gauge(
    "fraud_drift_verdict",
    "Newest verdict about the champion that serves: 0 ok, 1 warn, 2 drift; NaN where none is known.",
    registry=_REGISTRY,
    multiprocess_mode="mostrecent",
)
DRIFT_TIME = Gauge(
    "fraud_drift_until_timestamp_seconds",
    "Until when the newest verdict about drift has looked.",
    registry=_REGISTRY,
    multiprocess_mode="mostrecent",
)
PERFORMANCE_TIME = Gauge(
    "fraud_performance_timestamp_seconds",
    "When performance was measured last.",
    registry=_REGISTRY,
    multiprocess_mode="mostrecent",
)
RECALL = Gauge(
    "fraud_performance_recall",
    "Recall of the champion that serves, by the labels that have come; NaN where too few have.",
    registry=_REGISTRY,
    multiprocess_mode="mostrecent",
)
RECALL_HIGH = Gauge(
    "fraud_performance_recall_high",
    "Upper end of the 95 % interval of that recall.",
    registry=_REGISTRY,
    multiprocess_mode="mostrecent",
)
RECALL_EXPECTED = Gauge(
    "fraud_performance_recall_expected",
    "The champion's recall on its test rows.",
    registry=_REGISTRY,
    multiprocess_mode="mostrecent",
)
RECALL_LIMIT = Gauge(
    "fraud_performance_recall_limit",
    "Lower end of the 95 % interval of the champion's recall on its test rows.",
    registry=_REGISTRY,
    multiprocess_mode="mostrecent",
)
FLAG_RATE = Gauge(
    "fraud_model_flag_rate",
    "Share of transactions that the champion is expected to flag, by its training rows.",
    registry=_REGISTRY,
    multiprocess_mode="mostrecent",
)
MODEL_CREATED = Gauge(
    "fraud_model_created_timestamp_seconds",
    "When the champion that serves was exported.",
    registry=_REGISTRY,
    multiprocess_mode="mostrecent",
)


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """Observe many values at once: one by one they take longer than the rest of their answers."""
    bounds = [float(bound) for bound in histogram._upper_bounds]
    for bucket, number in Tally(bisect_left(bounds, value) for value in values).items():
        histogram._buckets[bucket].inc(number)
    histogram._sum.inc(sum(values))


def exposition() -> bytes:
    """Render every metric in Prometheus' text format, over all workers."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return generate_latest(_REGISTRY)
    forget_the_dead(Path(folder))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def forget_the_dead(folder: Path) -> None:
    """Drop the gauges of workers that were killed; what they have counted stays."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not _is_alive(int(pid)):
            file.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A killed process that nobody has waited for answers as well.
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return not Path("/proc/self").exists()
