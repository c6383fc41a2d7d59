"""What keeps catalog, parameters and pipelines one house; each check has a case that must fail."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, CANDIDATE_NAMES
from fraud_kedro.pipeline_registry import register_pipelines
from fraud_kedro.settings import CONFIG_LOADER_ARGS

ENVIRONMENTS = ("base", "quick", "creditcard")

# Made by a hook from the catalog; a search's rows and folds, which are cheap to draw again; transactions
# of the log and of a bundle, which stay where retention and checksums reach them; what the registry holds
# already; the next table's source.
IN_MEMORY = {
    "data_source",
    "search_rows",
    "drift_reference",
    "drift_window",
    "labelled_window",
    "reigning_champion",
    "next_data_source",
}

# Of which `__default__` is made; the others keep its champion good.
TRAINING_WAY = ("data_processing", "tuning", "training", "export")

# Folders of what the graph shows in a layer. Figures for people lie in 08_reporting, whatever they are about.
FOLDERS = {
    "raw": {"01_raw"},
    "intermediate": {"02_intermediate", "08_reporting"},
    "primary": {"03_primary"},
    "model_input": {"05_model_input"},
    "models": {"06_models", "07_model_output"},
    "model_output": {"06_models", "07_model_output", "08_reporting"},
    "reporting": {"08_reporting"},
    "export": {"06_models", "08_reporting"},
    "registry": {"08_reporting"},
    "served": {"06_models"},
    "monitoring": {"08_reporting"},
}


@dataclass(frozen=True)
class Configuration:
    """What one environment says, with the root it is given."""

    root: str
    catalog: dict[str, Any]
    parameters: dict[str, Any]

    def changed(self, part: str, **entries: Any) -> Configuration:
        """A copy with entries added to the catalog or the parameters."""
        altered = {**copy.deepcopy(getattr(self, part)), **entries}
        return Configuration(**{**vars(self), part: altered})


@pytest.fixture(scope="module")
def load(request):
    def configuration(env: str) -> Configuration:
        root = "some/root"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FRAUD_ROOT", root)
            loader = OmegaConfigLoader(str(request.config.rootpath / "conf"), env=env, **CONFIG_LOADER_ARGS)
            catalog = dict(loader["catalog"])
            return Configuration(root, catalog, dict(loader["parameters"]))

    return configuration


@pytest.fixture(params=ENVIRONMENTS)
def configuration(request, load):
    return load(request.param)


@pytest.fixture(scope="module")
def base(load):
    return load("base")


@pytest.fixture(scope="module")
def pipelines():
    return register_pipelines()


def datasets_of(pipelines: Mapping[str, Pipeline]) -> set[str]:
    names = {name for pipeline in pipelines.values() for name in pipeline.datasets()}
    return {name for name in names if not name.startswith("params:") and name != "parameters"}


def entry_of(catalog: DataCatalog, entries: Mapping[str, Any], name: str) -> str | None:
    """The catalog entry that serves a dataset: its own, or a factory."""
    return name if name in entries else catalog.config_resolver.match_dataset_pattern(name)


def unresolved(configuration: Configuration, pipelines: Mapping[str, Pipeline]) -> set[str]:
    catalog = DataCatalog.from_config(copy.deepcopy(configuration.catalog))
    return {name for name in datasets_of(pipelines) if entry_of(catalog, configuration.catalog, name) is None}


def unused_entries(configuration: Configuration, pipelines: Mapping[str, Pipeline]) -> set[str]:
    catalog = DataCatalog.from_config(copy.deepcopy(configuration.catalog))
    used = {entry_of(catalog, configuration.catalog, name) for name in datasets_of(pipelines)}
    return {name for name in configuration.catalog if not name.startswith("_")} - used


def leaves(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in parameters.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}.")
        else:
            yield path


def parameters_of(pipelines: Mapping[str, Pipeline], configuration: Configuration) -> set[str]:
    """What nodes ask for, and what a validator in the catalog asks for."""
    asked = {name for pipeline in pipelines.values() for name in pipeline.inputs()}
    for entry in configuration.catalog.values():
        asked.update(entry.get("validator", {}).get("options", {}).values())
    return {name.removeprefix("params:") for name in asked if name.startswith("params:")}


def unused_parameters(configuration: Configuration, pipelines: Mapping[str, Pipeline]) -> set[str]:
    asked = parameters_of(pipelines, configuration)
    return {
        leaf
        for leaf in leaves(configuration.parameters)
        if not any(leaf == name or leaf.startswith(f"{name}.") for name in asked)
    }


def absent_parameters(configuration: Configuration, pipelines: Mapping[str, Pipeline]) -> set[str]:
    absent = set()
    for name in parameters_of(pipelines, configuration):
        value: Any = configuration.parameters
        for key in name.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None:
            absent.add(name)
    return absent


def persisted(configuration: Configuration) -> dict[str, tuple[str, str | None]]:
    """Path and layer of each entry with a file."""
    found = {}
    for name, entry in configuration.catalog.items():
        if name.startswith("_"):
            continue
        path = entry.get("filepath") or entry.get("dataset", {}).get("filepath")
        if path is not None:
            found[name] = (path, entry.get("metadata", {}).get("kedro-viz", {}).get("layer"))
    return found


def misplaced(configuration: Configuration) -> set[str]:
    """Entries whose file lies outside the root, or in another layer's folder than they say."""
    wrong = set()
    for name, (path, layer) in persisted(configuration).items():
        if not path.startswith(f"{configuration.root}/"):
            wrong.add(name)
            continue
        folder = PurePosixPath(path).relative_to(configuration.root).parts[0]
        if folder not in FOLDERS.get(str(layer), ()):
            wrong.add(name)
    return wrong


