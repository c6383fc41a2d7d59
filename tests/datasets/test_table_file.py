from __future__ import annotations

import gzip

import polars as pl
import pytest
from kedro.io import DatasetError

from fraud_kedro.datasets.table_file import TableFileDataset
from fraud_kedro.errors import DataError, MissingInputError

ROWS = pl.DataFrame({"Time": [0.0, 1.5], "V1": [-1.25, 3.0], "Class": [0, 1]})
CSV = "Time,V1,Class\n0.0,-1.25,0\n1.5,3.0,1\n"


def load(path, **options):
    return TableFileDataset(filepath=str(path), **options).load()


def refusal(path, error, **options):
    with pytest.raises(DatasetError) as caught:
        load(path, **options)
    assert isinstance(caught.value.__cause__, error)
    return str(caught.value.__cause__)


@pytest.mark.parametrize("name", ["table.csv", "table.CSV", "table.txt"])
def test_a_csv_comes_as_text(tmp_path, name):
    (tmp_path / name).write_text(CSV)
    assert load(tmp_path / name).collect().rows() == [("0.0", "-1.25", "0"), ("1.5", "3.0", "1")]


def test_a_csv_may_be_compressed(tmp_path):
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    assert load(tmp_path / "table.csv.gz").collect().height == 2


def test_load_args_reach_the_reader(tmp_path):
    (tmp_path / "table.csv").write_text(CSV.replace(",", ";"))
    assert load(tmp_path / "table.csv", load_args={"separator": ";"}).collect().width == 3
    with pytest.raises(DatasetError, match=r"load_args of .*table\.csv: .*'seperator'"):
        load(tmp_path / "table.csv", load_args={"seperator": ";"})


def test_a_parquet_file_keeps_its_types(tmp_path):
    ROWS.write_parquet(tmp_path / "table.parquet")
    assert load(tmp_path / "table.parquet").collect().equals(ROWS)


@pytest.fixture
def parts(tmp_path):
    folder = tmp_path / "parts"
    (folder / "deeper").mkdir(parents=True)
    ROWS[:1].write_parquet(folder / "a.parquet")
    ROWS[1:].write_parquet(folder / "deeper" / "b.parquet")
    (folder / "_SUCCESS").touch()
    (folder / ".a.parquet.crc").touch()
    return folder


def test_a_folder_of_parts_is_one_table(parts):
    assert load(parts).collect().equals(ROWS)


def test_a_pattern_chooses_parts(parts):
    assert load(parts / "*.parquet").collect().equals(ROWS[:1])
    assert load(parts / "**" / "*.parquet").collect().equals(ROWS)


@pytest.mark.parametrize(
    ("part", "difference"),
    [
        (ROWS.rename({"V1": "v1"}), "'V1' is missing, not Float64; 'v1' is Float64, not there"),
        (ROWS.with_columns(pl.col("V1").cast(str)), "'V1' is String, not Float64"),
        (ROWS.drop("Class"), "'Class' is missing, not Int64"),
    ],
    ids=["renamed", "another type", "missing"],
)
def test_a_part_of_another_table_is_named_with_the_difference(parts, part, difference):
    part.write_parquet(parts / "c.parquet")
    message = refusal(parts, DataError)
    assert f"{parts / 'c.parquet'} is not a part of the same table as a.parquet: {difference}" in message


def test_columns_of_a_part_may_be_in_another_order(parts):
    ROWS.select(reversed(ROWS.columns)).write_parquet(parts / "c.parquet")
    assert load(parts).collect().height == 4


def test_a_part_that_is_no_parquet_is_named(parts):
    (parts / "c.parquet").write_bytes(b"PAR1 and nothing else")
    assert f"{parts / 'c.parquet'} cannot be read as Parquet" in refusal(parts, DataError)


def test_what_is_missing_is_told_with_what_to_put_where(tmp_path):
    message = refusal(tmp_path / "table.csv", MissingInputError)
    assert message.startswith(f"{tmp_path / 'table.csv'} not found: put the table there")
    assert "holds no Parquet part" in refusal(tmp_path, MissingInputError)
    assert not TableFileDataset(filepath=str(tmp_path / "*.parquet"))._exists()


def test_another_format_is_refused_with_those_that_are_read(tmp_path):
    (tmp_path / "table.xlsx").touch()
    message = refusal(tmp_path / "table.xlsx", DataError)
    assert ".xlsx is not a format that is read. It should be one of: .csv" in message


def test_the_table_is_never_written(tmp_path):
    with pytest.raises(DatasetError, match="only read"):
        TableFileDataset(filepath=str(tmp_path / "table.csv")).save(ROWS)


def test_the_preview_shows_the_first_rows(tmp_path):
    (tmp_path / "table.csv").write_text(CSV)
    shown = TableFileDataset(filepath=str(tmp_path / "table.csv")).preview(1)
    assert shown == {"index": [0], "columns": ["Time", "V1", "Class"], "data": [["0.0", "-1.25", "0"]]}
