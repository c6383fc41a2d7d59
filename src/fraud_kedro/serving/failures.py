"""What failures of the log are called in the metrics."""

from __future__ import annotations

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log.database import LogUnavailableError
from fraud_kedro.prediction_log.group_commit import LogFullError
from fraud_kedro.prediction_log.spill import SpillError
from fraud_kedro.prediction_log.writer import LogBusyError


def cause(error: PredictionLogError) -> str:
    """The label of a failure to log."""
    match error:
        case LogFullError():
            return "log_queue_full"
        case SpillError():
            return "spill"
        case LogBusyError():
            return "log_busy"
        case LogUnavailableError():
            return "log_unavailable"
        case _:
            return "log_refused"
