from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

import mlflow
import polars as pl
import pytest
from kedro.config import OmegaConfigLoader
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro_datasets.pandas import SQLQueryDataset

from fraud_kedro.champion.bundle import Metric, Thresholds
from fraud_kedro.datasets.table_file import TableFileDataset
from fraud_kedro.errors import MissingInputError, ParameterError, RegistryError
from fraud_kedro.hooks import (
    DataSourceHook,
    InputsHook,
    LocalStoreHook,
    SummaryHook,
    TrackingHook,
    ValidatorHook,
)
from fraud_kedro.pipeline_registry import register_pipelines
from fraud_kedro.pipelines.export.options import Promotion
from fraud_kedro.pipelines.training.options import Comparison, Evaluation, TrainingOptions
from fraud_kedro.settings import CONFIG_LOADER_ARGS
from fraud_kedro.validation.expectations import Expectations

THRESHOLDS = Thresholds(flag=0.25, decline=0.75, policy="expected_cost")


@pytest.fixture(scope="module", autouse=True)
def _project(request):
    """Registered pipelines, as inside a kedro command."""
    bootstrap_project(request.config.rootpath)


@pytest.fixture
def conf(request, monkeypatch, tmp_path):
    """The project's configuration with files below a root of the test's own."""
    monkeypatch.setenv("FRAUD_ROOT", str(tmp_path))
    monkeypatch.delenv("FRAUD_MLFLOW_TRACKING_URI", raising=False)

    def loader(env):
        return OmegaConfigLoader(str(request.config.rootpath / "conf"), env=env, **CONFIG_LOADER_ARGS)

    return loader


@pytest.fixture
def catalog(conf):
    def of(env):
        loader = conf(env)
        parameters = {f"params:{name}": MemoryDataset(value) for name, value in loader["parameters"].items()}
        made = DataCatalog.from_config(loader["catalog"])
        for name, dataset in parameters.items():
            made[name] = dataset
        return made

    return of


# LocalStoreHook


def test_the_folder_of_a_sqlite_store_is_made(conf, tmp_path):
    LocalStoreHook().after_context_created(SimpleNamespace(config_loader=conf("base")))
    assert (tmp_path / "mlflow").is_dir()
    assert list((tmp_path / "mlflow").iterdir()) == []


