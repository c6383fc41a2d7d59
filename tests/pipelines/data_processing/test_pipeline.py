from __future__ import annotations

import polars as pl
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from kedro_datasets.json import JSONDataset

from fraud_kedro.champion.bundle import DataSource
from fraud_kedro.datasets.pydantic_json import PydanticJsonDataset
from fraud_kedro.datasets.simulated_transactions import SimulatedTransactionsDataset
from fraud_kedro.datasets.streamed_parquet import StreamedParquetDataset
from fraud_kedro.errors import DataError
from fraud_kedro.pipelines.data_processing.duplicates import DuplicateOptions
from fraud_kedro.pipelines.data_processing.pipeline import create_pipeline
from fraud_kedro.pipelines.data_processing.splits import SplitOptions
from fraud_kedro.schema import TransactionSchema
from fraud_kedro.validation.expectations import Expectations

OUTPUTS = (
    "transactions",
    "resolved_schema",
    "transaction_counts",
    "train",
    "validation",
    "test",
    "data_record",
)


def catalog_of(folder, rows=4000, fraud_rate=0.02):
    schema = {
        "time": {"column": "Time"},
        "amount": "Amount",
        "label": "Class",
        "features": ["Time", "V*", "Amount"],
    }
    source = DataSource(kind="simulated", name="simulated", location="simulator")
    inputs = {
        "params:schema": TransactionSchema.model_validate(schema),
        "params:split": SplitOptions.model_validate({"kind": "temporal"}),
        "params:duplicates": DuplicateOptions(),
        "params:expectations": Expectations(),
        "params:seed": 1,
        "data_source": source,
    }
    return DataCatalog(
        {
            "raw_transactions": SimulatedTransactionsDataset(
                rows=rows, fraud_rate=fraud_rate, seed=1, duplicates=40
            ),
            **{name: MemoryDataset(value, copy_mode="assign") for name, value in inputs.items()},
            **{
                name: StreamedParquetDataset(filepath=f"{folder}/{name}.parquet")
                for name in ("transactions", "row_parts", "train", "validation", "test")
            },
            "resolved_schema": PydanticJsonDataset(
                filepath=f"{folder}/resolved_schema.json", model="fraud_kedro.schema.ResolvedSchema"
            ),
            "data_record": PydanticJsonDataset(
                filepath=f"{folder}/data_record.json", model="fraud_kedro.champion.bundle.DataRecord"
            ),
            "transaction_counts": JSONDataset(filepath=f"{folder}/transaction_counts.json"),
        }
    )


def run(catalog):
    SequentialRunner().run(create_pipeline(), catalog)
    made = {name: catalog.load(name) for name in OUTPUTS}
    return {name: data.collect() if isinstance(data, pl.LazyFrame) else data for name, data in made.items()}


def test_the_pipeline_turns_a_simulated_table_into_three_parts(tmp_path):
    made = run(catalog_of(tmp_path))
    parts = [made[name] for name in ("train", "validation", "test")]
    assert sum(part.height for part in parts) == made["transactions"].height == 4000 - 40
    assert pl.concat(parts).equals(made["transactions"].sort("Time", maintain_order=True))
    record = made["data_record"]
    assert record.source.kind == "simulated"
    assert record.rows == 3960
    assert record.frauds == made["transactions"]["Class"].sum() == made["transaction_counts"]["frauds"]
    assert made["resolved_schema"].features[0] == "Time"
    assert len(made["resolved_schema"].features) == 30


def test_two_runs_give_the_same_parts(tmp_path):
    first, second = run(catalog_of(tmp_path / "a")), run(catalog_of(tmp_path / "b"))
    assert first["data_record"] == second["data_record"]
    assert first["train"].equals(second["train"])


def test_a_table_with_too_few_frauds_stops_the_pipeline(tmp_path):
    with pytest.raises(DataError, match=r"simulator: The .* part of the temporal split has no fraud"):
        run(catalog_of(tmp_path, rows=500, fraud_rate=0.004))


def test_a_table_that_cannot_be_split_changes_no_file(tmp_path):
    run(catalog_of(tmp_path))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(DataError):
        run(catalog_of(tmp_path, rows=500, fraud_rate=0.004))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
