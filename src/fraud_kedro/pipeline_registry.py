"""The project's pipelines, in the order they run."""

from kedro.pipeline import Pipeline

from fraud_kedro.pipelines.data_processing.pipeline import create_pipeline as data_processing
from fraud_kedro.pipelines.export.pipeline import create_pipeline as export
from fraud_kedro.pipelines.monitoring.pipeline import create_pipeline as monitoring
from fraud_kedro.pipelines.training.pipeline import create_pipeline as training
from fraud_kedro.pipelines.tuning.pipeline import create_pipeline as tuning


def register_pipelines() -> dict[str, Pipeline]:
    """Name the pipelines; ``__default__`` trains a champion end to end."""
    pipelines = {
        "data_processing": data_processing(),
        "tuning": tuning(),
        "training": training(),
        "export": export(),
    }
    default = sum(pipelines.values(), Pipeline([]))
    return {**pipelines, "monitoring": monitoring(), "__default__": default}
