"""Labels into the log; the log and its labels into performance over time.

::

    late_labels ──► check_labels ──► stored_labels ──► report_labels

    prediction_log ──────────────┐
    find_champion ──► champion ──┴──► measure_performance
"""

from kedro.pipeline import Node, Pipeline

from fraud_kedro.pipelines.performance.nodes import (
    check_labels,
    find_champion,
    measure_performance,
    report_labels,
)


def create_labels_pipeline() -> Pipeline:
    """Wire the import of a table of labels."""
    return Pipeline(
        [
            Node(check_labels, inputs="late_labels", outputs="stored_labels", name="check_labels"),
            Node(
                report_labels,
                inputs=["late_labels", "stored_labels"],
                outputs="label_report",
                name="report_labels",
            ),
        ],
        namespace="labels",
        prefix_datasets_with_namespace=False,
        tags=["monitoring", "labels"],
    )


def create_pipeline() -> Pipeline:
    """Wire performance over time."""
    return Pipeline(
        [
            Node(find_champion, inputs=None, outputs="reigning_champion", name="find_champion"),
            Node(
                measure_performance,
                inputs=[
                    "prediction_log",
                    "reigning_champion",
                    "params:labels",
                    "params:retraining.rule",
                    "params:training",
                ],
                outputs="performance",
                name="measure_performance",
            ),
        ],
        namespace="performance",
        prefix_datasets_with_namespace=False,
        tags=["monitoring", "performance"],
    )
