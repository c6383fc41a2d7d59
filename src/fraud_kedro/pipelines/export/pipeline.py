"""Each candidate becomes a graph and a bundle; all become versions; one may become champion.

::

    model ──► convert ──► gate_parity ──► assemble_bundle ──┐ (per algorithm)
                                                            ▼
                              register_candidates ──► promote ──► publish_champion
"""

from kedro.pipeline import Node, Pipeline

from fraud_kedro.algorithms.registry import CANDIDATE_NAMES
from fraud_kedro.pipelines.export.nodes import (
    assemble_bundle,
    convert,
    gate_parity,
    promote,
    publish_champion,
    register_candidates,
)
from fraud_kedro.pipelines.per_algorithm import grouped, instantiate


def create_pipeline() -> Pipeline:
    """Wire conversion, parity and bundle of every algorithm, then registry and gate."""
    candidate = Pipeline(
        [
            Node(
                convert,
                inputs=["model", "evaluation_model"],
                outputs=["graph", "evaluation_graph"],
                name="convert",
            ),
            Node(
                gate_parity,
                inputs=["model", "graph", "test", "thresholds", "params:export", "params:seed"],
                outputs="parity",
                name="gate_parity",
            ),
            Node(
                assemble_bundle,
                inputs=[
                    "graph",
                    "evaluation",
                    "comparison",
                    "parity",
                    "validation_scores",
                    "test",
                    "resolved_schema",
                    "data_record",
                    "params:export",
                    "params:seed",
                ],
                outputs="bundle",
                name="assemble_bundle",
            ),
        ]
    )
    exported = [f"{a}_{kind}" for a in CANDIDATE_NAMES for kind in ("bundle", "evaluation_graph")]
    registry = Pipeline(
        [
            Node(
                register_candidates,
                inputs=["comparison", *exported],
                outputs="registrations",
                name="register_candidates",
            ),
            Node(
                promote,
                inputs=[
                    "comparison",
                    "registrations",
                    "test",
                    "resolved_schema",
                    "params:export",
                    "params:seed",
                    *(f"{a}_parity" for a in CANDIDATE_NAMES),
                ],
                outputs="promotion",
                name="promote",
            ),
            Node(
                publish_champion,
                inputs="promotion",
                outputs="champion_bundle",
                name="publish_champion",
            ),
        ]
    )
    trained = {"model", "evaluation_model", "thresholds", "validation_scores", "evaluation"}
    return grouped([*instantiate(candidate, own=trained, names=CANDIDATE_NAMES), registry], "export")
