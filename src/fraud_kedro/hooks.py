"""What happens around a run: the store is ready, inputs are there, results are logged."""

from __future__ import annotations

import difflib
import logging
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from pydantic import BaseModel

from fraud_kedro.champion.bundle import DataSource
from fraud_kedro.datasets.sql_source import database_address, is_sql, require_answer
from fraud_kedro.datasets.table_file import without_secrets
from fraud_kedro.errors import MissingInputError, ParameterError, RegistryError

logger = logging.getLogger(__name__)

RAW_TRANSACTIONS = "raw_transactions"
DATA_SOURCE = "data_source"

_DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
_CONNECT_SECONDS = 5
# In a URL, whatever its scheme.
_PASSWORD = re.compile(r"(://[^\s:/@'\"]*:)[^\s@'\"]+@")


class LocalStoreHook:
    """Prepares the MLflow store before kedro-mlflow opens it.

    SQLite creates files, not folders; and for a server that is away MLflow would
    try again for minutes.
    """

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Make the folder of a SQLite store, or see that a server listens.

        Raises
        ------
        RegistryError
            If nothing listens at the address in ``mlflow.yml``.
        """
        # kedro-mlflow adds the pattern itself, but only when it opens the store.
        patterns = getattr(context.config_loader, "config_patterns", {})
        patterns.setdefault("mlflow", ["mlflow*", "mlflow*/**", "**/mlflow*"])
        uri = context.config_loader["mlflow"]["server"]["mlflow_tracking_uri"]
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        else:
            _require_listener(uri)


class ValidatorHook:
    """Lets a validator's options name parameters, as nodes do.

    An option ``params:schema`` in the catalog becomes the parameter ``schema``;
    ``location`` becomes the entry's path, so that messages can name the file.
    """

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog, parameters: dict[str, Any]) -> None:
        """Fill in the options of every declared validator."""
        for name, spec in catalog.validator_specs.items():
            for option, value in spec.options.items():
                if isinstance(value, str) and value.startswith("params:"):
                    spec.options[option] = parameters[value]
            if spec.options.get("location") == "$filepath":
                spec.options["location"] = _location(catalog, name)


class DataSourceHook:
    """Offers ``data_source`` to the nodes: what kind of table ``raw_transactions`` is.

    Taken from the catalog and not from a parameter, so that a model of simulated
    rows cannot pass for one of real rows by an oversight in YAML.
    """

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Add the dataset ``data_source``."""
        if RAW_TRANSACTIONS not in catalog:
            return
        dataset = catalog.get(RAW_TRANSACTIONS)
        if type(dataset).__name__ == "SimulatedTransactionsDataset":
            source = DataSource(kind="simulated", name="simulated", location="simulator")
        elif dataset is not None and is_sql(dataset):
            source = DataSource(kind="real", name=RAW_TRANSACTIONS, location=database_address(dataset))
        else:
            location = _location(catalog, RAW_TRANSACTIONS)
            source = DataSource(kind="real", name=_name_of(location), location=location)
        catalog[DATA_SOURCE] = MemoryDataset(source)


class InputsHook:
    """Says what is missing, and what to do, before anything runs."""

    def __init__(self) -> None:
        self._parameters: set[str] = set()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Note which parameters the environment has."""
        self._parameters = set(context.config_loader["parameters"])

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Check that every input of the pipeline exists, and that no parameter was misspelt.

        Raises
        ------
        MissingInputError
            If a file is not there; names the pipeline that makes it. If a
            database does not answer the query.
        ParameterError
            If ``--params`` names a parameter that the environment does not have.
        """
        _require_known(run_params.get("runtime_params") or {}, self._parameters)
        missing: dict[str, dict[str, str]] = {}
        for name in sorted(pipeline.inputs()):
            if not (name.startswith("params:") or name == "parameters" or _is_there(catalog, name)):
                missing.setdefault(_maker(name), {})[name] = _location(catalog, name)
        if missing:
            order = ["", *pipelines]
            clauses = [_not_found(maker, missing[maker]) for maker in sorted(missing, key=order.index)]
            raise MissingInputError("; ".join(clauses) + ".")


def _require_known(given: Mapping[str, Any], known: set[str]) -> None:
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f" Did you mean {close[0]}?" if close else f" There are: {', '.join(sorted(known))}."
            raise ParameterError(f"--params names {name!r}, which is no parameter.{meant}")


