from __future__ import annotations

import polars as pl
import pytest
from kedro.io import DatasetError

from fraud_kedro.datasets.streamed_parquet import StreamedParquetDataset
from fraud_kedro.errors import MissingInputError

ROWS = pl.DataFrame({"V1": [1.0, 2.0, 3.0], "Class": [0, 1, 0]})


def dataset(folder, **options):
    return StreamedParquetDataset(filepath=str(folder / "layer" / "rows.parquet"), **options)


@pytest.mark.parametrize("data", [ROWS, ROWS.lazy()], ids=["frame", "lazy"])
def test_rows_come_back_as_they_were_saved(tmp_path, data):
    kept = dataset(tmp_path)
    assert not kept._exists()
    kept.save(data)
    assert kept._exists()
    assert isinstance(kept.load(), pl.LazyFrame)
    assert kept.load().collect().equals(ROWS)
    assert dataset(tmp_path, lazy=False).load().equals(ROWS)


def test_rows_that_cannot_be_made_leave_the_last_ones(tmp_path):
    kept = dataset(tmp_path)
    kept.save(ROWS)
    broken = ROWS.lazy().with_columns(pl.col("V1").cast(pl.String).str.replace("3.0", "x").cast(pl.Float64))
    with pytest.raises(DatasetError):
        kept.save(broken)
    assert kept.load().collect().equals(ROWS)
    assert [file.name for file in (tmp_path / "layer").iterdir()] == ["rows.parquet"]


def test_rows_may_come_from_the_file_they_replace(tmp_path):
    kept = dataset(tmp_path)
    kept.save(ROWS)
    kept.save(kept.load().filter(pl.col("Class") == 0))
    assert kept.load().collect().height == 2


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DatasetError, match=r"rows\.parquet not found") as caught:
        dataset(tmp_path).load()
    assert isinstance(caught.value.__cause__, MissingInputError)


def test_the_preview_shows_the_first_rows(tmp_path):
    kept = dataset(tmp_path)
    kept.save(ROWS)
    assert kept.preview(2) == {"index": [0, 1], "columns": ["V1", "Class"], "data": [[1.0, 0], [2.0, 1]]}
