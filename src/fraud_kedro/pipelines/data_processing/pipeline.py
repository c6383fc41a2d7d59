"""raw_transactions -> transactions -> train, validation, test."""

from kedro.pipeline import Node, Pipeline

from fraud_kedro.pipelines.data_processing.nodes import (
    prepare_transactions,
    record_data,
    split_transactions,
)


def create_pipeline() -> Pipeline:
    """Wire the nodes that turn a table into the three parts of the split."""
    return Pipeline(
        [
            Node(
                prepare_transactions,
                inputs=["raw_transactions", "params:schema"],
                outputs=["transactions", "resolved_schema", "transaction_counts"],
                name="prepare_transactions",
            ),
            Node(
                split_transactions,
                inputs=["transactions", "resolved_schema", "params:split", "params:seed"],
                outputs=["train", "validation", "test"],
                name="split_transactions",
            ),
            Node(
                record_data,
                inputs=[
                    "train",
                    "validation",
                    "test",
                    "resolved_schema",
                    "data_source",
                    "transaction_counts",
                    "params:split",
                ],
                outputs="data_record",
                name="record_data",
            ),
        ],
        namespace="data_processing",
        prefix_datasets_with_namespace=False,
        tags="data_processing",
    )