class TrackingHook:
    """Logs to MLflow what kedro-mlflow does not: typed parameters and metrics by name.

    kedro-mlflow writes a pydantic parameter as one string, and its metric datasets
    lose the namespace in dataset factories. Parameters are logged flattened;
    a dataset with ``metadata.mlflow: metrics`` has its numbers logged under its name.
    """

    def __init__(self) -> None:
        self._metric_datasets: set[str] = set()

    # After kedro-mlflow, which writes what was given on the command line into a tag as it is.
    @hook_impl(trylast=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Note which datasets hold metrics, and keep passwords out of the run's tags."""
        import mlflow

        given = str(run_params.get("runtime_params") or "")
        masked = _PASSWORD.sub(r"\1***@", given)
        if masked != given and mlflow.active_run():
            mlflow.set_tag("runtime_params", masked)
        self._metric_datasets = {name for name in pipeline.datasets() if _wants_metrics(catalog, name)}

    @hook_impl(tryfirst=True)
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Log the node's typed parameters, one MLflow parameter per value."""
        import mlflow

        values: dict[str, str] = {}
        for name, value in inputs.items():
            if name.startswith("params:") and isinstance(value, BaseModel):
                key = name.removeprefix("params:").replace(":", ".")
                values.update(_flatten(key, value.model_dump(mode="json")))
        if values and mlflow.active_run():
            mlflow.log_params({_mlflow_name(key): value for key, value in values.items()})

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log the numbers of a metrics dataset."""
        import mlflow

        if dataset_name in self._metric_datasets and mlflow.active_run():
            values = data.model_dump(mode="json") if isinstance(data, BaseModel) else data
            flat = _flatten(dataset_name, values)
            mlflow.log_metrics({key: float(value) for key, value in flat.items() if _is_number(value)})


class SummaryHook:
    """Ends a run with its result as a table, and where to look next."""

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Print what the pipeline has decided."""
        # rich takes a moment that other commands need not wait for.
        from fraud_kedro.summary import print_comparison, print_promotion

        made = pipeline.all_outputs()
        if "comparison" in made or "promotion" in made:
            print_comparison(catalog.load("comparison"))
        if "promotion" in made:
            root = Path(_location(catalog, "champion_bundle")).parents[1]
            print_promotion(catalog.load("promotion"), root=str(root), env=run_params.get("env"))


def _require_listener(uri: str) -> None:
    parts = urlsplit(uri)
    scheme = parts.scheme.split("+")[0]
    if parts.hostname is None or scheme in getproxies():
        return
    port = parts.port or _DEFAULT_PORTS.get(scheme)
    if port is None:
        return
    try:
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise RegistryError(
            f"Nothing answers at {parts.hostname}:{port}, the MLflow store of this environment ({error}). "
            "Start it, or unset FRAUD_MLFLOW_TRACKING_URI to use the local store."
        ) from error


def _flatten(prefix: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        flat: dict[str, Any] = {}
        for key, inner in value.items():
            flat.update(_flatten(f"{prefix}.{key}", inner))
        return flat
    return {prefix: value}


def _mlflow_name(key: str) -> str:
    """The key without what MLflow refuses in names, such as a pattern's star."""
    return re.sub(r"[^\w\-. :/]", "_", key)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wants_metrics(catalog: DataCatalog, name: str) -> bool:
    dataset = catalog.get(name) if name in catalog else None
    metadata = getattr(dataset, "metadata", None) or {}
    return bool(metadata.get("mlflow") == "metrics")


def _location(catalog: DataCatalog, name: str) -> str:
    """Where a dataset lies, relative to the working directory where that is shorter."""
    dataset = catalog.get(name) if name in catalog else None
    path: object = getattr(dataset, "_filepath", None)
    if path is None:
        return name
    if is_sql(dataset):
        # The path is that of the query.
        return name
    cwd = f"{Path.cwd()}/"
    return without_secrets(str(path)).removeprefix(cwd)


def _is_there(catalog: DataCatalog, name: str) -> bool:
    dataset = catalog.get(name) if name in catalog else None
    if dataset is None:
        return False
    if is_sql(dataset):
        require_answer(name, dataset)
        return True
    # One that cannot tell is known to be missing when it is read.
    return type(dataset)._exists is AbstractDataset._exists or bool(catalog.exists(name))


def _name_of(location: str) -> str:
    """What to call a table: its file without suffixes, or the folder of its parts."""
    parts = [part for part in location.split("/") if part and "*" not in part]
    return parts[-1].split(".")[0] if parts else location


def _not_found(maker: str, files: Mapping[str, str]) -> str:
    name, file = next(iter(files.items()))
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    remedy = (
        f"run `kedro run --pipeline={maker}` first"
        if maker
        else f"put the table there, or name another file in the catalog (`{name}`)"
    )
    return f"{file}{more} not found: {remedy}"


def _maker(name: str) -> str:
    """The registered pipeline whose output the dataset is, empty if none."""
    for pipeline_name, pipeline in pipelines.items():
        if pipeline_name != "__default__" and name in pipeline.all_outputs():
            return str(pipeline_name)
    return ""
