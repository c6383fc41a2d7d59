"""The decision; and the whole way from the log to the next champion, with the pipelines of the first.

::

    performance, drift, champion, history ──► decide_retraining ──► decision, history

    raw_transactions ──┐
    prediction_log ────┴──► build_next_table ──► data_processing ► tuning ► training ► export
                                                                                         │
                                                        history ◄── remember_retraining ◄┘
"""

from kedro.pipeline import Node, Pipeline

from fraud_kedro.pipelines.data_processing.pipeline import create_pipeline as data_processing
from fraud_kedro.pipelines.export.pipeline import create_pipeline as export
from fraud_kedro.pipelines.performance.pipeline import create_pipeline as performance
from fraud_kedro.pipelines.retraining.nodes import build_next_table, decide_retraining, remember_retraining
from fraud_kedro.pipelines.training.pipeline import create_pipeline as training
from fraud_kedro.pipelines.tuning.pipeline import create_pipeline as tuning


def create_decision_pipeline() -> Pipeline:
    """Wire performance, and the decision it leads to."""
    decision = Pipeline(
        [
            Node(
                decide_retraining,
                inputs=[
                    "performance",
                    "last_drift_verdict",
                    "reigning_champion",
                    "retraining_history",
                    "params:retraining.rule",
                ],
                outputs=["retraining_decision", "remembered_decision"],
                name="decide_retraining",
            )
        ],
        namespace="retraining_decision",
        prefix_datasets_with_namespace=False,
        tags=["monitoring", "retraining_decision"],
    )
    return performance() + decision


def create_pipeline() -> Pipeline:
    """Wire the next table in the place of the original one, then everything that trains a champion."""
    table = Pipeline(
        [
            Node(
                build_next_table,
                inputs=[
                    "raw_transactions",
                    "prediction_log",
                    "data_source",
                    "params:schema",
                    "params:labels",
                    "params:retraining.table",
                ],
                outputs=["next_transactions", "next_table", "next_data_source"],
                name="build_next_table",
            )
        ],
        namespace="retraining",
        prefix_datasets_with_namespace=False,
        tags="retraining",
    )
    memory = Node(
        remember_retraining,
        inputs="promotion",
        outputs="remembered_retraining",
        name="remember_retraining",
        tags="retraining",
    )
    split = {"params:split": "params:retraining.split"}
    processing = Pipeline(
        data_processing(),
        inputs={"raw_transactions": "next_transactions", "data_source": "next_data_source"},
        parameters=split,
    )
    search = Pipeline(tuning(), parameters=split)
    return table + processing + search + training() + export() + Pipeline([memory])
