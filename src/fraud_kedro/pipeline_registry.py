"""The project's pipelines, in the order they run."""

from kedro.pipeline import Pipeline

from fraud_kedro.pipelines.data_processing.pipeline import create_pipeline as data_processing
from fraud_kedro.pipelines.export.pipeline import create_pipeline as export
from fraud_kedro.pipelines.monitoring.pipeline import create_pipeline as monitoring
from fraud_kedro.pipelines.performance.pipeline import create_labels_pipeline as labels
from fraud_kedro.pipelines.performance.pipeline import create_pipeline as performance
from fraud_kedro.pipelines.retraining.pipeline import create_decision_pipeline as retraining_decision
from fraud_kedro.pipelines.retraining.pipeline import create_pipeline as retraining
from fraud_kedro.pipelines.training.pipeline import create_pipeline as training
from fraud_kedro.pipelines.tuning.pipeline import create_pipeline as tuning


def register_pipelines() -> dict[str, Pipeline]:
    """Name the pipelines; ``__default__`` trains a champion end to end, the others keep it good."""
    training_way = {
        "data_processing": data_processing(),
        "tuning": tuning(),
        "training": training(),
        "export": export(),
    }
    return {
        **training_way,
        "monitoring": monitoring(),
        "labels": labels(),
        "performance": performance(),
        "retraining_decision": retraining_decision(),
        "retraining": retraining(),
        "__default__": sum(training_way.values(), Pipeline([])),
    }
