"""A folder of its own for the metrics that the workers of a service share.

BentoML has one folder for all services of a user, and empties it whenever one
of them starts.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

_OWN = "_FRAUD_KEDRO_METRICS"
_PROMETHEUS = "PROMETHEUS_MULTIPROC_DIR"


def make_metrics_folder() -> None:
    """Make the folder, in the process that will start the workers; they inherit its name."""
    if _OWN in os.environ:
        return
    os.environ[_OWN] = tempfile.mkdtemp(prefix="fraud-metrics-")
    atexit.register(shutil.rmtree, os.environ[_OWN], ignore_errors=True)


def use_metrics_folder() -> None:
    """Use it, in a worker; call before any metric is made."""
    if _OWN in os.environ and _PROMETHEUS in os.environ:
        os.environ[_PROMETHEUS] = os.environ[_OWN]