def test_a_server_needs_no_folder(conf, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("FRAUD_MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listener.getsockname()[1]}")
        LocalStoreHook().after_context_created(SimpleNamespace(config_loader=conf("base")))

    assert not (tmp_path / "mlflow").exists()


def test_a_server_that_is_away_is_told_before_anything_waits_for_it(conf, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("FRAUD_MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")

    with pytest.raises(RegistryError, match=rf"Nothing answers at 127\.0\.0\.1:{port}"):
        LocalStoreHook().after_context_created(SimpleNamespace(config_loader=conf("base")))


# ValidatorHook


@pytest.mark.parametrize(
    ("env", "location"), [("base", "raw_transactions"), ("creditcard", "01_raw/creditcard.csv")]
)
def test_a_validator_gets_the_parameters_it_names_and_the_entrys_place(
    catalog, conf, env, location, tmp_path
):
    made = catalog(env)
    parameters = {f"params:{name}": value for name, value in conf(env)["parameters"].items()}
    ValidatorHook().after_catalog_created(made, parameters)
    options = made.validator_specs["raw_transactions"].options
    assert options["schema"] == parameters["params:schema"]
    assert options["location"] in (location, str(tmp_path / location))


def test_a_place_below_the_working_directory_is_told_from_there(catalog, conf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = catalog("creditcard")
    ValidatorHook().after_catalog_created(made, {"params:schema": {}, "params:expectations": {}})
    assert made.validator_specs["raw_transactions"].options["location"] == "01_raw/creditcard.csv"


# DataSourceHook


def test_simulated_rows_are_told_by_the_dataset_and_not_by_a_parameter(catalog):
    made = catalog("base")
    DataSourceHook().after_catalog_created(made)
    source = made.load("data_source")
    assert (source.kind, source.name, source.location) == ("simulated", "simulated", "simulator")


def test_a_file_is_real_data_with_its_name_and_place(catalog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = catalog("creditcard")
    DataSourceHook().after_catalog_created(made)
    source = made.load("data_source")
    assert (source.kind, source.name, source.location) == ("real", "creditcard", "01_raw/creditcard.csv")


@pytest.mark.parametrize(
    ("filepath", "name", "location"),
    [
        ("s3://bank/purchases/*.parquet", "purchases", "s3://bank/purchases/*.parquet"),
        ("https://me:word@host:8/a/b.csv.gz?X-Signature=1", "b", "https://host:8/a/b.csv.gz"),
        ("data/parts/", "parts", "data/parts/"),
    ],
)
def test_the_place_of_real_data_reveals_no_secret(filepath, name, location):
    made = DataCatalog({"raw_transactions": TableFileDataset(filepath=filepath)})
    DataSourceHook().after_catalog_created(made)
    source = made.load("data_source")
    assert (source.kind, source.name, source.location) == ("real", name, location)


def test_a_table_from_sql_is_named_after_its_entry_and_its_database():
    dataset = SQLQueryDataset(
        sql="SELECT 1", credentials={"con": "postgresql+psycopg://me:word@host:5433/bank?sslmode=require"}
    )
    made = DataCatalog({"raw_transactions": dataset})
    DataSourceHook().after_catalog_created(made)
    source = made.load("data_source")
    assert (source.name, source.location) == ("raw_transactions", "postgresql://host:5433/bank")


def test_a_catalog_without_the_table_is_left_alone():
    made = DataCatalog({})
    DataSourceHook().after_catalog_created(made)
    assert "data_source" not in made


# InputsHook


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "tuning",
            "resolved_schema.json and 1 more not found: run `kedro run --pipeline=data_processing` first",
        ),
        ("training", "run `kedro run --pipeline=tuning` first"),
        ("export", "run `kedro run --pipeline=training` first"),
    ],
)
def test_what_is_missing_is_told_with_the_pipeline_that_makes_it(catalog, name, told):
    with pytest.raises(MissingInputError) as caught:
        InputsHook().before_pipeline_run({}, register_pipelines()[name], catalog("base"))
    message = str(caught.value)
    assert told in message
    assert "\n" not in message
    if name != "tuning":
        # In the order in which they have to be run.
        assert message.index("data_processing") < message.index(told)


def test_a_missing_table_is_told_with_where_to_put_it(catalog):
    made = catalog("creditcard")
    DataSourceHook().after_catalog_created(made)
    with pytest.raises(MissingInputError, match=r"01_raw/creditcard\.csv not found: put the table there"):
        InputsHook().before_pipeline_run({}, register_pipelines()["__default__"], made)


def test_a_simulated_table_is_always_there(catalog):
    made = catalog("base")
    DataSourceHook().after_catalog_created(made)
    InputsHook().before_pipeline_run({}, register_pipelines()["__default__"], made)


def test_inputs_that_exist_are_not_missed(catalog, tmp_path):
    made = catalog("base")
    frame = pl.DataFrame({"Time": [0.0]})
    for name in ("train", "validation", "test"):
        made.save(name, frame)
    with pytest.raises(MissingInputError) as caught:
        InputsHook().before_pipeline_run({}, register_pipelines()["tuning"], made)
    assert "train.parquet" not in str(caught.value)
    assert "resolved_schema.json not found" in str(caught.value)


def test_a_misspelt_parameter_is_told_with_the_one_that_was_meant(catalog):
    hook = InputsHook()
    loader = SimpleNamespace(config_loader={"parameters": {"tuning": {}, "training": {}}})
    hook.after_context_created(loader)
    pipeline = register_pipelines()["tuning"]
    with pytest.raises(ParameterError, match=r"'tunning', which is no parameter\. Did you mean tuning\?"):
        hook.before_pipeline_run({"runtime_params": {"tunning": {"folds": 2}}}, pipeline, catalog("base"))
    with pytest.raises(ParameterError, match="There are: training, tuning"):
        hook.before_pipeline_run({"runtime_params": {"nonsense": 1}}, pipeline, catalog("base"))
    with pytest.raises(MissingInputError):
        hook.before_pipeline_run({"runtime_params": {"tuning": {}}}, pipeline, catalog("base"))


# TrackingHook


@pytest.fixture
def run(real_registry):
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(real_registry.uri)
    try:
        with mlflow.start_run(experiment_id=real_registry.experiment) as active:
            yield lambda: real_registry.client.get_run(active.info.run_id).data
    finally:
        mlflow.set_tracking_uri(before)


NODE = Node(lambda options, seed: options, ["params:training", "params:seed"], "out", name="node")
OPTIONS = TrainingOptions.model_validate({"thresholds": {"kind": "expected_cost", "review_cost": 2.5}})


def test_typed_parameters_are_logged_value_by_value(run):
    TrackingHook().before_node_run(NODE, {"params:training": OPTIONS, "params:seed": 3, "train": OPTIONS})
    found = run().params
    assert found["training.refit"] == "train_validation"
    assert found["training.thresholds.kind"] == "expected_cost"
    assert found["training.thresholds.review_cost"] == "2.5"
    assert not any(name.startswith(("seed", "train.")) for name in found)


def test_a_parameter_named_by_a_pattern_is_logged_without_what_mlflow_refuses(run):
    expectations = Expectations(ranges={"*_score": (0.0, 1.0)})
    TrackingHook().before_node_run(NODE, {"params:expectations": expectations})
    assert run().params["expectations.ranges.__score"] == "[0.0, 1.0]"


def test_two_nodes_may_share_a_parameter(run):
    for _ in range(2):
        TrackingHook().before_node_run(NODE, {"params:training": OPTIONS})
    assert run().params["training.n_jobs"] == "2"


def test_a_password_on_the_command_line_is_not_kept_with_the_run(run, catalog):
    given = {"tuning": {"storage": "postgresql+psycopg://bob:s3c/r:et@127.0.0.1:1/studies", "folds": 3}}
    mlflow.set_tag("runtime_params", str(given))
    TrackingHook().before_pipeline_run(
        {"runtime_params": given}, register_pipelines()["tuning"], catalog("base")
    )
    kept = run().tags["runtime_params"]
    assert "s3c" not in kept
    assert "et@" not in kept
    assert "postgresql+psycopg://bob:***@127.0.0.1:1/studies" in kept
    assert "'folds': 3" in kept


def test_without_a_run_nothing_is_logged():
    assert mlflow.active_run() is None
    TrackingHook().before_node_run(NODE, {"params:training": OPTIONS})
    assert mlflow.active_run() is None


def test_the_numbers_of_a_metrics_dataset_are_logged_under_its_name(run, catalog):
    hook = TrackingHook()
    hook.before_pipeline_run({}, register_pipelines()["__default__"], catalog("base"))
    hook.after_dataset_saved("lightgbm_thresholds", THRESHOLDS)
    hook.after_dataset_saved("xgboost_thresholds", THRESHOLDS.model_copy(update={"flag": 0.5}))
    hook.after_dataset_saved("transaction_counts", {"rows": 10.0, "note": "text", "done": True})
    hook.after_dataset_saved("comparison", {"rows": 99.0})
    assert run().metrics == {
        "lightgbm_thresholds.flag": 0.25,
        "lightgbm_thresholds.decline": 0.75,
        "xgboost_thresholds.flag": 0.5,
        "xgboost_thresholds.decline": 0.75,
        "transaction_counts.rows": 10.0,
    }


# SummaryHook


def evaluation():
    figures = {
        name: Metric(value=0.5) for name in ("average_precision", "roc_auc", "precision", "recall", "f1")
    }
    return Evaluation(
        algorithm="xgboost", parameters={}, thresholds=THRESHOLDS, validation=figures, test=figures
    )


def ends_with(catalog, pipeline, env=None):
    comparison = Comparison(
        objective="roc_auc", champion="xgboost", reason="it is the only one", candidates=(evaluation(),)
    )
    promotion = Promotion(
        outcome="promoted", algorithm="xgboost", version=1, reigning_version=None, reason="first"
    )
    catalog["comparison"] = MemoryDataset(comparison)
    catalog["promotion"] = MemoryDataset(promotion)
    SummaryHook().after_pipeline_run({"env": env}, pipeline, catalog)


def test_a_run_that_decides_ends_with_table_decision_and_next_steps(catalog, capsys, tmp_path):
    ends_with(catalog("quick"), register_pipelines()["export"], "quick")
    output = capsys.readouterr().out
    assert "xgboost is chosen: it is the only one." in output
    assert "fraud_detection_xgboost_v1 is the champion: first." in output
    assert f"FRAUD_ROOT={tmp_path}" in output.replace("\n", "")


def test_a_run_that_compares_ends_with_the_table_alone(catalog, capsys):
    ends_with(catalog("base"), register_pipelines()["training"])
    output = capsys.readouterr().out
    assert "xgboost is chosen" in output
    assert "fraud_detection" not in output


def test_any_other_run_ends_without_a_word(catalog, capsys):
    ends_with(catalog("base"), register_pipelines()["data_processing"])
    ends_with(catalog("base"), Pipeline([]))
    assert capsys.readouterr().out == ""


def test_the_default_root_needs_no_variable(conf, capsys, monkeypatch, request):
    monkeypatch.delenv("FRAUD_ROOT")
    monkeypatch.chdir(request.config.rootpath)
    made = DataCatalog.from_config(conf("base")["catalog"])
    ends_with(made, register_pipelines()["export"])
    output = capsys.readouterr().out
    assert "  make serve " in output
    assert "FRAUD_ROOT" not in output
    assert Path.cwd() == request.config.rootpath
