from __future__ import annotations

from pathlib import Path

import pytest

from fraud_kedro.locations import (
    ROOT_VARIABLE,
    TRACKING_VARIABLE,
    artifact_folder,
    champion_folder,
    prediction_log_url,
    root_folder,
    tracking_uri,
)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    monkeypatch.delenv(TRACKING_VARIABLE, raising=False)


def test_the_root_is_data_unless_an_environment_or_the_variable_says_otherwise(monkeypatch):
    assert root_folder() == Path("data")
    assert root_folder("data/quick") == Path("data/quick")
    monkeypatch.setenv(ROOT_VARIABLE, "elsewhere")
    assert root_folder() == root_folder("data/quick") == Path("elsewhere")


def test_an_empty_variable_is_no_root_and_no_store(monkeypatch):
    monkeypatch.setenv(ROOT_VARIABLE, "")
    monkeypatch.setenv(TRACKING_VARIABLE, "")
    assert root_folder() == Path("data")
    assert tracking_uri(Path("data")) == "sqlite:///data/mlflow/mlflow.db"


def test_the_store_lies_below_the_root_unless_the_variable_names_another(monkeypatch):
    assert tracking_uri(Path("/tmp/x")) == "sqlite:////tmp/x/mlflow/mlflow.db"
    monkeypatch.setenv(TRACKING_VARIABLE, "http://127.0.0.1:5000")
    assert tracking_uri(Path("/tmp/x")) == "http://127.0.0.1:5000"


def test_everything_else_lies_below_the_root():
    root = Path("some/root")
    assert champion_folder(root) == root / "06_models" / "champion"
    assert artifact_folder(root) == root / "mlflow" / "artifacts"
    assert prediction_log_url(root) == "sqlite:///some/root/prediction_log.db"


@pytest.mark.parametrize("env", ["base", "quick", "creditcard"])
def test_pipelines_write_the_champion_where_the_service_reads_it(request, monkeypatch, env, tmp_path):
    from kedro.config import OmegaConfigLoader

    from fraud_kedro.settings import CONFIG_LOADER_ARGS

    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    loader = OmegaConfigLoader(str(request.config.rootpath / "conf"), env=env, **CONFIG_LOADER_ARGS)
    assert Path(loader["catalog"]["champion_bundle"]["filepath"]) == champion_folder(root_folder())
    loader.config_patterns["mlflow"] = ["mlflow*"]
    mlflow = loader["mlflow"]
    assert mlflow["server"]["mlflow_tracking_uri"] == tracking_uri(root_folder())
    location = mlflow["tracking"]["experiment"]["create_experiment_kwargs"]["artifact_location"]
    assert location == artifact_folder(tmp_path).as_uri()


def test_an_environment_of_its_own_has_a_root_of_its_own(request):
    from kedro.config import OmegaConfigLoader

    from fraud_kedro.settings import CONFIG_LOADER_ARGS

    conf = str(request.config.rootpath / "conf")
    loader = OmegaConfigLoader(conf, env="quick", **CONFIG_LOADER_ARGS)
    assert loader["catalog"]["train"]["filepath"] == "data/quick/03_primary/train.parquet"
    storage = loader["parameters"]["tuning"]["storage"]
    assert storage == f"sqlite:///{request.config.rootpath}/data/quick/05_model_input/studies.db"