def without_layer(configuration: Configuration) -> set[str]:
    return {
        name
        for name, entry in configuration.catalog.items()
        if not name.startswith("_")
        and entry.get("metadata", {}).get("kedro-viz", {}).get("layer") not in FOLDERS
    }


def layer_order(configuration: Configuration, pipelines: Mapping[str, Pipeline]) -> list[str]:
    """The layers in the order of the graph; a CycleError if two lie behind each other."""
    catalog = DataCatalog.from_config(copy.deepcopy(configuration.catalog))

    def layers(names: Iterable[str]) -> set[str]:
        entries = {entry_of(catalog, configuration.catalog, name) for name in names} - {None}
        return {configuration.catalog[entry]["metadata"]["kedro-viz"]["layer"] for entry in entries if entry}

    order: TopologicalSorter[str] = TopologicalSorter()
    for pipeline in pipelines.values():
        for node in pipeline.nodes:
            for layer in layers(node.outputs):
                order.add(layer, *(layers(node.inputs) - {layer}))
    return list(order.static_order())


def colliding(configuration: Configuration) -> set[str]:
    paths: dict[str, list[str]] = {}
    for name, (path, _) in persisted(configuration).items():
        paths.setdefault(path, []).append(name)
    return {name for names in paths.values() if len(names) > 1 for name in names}


def shared_files(configuration: Configuration) -> set[str]:
    """Factories whose file does not depend on the name they match."""
    return {
        name
        for name, (path, _) in persisted(configuration).items()
        for placeholder in re.findall(r"\{\w+\}", name)
        if placeholder not in path
    }


def unnamed(nodes: Iterable[Node]) -> set[str]:
    """Nodes whose name Kedro would make up from a hash."""
    return {node.name for node in nodes if not node._name}


def unlike_their_function(nodes: Iterable[Node]) -> set[str]:
    return {node.name for node in nodes if node._name and node._name.split(".")[-1] != node.func.__name__}


def test_every_dataset_of_a_pipeline_resolves_or_is_meant_to_stay_in_memory(configuration, pipelines):
    assert unresolved(configuration, pipelines) == IN_MEMORY


def test_a_dataset_that_does_not_resolve_is_found(base, pipelines):
    entries = {name: entry for name, entry in base.catalog.items() if name != "train"}
    assert "train" in unresolved(Configuration(base.root, entries, base.parameters), pipelines)


def test_no_catalog_entry_is_unused(configuration, pipelines):
    assert unused_entries(configuration, pipelines) == set()


@pytest.mark.parametrize("name", ["orphan", "{algorithm}_orphan"])
def test_an_unused_entry_is_found(base, pipelines, name):
    path = "some/root/03_primary/{algorithm}.parquet" if "{" in name else "some/root/03_primary/o.parquet"
    entry = {"type": "polars.EagerPolarsDataset", "file_format": "parquet", "filepath": path}
    assert unused_entries(base.changed("catalog", **{name: entry}), pipelines) == {name}


def test_no_parameter_is_unused(configuration, pipelines):
    assert unused_parameters(configuration, pipelines) == set()


def test_an_unused_parameter_is_found(base, pipelines):
    orphaned = base.changed("parameters", orphan={"depth": 3})
    assert unused_parameters(orphaned, pipelines) == {"orphan.depth"}
    beside = {**base.parameters["lightgbm"], "depth": 3}
    assert unused_parameters(base.changed("parameters", lightgbm=beside), pipelines) == {"lightgbm.depth"}


def test_every_parameter_that_is_asked_for_is_set(configuration, pipelines):
    assert absent_parameters(configuration, pipelines) == set()


