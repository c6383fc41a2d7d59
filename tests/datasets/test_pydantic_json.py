from __future__ import annotations

import json

import fsspec
import pytest
from kedro.io import DataCatalog, DatasetError
from pydantic import BaseModel

from fraud_kedro.champion.bundle import Thresholds
from fraud_kedro.datasets.pydantic_json import PydanticJsonDataset
from fraud_kedro.pipelines.tuning.options import BestParameters
from fraud_kedro.schema import ResolvedSchema

THRESHOLDS = Thresholds(flag=0.1, decline=0.9, policy="expected_cost")


def dataset(path, model="fraud_kedro.champion.bundle.Thresholds"):
    return PydanticJsonDataset(filepath=str(path), model=model)


@pytest.mark.parametrize(
    "value",
    [
        THRESHOLDS,
        ResolvedSchema(time="T", time_use="none", amount="A", label="y", features=("T", "A")),
        BestParameters(
            algorithm="x",
            parameters={"C": 1e-300, "depth": 3, "kind": "none", "on": True},
            objective="roc_auc",
            value=0.1 + 0.2,
            fold_values=(1 / 3, 2 / 3),
            trials=1,
            seconds=1.0,
        ),
    ],
)
def test_a_model_comes_back_equal_and_of_its_own_type(tmp_path, value):
    entry = dataset(tmp_path / "a.json", f"{type(value).__module__}.{type(value).__name__}")
    entry.save(value)
    loaded = entry.load()
    assert type(loaded) is type(value)
    assert loaded == value


def test_the_file_is_json_that_a_person_can_read(tmp_path):
    dataset(tmp_path / "a.json").save(THRESHOLDS)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"flag": 0.1, "decline": 0.9, "policy": "expected_cost"}
    assert text.count("\n") == 4


def test_a_field_with_another_name_in_json_keeps_it(make_bundle, tmp_path):
    metadata = make_bundle(tmp_path / "bundle").metadata
    entry = dataset(tmp_path / "m.json", "fraud_kedro.champion.bundle.BundleMetadata")
    entry.save(metadata)
    assert "schema" in json.loads((tmp_path / "m.json").read_text())
    assert entry.load() == metadata


def test_folders_on_the_way_are_made_and_a_file_is_replaced(tmp_path):
    entry = dataset(tmp_path / "new" / "folder" / "a.json")
    assert not entry.exists()
    entry.save(THRESHOLDS)
    assert entry.exists()
    other = THRESHOLDS.model_copy(update={"flag": 0.2})
    entry.save(other)
    assert entry.load() == other


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DatasetError, match=r"a\.json"):
        dataset(tmp_path / "a.json").load()


@pytest.mark.parametrize("content", ['{"flag": 2, "decline": 3, "policy": "x"}', "{", "[]", '{"colour": 1}'])
def test_a_file_that_does_not_fit_says_to_run_again(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(
        DatasetError, match=r"a\.json does not fit this version's Thresholds.*Run the pipeline"
    ):
        dataset(tmp_path / "a.json").load()


def test_the_file_may_lie_in_an_object_store(tmp_path):
    entry = dataset("memory://bucket/thresholds.json")
    try:
        assert not entry.exists()
        entry.save(THRESHOLDS)
        assert entry.exists()
        assert entry.load() == THRESHOLDS
    finally:
        fsspec.filesystem("memory").store.clear()


def test_a_model_that_does_not_exist_is_told_by_the_catalog(tmp_path):
    entry = {
        "type": "fraud_kedro.datasets.pydantic_json.PydanticJsonDataset",
        "filepath": str(tmp_path / "a.json"),
        "model": "fraud_kedro.champion.bundle.Nothing",
    }
    with pytest.raises(DatasetError, match="Nothing"):
        DataCatalog.from_config({"wrong": entry}).get("wrong")


def test_the_preview_is_the_content(tmp_path):
    entry = dataset(tmp_path / "a.json")
    entry.save(THRESHOLDS)
    assert json.loads(entry.preview()) == THRESHOLDS.model_dump()


def test_any_model_will_do(tmp_path):
    entry = dataset(tmp_path / "a.json")
    assert issubclass(Thresholds, BaseModel)
    assert "Thresholds" in repr(entry)
    assert "a.json" in repr(entry)
