from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from kedro.io import DataCatalog, DatasetError
from polars.testing import assert_frame_equal

from fraud_kedro.datasets.simulated_transactions import SimulatedTransactionsDataset

TYPE = "fraud_kedro.datasets.simulated_transactions.SimulatedTransactionsDataset"


def catalog(**arguments: Any) -> DataCatalog:
    return DataCatalog.from_config({"raw_transactions": {"type": TYPE, **arguments}})


@pytest.fixture
def dataset() -> SimulatedTransactionsDataset:
    return SimulatedTransactionsDataset(rows=70_000, seed=42)


def test_a_catalog_entry_loads_a_lazy_table() -> None:
    loaded = catalog(rows=5_000, fraud_rate=0.1, seed=1, duplicates=3).load("raw_transactions")
    assert isinstance(loaded, pl.LazyFrame)
    table = loaded.collect()
    assert (table.height, table["Class"].sum(), table.unique().height) == (5_000, 500, 4_997)
    assert table.columns == ["Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class"]


def test_every_load_and_every_collect_give_the_same_rows(dataset: SimulatedTransactionsDataset) -> None:
    lazy = dataset.load()
    assert_frame_equal(lazy.collect(), lazy.collect())
    assert_frame_equal(lazy.collect(), dataset.load().collect())


@pytest.mark.parametrize("chunk_rows", [1_000, 33_000, 200_000])
def test_rows_do_not_depend_on_the_size_of_chunks(
    dataset: SimulatedTransactionsDataset, chunk_rows: int
) -> None:
    whole = dataset.load().collect()
    chunks = dataset.load().collect_batches(chunk_size=chunk_rows, maintain_order=True)
    assert_frame_equal(pl.concat(chunks), whole)


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_queries_answer_as_on_the_collected_table(dataset: SimulatedTransactionsDataset, engine: Any) -> None:
    table = dataset.load().collect()
    fraud = pl.col("Class") == 1
    for query in (
        lambda f: f.filter(fraud).select("V4", "Amount"),
        lambda f: f.filter(fraud & (pl.col("V14") < -5)).head(10).select("Time"),
        lambda f: f.select("Amount", "V1").head(40_000).tail(3),
        lambda f: f.select(pl.len()),
        lambda f: f.group_by("Class").agg(pl.len(), pl.col("V3").max()).sort("Class"),
    ):
        assert_frame_equal(query(dataset.load()).collect(engine=engine), query(table.lazy()).collect())


def test_drift_comes_from_the_catalog_as_written() -> None:
    drift = [{"column": "V14", "shift": 0.5, "from": 86_400}, {"fraud_rate": 0.01, "from": 86_400}]
    late = catalog(rows=50_000, drift=drift).load("raw_transactions").filter(pl.col("Time") >= 86_400)
    assert late.collect()["Class"].mean() == pytest.approx(0.01, rel=0.02)


def test_saving_is_refused_with_the_way_out(dataset: SimulatedTransactionsDataset) -> None:
    with pytest.raises(DatasetError, match="can't be saved: they are drawn from statistics"):
        dataset.save(pl.DataFrame({"a": [1]}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": -5}, r"rows: .*\(got -5\)"),
        ({"drift": {"column": "V99", "shift": 1}}, "no column 'V99'"),
        ({"row": 5}, "row"),
    ],
)
def test_a_wrong_argument_fails_when_the_catalog_is_read(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        catalog(**arguments).get("raw_transactions")


def test_nothing_is_written(
    dataset: SimulatedTransactionsDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset.load().head(1_000).collect()
    dataset.preview()
    assert list(tmp_path.iterdir()) == []


def test_the_preview_is_the_head_of_the_table(dataset: SimulatedTransactionsDataset) -> None:
    preview = dataset.preview(nrows=3)
    assert preview["index"] == [0, 1, 2]
    head = pl.DataFrame(preview["data"], schema=preview["columns"], orient="row")
    assert_frame_equal(head, dataset.load().head(3).collect(), check_dtypes=False)


def test_the_description_names_what_was_chosen(dataset: SimulatedTransactionsDataset) -> None:
    assert dataset._describe() == {"rows": 70_000, "seed": 42}
    drifted = SimulatedTransactionsDataset(rows=10, drift={"column": "V1", "scale": 2, "from": 5})
    assert drifted._describe()["drift"] == [{"from": 5.0, "column": "V1", "scale": 2.0}]


def test_it_exists_and_survives_pickling_for_parallel_runners(
    dataset: SimulatedTransactionsDataset,
) -> None:
    assert dataset.exists()
    again = pickle.loads(pickle.dumps(dataset))
    assert_frame_equal(again.load().collect(), dataset.load().collect())
