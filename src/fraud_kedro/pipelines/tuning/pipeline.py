"""One study per algorithm, written once.

::

    train ──► draw_search_rows ──► lightgbm.tune            ──► lightgbm_best_parameters
                              └──► logistic_regression.tune ──► ...
"""

from kedro.pipeline import Node, Pipeline

from fraud_kedro.algorithms.registry import ALGORITHM_NAMES
from fraud_kedro.pipelines.per_algorithm import grouped, instantiate
from fraud_kedro.pipelines.tuning.nodes import draw_search_rows, tune


def create_pipeline() -> Pipeline:
    """Wire a study for every algorithm in `fraud_kedro.algorithms`."""
    rows = Pipeline(
        [
            Node(
                draw_search_rows,
                inputs=["train", "resolved_schema", "params:split", "params:tuning", "params:seed"],
                outputs="search_rows",
                name="draw_search_rows",
                # So that one algorithm can be tuned alone.
                tags=ALGORITHM_NAMES,
            )
        ]
    )
    study = Pipeline(
        [
            Node(
                tune,
                inputs=[
                    "search_rows",
                    "params:tuning",
                    "params:training",
                    "params:algorithm",
                    "params:budget",
                    "params:seed",
                ],
                outputs=[
                    "best_parameters",
                    "trials",
                    "tuning_history",
                    "tuning_importance",
                    "tuning_slices",
                    "tuning_parallel_coordinates",
                ],
                name="tune",
            )
        ]
    )
    return grouped([rows, *instantiate(study, own=set())], "tuning")
