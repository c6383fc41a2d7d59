"""The prediction log beside the champion's reference.

::

    champion_bundle ──► read_reference ──┬──────────────┬──────────────┐
                                         ▼              ▼              ▼
    prediction_log ──┬────────────► count_window ──► judge_drift ──► draw_drift
                     └────────────► read_settled ──────────────────────┘
"""

from kedro.pipeline import Node, Pipeline

from fraud_kedro.pipelines.monitoring.nodes import (
    count_window,
    draw_drift,
    judge_drift,
    read_reference,
    read_settled,
)


def create_pipeline() -> Pipeline:
    """Wire the log, the reference, the verdict and the page."""
    return Pipeline(
        [
            Node(
                read_reference,
                inputs=["champion_bundle", "params:seed"],
                outputs="drift_reference",
                name="read_reference",
            ),
            Node(
                count_window,
                inputs=["prediction_log", "drift_reference", "params:monitoring", "params:seed"],
                outputs="drift_window",
                name="count_window",
            ),
            Node(
                judge_drift,
                inputs=["drift_window", "drift_reference", "params:monitoring"],
                outputs="drift_verdict",
                name="judge_drift",
            ),
            Node(
                read_settled,
                inputs=["prediction_log", "drift_reference", "params:monitoring", "params:labels"],
                outputs="labelled_window",
                name="read_settled",
            ),
            Node(
                draw_drift,
                inputs=[
                    "drift_window",
                    "labelled_window",
                    "drift_reference",
                    "drift_verdict",
                    "params:monitoring",
                ],
                outputs="drift_report",
                name="draw_drift",
            ),
        ]
    )
