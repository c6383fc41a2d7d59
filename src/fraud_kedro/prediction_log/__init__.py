"""What was predicted: one table, one way in, one way out."""

from fraud_kedro.prediction_log.generation import raise_generation, read_generation
from fraud_kedro.prediction_log.group_commit import GroupCommit
from fraud_kedro.prediction_log.labels import Label, LabelsWritten, write_labels
from fraud_kedro.prediction_log.reader import PredictionReader, open_for_reading
from fraud_kedro.prediction_log.tables import PredictionRecord, predictions
from fraud_kedro.prediction_log.wide_view import refresh_wide_view
from fraud_kedro.prediction_log.writer import PredictionWriter, open_for_writing

__all__ = [
    "GroupCommit",
    "Label",
    "LabelsWritten",
    "PredictionReader",
    "PredictionRecord",
    "PredictionWriter",
    "open_for_reading",
    "open_for_writing",
    "predictions",
    "raise_generation",
    "read_generation",
    "refresh_wide_view",
    "write_labels",
]
