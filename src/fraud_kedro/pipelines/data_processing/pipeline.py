"""raw_transactions -> transactions -> train, validation, test."""

from kedro.pipeline import Node, Pipeline

from fraud_kedro.pipelines.data_processing.nodes import (
    prepare_transactions,
    record_data,
    split_transactions,
    write_profile_page,
)
from fraud_kedro.profiling.figure import profile_figure
from fraud_kedro.profiling.scan import profile_transactions


def create_pipeline() -> Pipeline:
    """Wire the nodes that turn a table into the three parts of the split."""
    return Pipeline(
        [
            Node(
                prepare_transactions,
                inputs=[
                    "raw_transactions",
                    "params:schema",
                    "params:duplicates",
                    "params:expectations",
                    "params:split",
                    "data_source",
                    "params:seed",
                ],
                outputs=["transactions", "row_parts", "resolved_schema", "transaction_counts"],
                name="prepare_transactions",
            ),
            Node(
                split_transactions,
                inputs=["transactions", "row_parts"],
                outputs=["train", "validation", "test"],
                name="split_transactions",
            ),
            Node(
                record_data,
                inputs=[
                    "transactions",
                    "row_parts",
                    "resolved_schema",
                    "data_source",
                    "transaction_counts",
                    "params:split",
                ],
                outputs="data_record",
                name="record_data",
            ),
            Node(
                profile_transactions,
                inputs=["transactions", "resolved_schema", "transaction_counts"],
                outputs="data_profile",
                name="profile_transactions",
            ),
            Node(
                profile_figure,
                inputs="data_profile",
                outputs="data_profile_figure",
                name="profile_figure",
            ),
            Node(
                write_profile_page,
                inputs=["data_profile", "data_source"],
                outputs="data_profile_page",
                name="write_profile_page",
            ),
        ],
        namespace="data_processing",
        prefix_datasets_with_namespace=False,
        tags="data_processing",
    )
