"""The candidates are fitted by one pipeline, combined, judged by another, then compared.

::

    train ──► fit_on_train ──► refit ──┬──► combine ──┬──► select_thresholds ──► evaluate ──┬──► compare
              (per algorithm)          └──────────────┤    (per candidate)                  ▼
                                                      └──► explain ──────────────────────► draw
"""

from kedro.pipeline import Node, Pipeline

from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, CANDIDATE_NAMES, ENSEMBLE
from fraud_kedro.pipelines.per_algorithm import grouped, instantiate
from fraud_kedro.pipelines.training.drawing import draw
from fraud_kedro.pipelines.training.explaining import explain
from fraud_kedro.pipelines.training.judgement import compare, evaluate
from fraud_kedro.pipelines.training.nodes import combine, fit_on_train, refit, select_thresholds
from fraud_kedro.pipelines.training.selection import choose_champion


def create_pipeline() -> Pipeline:
    """Wire fit, ensemble, thresholds, evaluation and figures of every candidate, and the comparison."""
    fit = Pipeline(
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
        ]
    )
    members = [
        f"{name}_{kind}"
        for name in ALGORITHM_NAMES
        for kind in ("evaluation_model", "model", "validation_scores")
    ]
    ensemble = Pipeline(
        [
            Node(
                combine,
                inputs=["params:tuning", "params:training", "resolved_schema", "params:seed", *members],
                outputs=[
                    f"{ENSEMBLE}_evaluation_model",
                    f"{ENSEMBLE}_model",
                    f"{ENSEMBLE}_validation_scores",
                ],
                name="combine",
            )
        ],
        namespace=ENSEMBLE,
        prefix_datasets_with_namespace=False,
        tags=ENSEMBLE,
    )
    judge = Pipeline(
        [
            Node(
                select_thresholds,
                inputs=["validation_scores", "resolved_schema", "data_record", "params:training"],
                outputs="thresholds",
                name="select_thresholds",
            ),
            Node(
                evaluate,
                inputs=[
                    "evaluation_model",
                    "validation_scores",
                    "test",
                    "thresholds",
                    "data_record",
                    "params:training",
                    "params:seed",
                ],
                outputs=["evaluation", "test_scores", "bootstrap"],
                name="evaluate",
            ),
            Node(
                explain,
                inputs=["evaluation_model", "test", "params:training", "params:seed"],
                outputs=["contributions", "permutation_importance"],
                name="explain",
            ),
            Node(
                draw,
                inputs=[
                    "evaluation",
                    "validation_scores",
                    "test_scores",
                    "contributions",
                    "permutation_importance",
                    "resolved_schema",
                ],
                outputs=["plot_ranking", "plot_probability", "plot_decision", "plot_explanation"],
                name="draw",
            ),
        ]
    )
    judged = [f"{name}_{kind}" for name in CANDIDATE_NAMES for kind in ("evaluation", "bootstrap")]
    validated = [f"{name}_{kind}" for name in CANDIDATE_NAMES for kind in ("validation_scores", "thresholds")]
    comparison = Pipeline(
        [
            Node(
                choose_champion,
                inputs=["params:tuning", "params:training", "resolved_schema", "params:seed", *validated],
                outputs="choice",
                name="choose_champion",
            ),
            Node(
                compare,
                inputs=["choice", *judged],
                outputs=["comparison", "comparison_table", "differences_table"],
                name="compare",
            ),
        ]
    )
    judging = instantiate(judge, own={"evaluation_model", "validation_scores"}, names=CANDIDATE_NAMES)
    return grouped([*instantiate(fit, own={"best_parameters"}), ensemble, *judging, comparison], "training")
