"""What happens to versions and the champion when the store dies, fills up, or is shared."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from fraud_kedro.champion.registry import MODEL_NAME, Registry
from fraud_kedro.errors import RegistryError
from fraud_kedro.pipelines.export.options import Promotion
from fraud_kedro.pipelines.export.registration import (
    apply_promotion,
    bundle_draft,
    current_registry,
    record_promotion,
    register_bundle,
)


def export(bundle, twin):
    """Register a candidate and crown it, as the pipeline does."""
    registry = current_registry()
    number = register_bundle(bundle, twin)
    promotion = Promotion(
        outcome="promoted",
        algorithm=bundle.metadata.algorithm,
        version=number,
        reigning_version=None,
        reason="better",
    )
    record_promotion(registry, promotion, bundle_draft(registry, registry.version(number)))
    apply_promotion(registry, promotion)
    return number


def export_until_it_fails(bundle, twin):
    """The message of the error that ended it, None if nothing did."""
    try:
        export(bundle, twin)
    except RegistryError as error:
        return str(error)
    return None


class DyingStore:
    """A database that answers no more from its n-th change on."""

    def __init__(self, changes: int) -> None:
        self.left = changes
        self.dead = False

    def __call__(self, connection, cursor, statement, parameters, context, executemany) -> None:
        if statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")):
            self.left -= 1
        self.dead = self.dead or self.left < 0
        if self.dead:
            raise OperationalError(statement, parameters, Exception("the disk is gone"))

    def __enter__(self) -> DyingStore:
        sa.event.listen(Engine, "before_cursor_execute", self)
        return self

    def __exit__(self, *exception) -> None:
        sa.event.remove(Engine, "before_cursor_execute", self)


def test_a_store_that_dies_at_any_change_leaves_the_champion_as_it_was(
    active_run, bundle, twin, make_bundle, tmp_path
):
    before = export(make_bundle(tmp_path / "before", version=None, intercept=-1.0), twin)
    registry = current_registry()
    changes = 0
    while True:
        with DyingStore(changes) as store:
            problem = export_until_it_fails(bundle, twin)
        if problem is None:
            assert not store.dead
            break
        assert "the disk is gone" in problem
        champion = registry.resolve("champion")
        assert champion.version == before
        # What has been registered by then is whole.
        for version in registry.versions():
            shutil.rmtree(tmp_path / "downloaded", ignore_errors=True)
            registry.download(version, tmp_path / "downloaded")
        changes += 1

    assert changes > 10
    assert registry.resolve("champion").version > before


def test_a_full_disk_while_registering_is_told_and_moves_nothing(active_run, bundle, twin, monkeypatch):
    before = export(bundle, twin)

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copy2", full)
    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(RegistryError, match=r"No space left on device.*No alias has moved"):
        register_bundle(bundle, twin)
    monkeypatch.undo()
    assert current_registry().resolve("champion").version == before
    assert [version.version for version in current_registry().versions()] == [before]


def lose_alias(real_registry, alias, version):
    """Delete a version, and put back the alias as a store might that keeps it."""
    registry = Registry(real_registry.uri)
    real_registry.client.delete_model_version(MODEL_NAME, str(version))
    assert registry.find(alias) is None
    engine = sa.create_engine(real_registry.uri)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO registered_model_aliases (workspace, alias, version, name) "
                "SELECT workspace, :alias, :version, name FROM registered_models"
            ),
            {"alias": alias, "version": version},
        )
    engine.dispose()


def test_an_alias_that_names_a_deleted_version_is_no_missing_alias(active_run, bundle, twin, real_registry):
    lost, other = export(bundle, twin), register_bundle(bundle, twin)
    lose_alias(real_registry, "champion", lost)

    registry = current_registry()
    for asked in (registry.find, registry.resolve):
        with pytest.raises(
            RegistryError, match=rf"names version {lost}, which has been deleted.*champion set"
        ):
            asked("champion")
    registry.set_alias("champion", other, by="ann", why="the old one is gone")
    assert registry.resolve("champion").version == other


def test_a_lost_challenger_is_in_nobodys_way(active_run, bundle, twin, real_registry):
    first, second = register_bundle(bundle, twin), register_bundle(bundle, twin)
    lose_alias(real_registry, "challenger", first)
    with pytest.raises(RegistryError, match=r"names version 1, which has been deleted.*page in MLflow"):
        current_registry().find("challenger")

    third = export(bundle, twin)

    assert (second, third) == (2, 3)
    assert current_registry().resolve("champion").version == third


_EXPORT_REPEATEDLY = """
import sys
from pathlib import Path
import mlflow, onnx
from fraud_kedro.champion.bundle import read_bundle
from fraud_kedro.pipelines.export.registration import current_registry, register_bundle
uri, folder, experiment, name = sys.argv[1:]
mlflow.set_tracking_uri(uri)
bundle = read_bundle(Path(folder))
twin = onnx.load_from_string(bundle.model)
print("ready", flush=True)
sys.stdin.readline()
with mlflow.start_run(experiment_id=experiment):
    for turn in range(4):
        number = register_bundle(bundle, twin)
        current_registry().set_alias("champion", number, by=name, why=f"{name} {turn}")
        print(number, flush=True)
"""


@pytest.mark.slow
def test_two_exports_at_once_register_whole_versions_and_lose_no_move(real_registry, make_bundle, tmp_path):
    # Before the first version: both find no registered model.
    real_registry.client.delete_registered_model(MODEL_NAME)
    bundles = {
        name: make_bundle(tmp_path / name, version=None, algorithm=name, intercept=intercept)
        for name, intercept in (("lightgbm", -1.0), ("xgboost", -2.0))
    }
    writers = {
        name: subprocess.Popen(
            [
                sys.executable,
                "-c",
                _EXPORT_REPEATEDLY,
                real_registry.uri,
                str(bundle.folder),
                real_registry.experiment,
                name,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, bundle in bundles.items()
    }
    try:
        for writer in writers.values():
            assert writer.stdout.readline() == "ready\n", writer.stderr.read()
        for writer in writers.values():
            writer.stdin.write("go\n")
            writer.stdin.flush()
        outputs = {name: writer.communicate(timeout=100) for name, writer in writers.items()}
    finally:
        for writer in writers.values():
            writer.kill()
    assert [writer.returncode for writer in writers.values()] == [0, 0], outputs
    numbers = {name: [int(line) for line in out.split()] for name, (out, _) in outputs.items()}

    registry = Registry(real_registry.uri)
    assert sorted(number for own in numbers.values() for number in own) == list(range(1, 9))
    for name, own in numbers.items():
        for number in own:
            downloaded = registry.download(registry.version(number), tmp_path / f"version{number}")
            assert downloaded.metadata == bundles[name].metadata
    moves = registry.history()
    assert sorted(move["version"] for move in moves) == list(range(1, 9))
    assert {move["version"]: move["by"] for move in moves} == {
        number: name for name, own in numbers.items() for number in own
    }
    assert registry.resolve("champion").version in {own[-1] for own in numbers.values()}
