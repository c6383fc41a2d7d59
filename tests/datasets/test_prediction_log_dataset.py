from __future__ import annotations

from datetime import UTC, datetime

import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, DatasetError

from fraud_kedro.datasets.prediction_log import PredictionLogDataset
from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import PredictionRecord, open_for_writing
from fraud_kedro.settings import CONFIG_LOADER_ARGS


def record(name):
    return PredictionRecord(
        name, "champion", datetime.now(UTC), None, "m_v1", 0.3, 1, "review", "expected_cost", "a" * 32, None,
        '{"a":1}',
    )  # fmt: skip


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_log_is_opened_where_the_service_keeps_it(tmp_path, request, monkeypatch, database):
    url = f"sqlite:///{tmp_path / 'prediction_log.db'}"
    monkeypatch.delenv("FRAUD_LOG_URL", raising=False)
    if database == "postgresql":
        url = request.getfixturevalue("postgres").database("log_dataset")
        monkeypatch.setenv("FRAUD_LOG_URL", url)
    writer = open_for_writing(url)
    written = [record(f"t{number}") for number in range(7)]
    writer.write(written)
    writer.close()
    catalog = DataCatalog({"prediction_log": PredictionLogDataset(root=str(tmp_path))})
    reader = catalog.load("prediction_log")
    rows = [row for chunk in reader.chunks(("transaction_id", "features"), rows_at_once=3) for row in chunk]
    assert sorted(name for name, _ in rows) == [each.transaction_id for each in written]
    assert {text.replace(" ", "") for _, text in rows} == {'{"a":1}'}
    catalog.release("prediction_log")


def test_a_password_is_neither_in_the_catalog_nor_in_a_description(request, monkeypatch):
    monkeypatch.setenv("FRAUD_LOG_URL", "postgresql://fraud:secret@127.0.0.1:1/log")
    loader = OmegaConfigLoader(str(request.config.rootpath / "conf"), env="quick", **CONFIG_LOADER_ARGS)
    entries = {name: loader["catalog"][name] for name in ("prediction_log", "stored_labels")}
    assert "secret" not in str(loader["catalog"])
    for name, dataset in DataCatalog.from_config(entries).items():
        assert "root" in str(dataset), name
        assert "secret" not in str(dataset), name


def test_a_log_that_is_not_there_is_the_projects_error(tmp_path, monkeypatch):
    monkeypatch.delenv("FRAUD_LOG_URL", raising=False)
    with pytest.raises(DatasetError) as error:
        PredictionLogDataset(root=str(tmp_path)).load()
    assert isinstance(error.value.__cause__, PredictionLogError)


def test_the_service_alone_writes_the_log(tmp_path):
    with pytest.raises(DatasetError):
        PredictionLogDataset(root=str(tmp_path)).save(1)
