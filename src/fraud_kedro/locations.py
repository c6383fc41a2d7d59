"""Where things lie below a root: the one place that pipelines and service agree on."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT_VARIABLE = "FRAUD_ROOT"
LOG_VARIABLE = "FRAUD_LOG_URL"
TRACKING_VARIABLE = "FRAUD_MLFLOW_TRACKING_URI"
DEFAULT_ROOT = "data"

#: Names a run on drift, and its files.
RUN_ID = re.compile(r"[0-9A-Za-z-]{1,40}")


def root_folder(default: str = DEFAULT_ROOT) -> Path:
    """The root: ``FRAUD_ROOT`` if set, else the environment's own."""
    return Path(os.environ.get(ROOT_VARIABLE) or default)


def tracking_uri(root: Path) -> str:
    """The MLflow store: ``FRAUD_MLFLOW_TRACKING_URI`` if set, else SQLite below the root."""
    return os.environ.get(TRACKING_VARIABLE) or f"sqlite:///{root / 'mlflow' / 'mlflow.db'}"


def artifact_folder(root: Path) -> Path:
    """Where MLflow keeps artifacts when the store is the local one."""
    return root / "mlflow" / "artifacts"


def champion_folder(root: Path) -> Path:
    """The local copy of the champion's bundle."""
    return root / "06_models" / "champion"


def prediction_log_url(root: Path) -> str:
    """The default prediction log, a SQLite file."""
    return f"sqlite:///{root / 'prediction_log.db'}"


def log_url(root: Path) -> str:
    """The prediction log: ``FRAUD_LOG_URL`` if set, else the default one."""
    return os.environ.get(LOG_VARIABLE) or prediction_log_url(root)


def drift_page(root: Path) -> Path:
    """The newest page about drift; what belongs to it lies beside it."""
    return root / "08_reporting" / "monitoring" / "drift.html"


def drift_verdict_file(root: Path) -> Path:
    """The newest verdict about drift."""
    return drift_page(root).with_suffix(".json")


def performance_file(root: Path) -> Path:
    """The newest figures of performance over time."""
    return root / "08_reporting" / "monitoring" / "performance.json"
