"""Faults of the registry and the disk that must leave the running model in place."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile

import pytest
import sqlalchemy as sa

from fraud_kedro.champion.registry import MODEL_NAME, Registry
from fraud_kedro.serving.model_store import ModelStore
from fraud_kedro.serving.settings import ServingSettings


@pytest.fixture
def store(make_bundle, real_registry, tmp_path):
    """A store that serves version 1 of a registry with two versions."""
    for number in (1, 2):
        real_registry.register(make_bundle(tmp_path / "made" / str(number), version=None, intercept=-number))
    Registry(real_registry.uri).set_alias("champion", 1, by="ann", why="first")
    store = ModelStore(ServingSettings(root=tmp_path, mlflow_tracking_uri=real_registry.uri))
    assert store.refresh()
    return store


def serves_as_before(store):
    scorer = store.current.scorer
    scorer.self_test()
    return store.current.name


def test_an_alias_that_names_a_deleted_version_leaves_the_running_model(store, real_registry):
    before = serves_as_before(store)
    engine = sa.create_engine(real_registry.uri)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE registered_model_aliases SET version = 2"))
        connection.execute(
            sa.text("UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE version = 2")
        )
    engine.dispose()

    assert store.refresh() is False

    assert serves_as_before(store) == before
    assert "names version 2, which has been deleted" in store.problem
    assert "kedro champion set VERSION" in store.problem


def test_a_deleted_champion_leaves_the_running_model(store, real_registry):
    before = serves_as_before(store)
    real_registry.client.delete_model_version(MODEL_NAME, "1")

    assert store.refresh() is False

    assert serves_as_before(store) == before
    assert "has no champion" in store.problem


def test_a_full_disk_leaves_the_running_model_until_there_is_room(store, real_registry, monkeypatch):
    before = serves_as_before(store)
    Registry(real_registry.uri).set_alias("champion", 2, by="ann", why="better")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "move", full)
    assert store.refresh() is False
    assert serves_as_before(store) == before
    assert "No space left on device" in store.problem

    monkeypatch.undo()
    assert store.refresh() is True
    assert store.current.version == 2
    assert store.problem is None


def test_no_room_for_a_temporary_folder_leaves_the_running_model(store, real_registry, monkeypatch):
    before = serves_as_before(store)
    Registry(real_registry.uri).set_alias("champion", 2, by="ann", why="better")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/fraud-champion-x")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    assert store.refresh() is False
    assert serves_as_before(store) == before
    assert "Version 2 is champion and could not be loaded: No space left on device" in store.problem

    monkeypatch.undo()
    assert store.refresh() is True
    assert store.current.version == 2