def test_a_parameter_that_is_not_set_is_found(base, pipelines):
    lacking = base.changed("parameters", seed=None, schema=None)
    assert absent_parameters(lacking, pipelines) == {"seed", "schema"}


def test_files_lie_below_the_root_in_the_folder_of_their_layer(configuration):
    assert persisted(configuration)
    assert misplaced(configuration) == set()


@pytest.mark.parametrize(
    "path", ["some/root/03_primary/train.parquet", "elsewhere/02_intermediate/a.json", "some/root/models/a"]
)
def test_a_file_in_another_place_is_found(base, path):
    layer = {"kedro-viz": {"layer": "intermediate"}}
    for entry in ({"filepath": path, "metadata": layer}, {"dataset": {"filepath": path}, "metadata": layer}):
        assert misplaced(base.changed("catalog", wrong=entry)) == {"wrong"}


def test_no_two_entries_share_a_file(configuration):
    assert colliding(configuration) == set()
    assert shared_files(configuration) == set()


def test_a_shared_file_is_found(base):
    train = base.catalog["train"]
    assert colliding(base.changed("catalog", again=train)) == {"train", "again"}
    assert shared_files(base.changed("catalog", **{"{algorithm}_x": train})) == {"{algorithm}_x"}


def test_every_entry_has_a_layer_for_the_graph(configuration):
    assert without_layer(configuration) == set()


@pytest.mark.parametrize("metadata", [{}, {"kedro-viz": {"layer": "models_"}}, {"layer": "models"}])
def test_an_entry_without_a_layer_is_found(base, metadata):
    entry = {**base.catalog["train"], "metadata": metadata}
    assert without_layer(base.changed("catalog", train=entry)) == {"train"}


def test_the_layers_of_the_graph_follow_one_another(configuration, pipelines):
    order = layer_order(configuration, pipelines)
    assert set(order) == set(FOLDERS)
    told = ("raw", "intermediate", "primary", "models", "model_output", "export", "registry", "served")
    assert [layer for layer in order if layer in told] == list(told)


def test_layers_in_a_circle_are_found(base, pipelines):
    entry = {**base.catalog["train"], "metadata": {"kedro-viz": {"layer": "served"}}}
    with pytest.raises(CycleError):
        layer_order(base.changed("catalog", train=entry), pipelines)


def test_an_environment_changes_entries_and_adds_none(load, base):
    for env in ENVIRONMENTS:
        assert set(load(env).catalog) == set(base.catalog)
        assert set(leaves(load(env).parameters)) == set(leaves(base.parameters))


def test_every_node_is_named_after_its_function(pipelines):
    for pipeline in pipelines.values():
        assert unnamed(pipeline.nodes) == set()
        assert unlike_their_function(pipeline.nodes) == set()


def test_a_node_without_a_name_is_found():
    nameless, misnamed = Node(len, "a", "b"), Node(len, "b", "c", name="length")
    assert unnamed([nameless, misnamed]) == {nameless.name}
    assert unlike_their_function([nameless, misnamed]) == {"length"}


def test_the_default_pipeline_is_the_way_of_training_in_one(pipelines):
    parts = {node.name for name in TRAINING_WAY for node in pipelines[name].nodes}
    assert {node.name for node in pipelines["__default__"].nodes} == parts
    free = {name for name in pipelines["__default__"].inputs() if not name.startswith("params:")}
    assert free == {"raw_transactions", "data_source"}


def test_a_retraining_is_the_way_of_training_from_the_next_table_on(pipelines):
    names = {node.name for node in pipelines["retraining"].nodes}
    own = {"retraining.build_next_table", "remember_retraining"}
    assert names == {node.name for node in pipelines["__default__"].nodes} | own
    [first] = [node for node in pipelines["retraining"].nodes if node.func.__name__ == "prepare_transactions"]
    assert first.inputs[0] == "next_transactions"
    inputs = pipelines["retraining"].inputs()
    assert "params:retraining.split" in inputs
    assert "params:split" not in inputs


def test_every_algorithm_is_tuned_trained_and_exported(pipelines):
    expected = {
        ("tuning", "tune"): ALGORITHM_NAMES,
        ("training", "fit_on_train"): ALGORITHM_NAMES,
        ("training", "evaluate"): CANDIDATE_NAMES,
        ("export", "convert"): CANDIDATE_NAMES,
    }
    for (name, function), candidates in expected.items():
        found = [node for node in pipelines[name].nodes if node.func.__name__ == function]
        assert len(found) == len(candidates)
        for candidate in candidates:
            assert sum(candidate in node.tags for node in found) == 1
