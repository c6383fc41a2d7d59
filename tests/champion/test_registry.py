from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from fraud_kedro.champion.registry import Registry
from fraud_kedro.errors import BundleError, RegistryError


@pytest.fixture
def registry(real_registry):
    return Registry(real_registry.uri)


@pytest.fixture
def two_versions(make_bundle, real_registry, tmp_path):
    first = real_registry.register(make_bundle(tmp_path / "a", version=None))
    second = real_registry.register(make_bundle(tmp_path / "b", version=None, algorithm="lightgbm"))
    return first, second


def test_an_alias_resolves_to_its_version(registry, real_registry, two_versions):
    registry.set_alias("champion", two_versions[1], by="ann", why="better")
    found = registry.resolve("champion")
    assert found.version == 2
    assert found.tags["algorithm"] == "lightgbm"
    assert found.source == f"runs:/{found.run_id}/bundle/lightgbm"
    assert real_registry.files(2).is_dir()


def test_an_alias_nobody_has_is_an_error_that_names_the_way_out(registry, two_versions):
    assert registry.find("champion") is None
    with pytest.raises(RegistryError, match=r"alias 'champion'.*kedro champion set VERSION"):
        registry.resolve("champion")


def test_a_registry_without_the_model_has_no_champion_and_no_versions(registry, real_registry):
    real_registry.client.delete_registered_model("fraud_detection")
    assert registry.find("champion") is None
    assert registry.versions() == []
    assert registry.history() == []


def test_versions_are_listed_newest_first_with_their_aliases(registry, two_versions):
    registry.set_alias("champion", 1, by="ann", why="first")
    registry.set_alias("shadow", 1, by="ann", why="watch")
    assert [(v.version, v.aliases) for v in registry.versions()] == [(2, ()), (1, ("champion", "shadow"))]


def test_a_downloaded_bundle_is_the_one_that_was_registered(registry, two_versions, make_bundle, tmp_path):
    bundle = registry.download(registry.version(2), tmp_path / "there" / "bundle")
    assert bundle.folder == tmp_path / "there" / "bundle"
    assert bundle.metadata.algorithm == "lightgbm"
    assert bundle.registration is None
    assert list((tmp_path / "there").iterdir()) == [bundle.folder]


def test_a_bundle_changed_in_the_store_is_refused(registry, real_registry, two_versions, tmp_path):
    with (real_registry.files(1) / "model.onnx").open("ab") as file:
        file.write(b" ")
    with pytest.raises(
        BundleError,
        match=r"^Version 1 in the registry: model\.onnx does not match its checksum\. Choose another",
    ):
        registry.download(registry.version(1), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_another_whole_bundle_in_its_place_is_refused(registry, real_registry, make_bundle, tmp_path):
    real_registry.register(make_bundle(tmp_path / "a", version=None), checksum="0" * 64)
    with pytest.raises(BundleError, match="is not the one that was registered as version 1"):
        registry.download(registry.version(1), tmp_path / "bundle")


def test_a_bundle_missing_from_the_store_is_a_registry_error(registry, real_registry, two_versions, tmp_path):
    real_registry.files(1).rename(tmp_path / "elsewhere")
    with pytest.raises(RegistryError):
        registry.download(registry.version(1), tmp_path / "bundle")


def test_a_moved_alias_records_who_when_and_why(registry, two_versions):
    registry.set_alias("champion", 1, by="ann", why="first model")
    registry.set_alias("champion", 2, by="bob", why="average precision .86 against .84")
    tags = registry.version(2).tags
    assert (tags["champion.by"], tags["champion.why"]) == ("bob", "average precision .86 against .84")
    assert [(e["alias"], e["version"], e["by"]) for e in registry.history()] == [
        ("champion", 1, "ann"),
        ("champion", 2, "bob"),
    ]
    assert registry.history()[1]["when"] == tags["champion.when"]


def test_an_alias_taken_away_is_in_the_history(registry, two_versions):
    registry.set_alias("shadow", 1, by="ann", why="watch")
    registry.delete_alias("shadow", by="bob", why="seen enough")
    registry.delete_alias("shadow", by="bob", why="twice does nothing")
    assert registry.find("shadow") is None
    assert [(e["version"], e["why"]) for e in registry.history()] == [(1, "watch"), (None, "seen enough")]


def test_the_history_drops_its_oldest_moves_when_it_is_full(registry, two_versions, monkeypatch):
    monkeypatch.setattr("fraud_kedro.champion.registry._KEPT_MOVES", 5)
    for move in range(8):
        registry.set_alias("champion", 1 + move % 2, by="ann", why=f"{move}: {'x' * 6000}")
    assert [int(entry["why"].split(":")[0]) for entry in registry.history()] == [3, 4, 5, 6, 7]


def test_a_long_reason_is_cut_in_the_history_with_a_sign(registry, two_versions):
    registry.set_alias("champion", 1, by="ann", why="x" * 500)
    registry.set_alias("champion", 2, by="ann", why="x" * 501)
    assert [entry["why"] for entry in registry.history()] == ["x" * 500, "x" * 499 + "\u2026"]


def test_an_alias_cannot_name_a_version_that_does_not_exist(registry, two_versions):
    with pytest.raises(RegistryError, match="has no version 9"):
        registry.set_alias("champion", 9, by="ann", why="typo")


def test_an_unknown_alias_is_refused_with_those_that_exist(registry, two_versions):
    with pytest.raises(RegistryError, match="one of champion, challenger, shadow"):
        registry.set_alias("champoin", 1, by="ann", why="typo")


def test_reading_does_not_create_a_store(tmp_path):
    with pytest.raises(RegistryError, match="there is no such file"):
        Registry(f"sqlite:///{tmp_path / 'absent.db'}").find("champion")
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_something_else_is_left_as_it_is(tmp_path):
    file = tmp_path / "other.db"
    file.touch()
    with pytest.raises(RegistryError, match="is no model registry"):
        Registry(f"sqlite:///{file}").versions()
    assert file.stat().st_size == 0


def test_a_file_that_is_no_database_is_an_error(tmp_path):
    file = tmp_path / "text.db"
    file.write_text("hello " * 100)
    with pytest.raises(RegistryError, match="cannot be read"):
        Registry(f"sqlite:///{file}").find("champion")


def test_a_server_that_is_gone_is_given_up_within_seconds():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    # In a process of its own: the time limits are MLflow's environment variables.
    code = f"""
from fraud_kedro.champion.registry import Registry
from fraud_kedro.errors import RegistryError
registry = Registry("http://127.0.0.1:{port}", fail_fast=True)
import mlflow, time
start = time.monotonic()
try:
    registry.find("champion")
except RegistryError as error:
    print(time.monotonic() - start)
"""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ},
    )
    assert float(done.stdout) < 15, f"{done.stdout} of {time.monotonic() - start:.0f} s"


def test_a_password_is_not_shown():
    with pytest.raises(RegistryError) as caught:
        Registry("postgresql://ann:secret@127.0.0.1:9/registry").find("champion")
    assert "secret" not in str(caught.value)
