"""The candidates are fitted and judged by one pipeline, instantiated per algorithm, then compared.

::

    train ──► fit_on_train ──► select_thresholds ──► evaluate ──► compare
                   └────────► refit ──────────────────┘
"""

from kedro.pipeline import Node, Pipeline

from fraud_kedro.algorithms.registry import ALGORITHM_NAMES
from fraud_kedro.pipelines.per_algorithm import grouped, instantiate
from fraud_kedro.pipelines.training.nodes import (
    compare,
    evaluate,
    fit_on_train,
    refit,
    select_thresholds,
)


def create_pipeline() -> Pipeline:
    """Wire fit, thresholds, refit and evaluation of every algorithm, and the comparison."""
    candidate = Pipeline(
        [
            Node(
                fit_on_train,
                inputs=[
                    "train",
                    "validation",
                    "resolved_schema",
                    "best_parameters",
                    "params:training",
                    "params:seed",
                ],
                outputs=["selection_model", "validation_scores"],
                name="fit_on_train",
            ),
            Node(
                select_thresholds,
                inputs=["validation_scores", "resolved_schema", "params:training"],
                outputs="thresholds",
                name="select_thresholds",
            ),
            Node(
                refit,
                inputs=[
                    "train",
                    "validation",
                    "test",
                    "selection_model",
                    "best_parameters",
                    "params:training",
                    "params:seed",
                ],
                outputs=["evaluation_model", "model"],
                name="refit",
            ),
            Node(
                evaluate,
                inputs=[
                    "evaluation_model",
                    "validation_scores",
                    "test",
                    "thresholds",
                    "best_parameters",
                    "params:training",
                    "params:seed",
                ],
                outputs="evaluation",
                name="evaluate",
            ),
        ]
    )
    comparison = Pipeline(
        [
            Node(
                compare,
                inputs=["params:tuning", *(f"{algorithm}_evaluation" for algorithm in ALGORITHM_NAMES)],
                outputs=["comparison", "comparison_table"],
                name="compare",
            )
        ]
    )
    return grouped([*instantiate(candidate, own={"best_parameters"}), comparison], "training")
