from __future__ import annotations

import json

import pytest
from kedro.io import DatasetError

from fraud_kedro.champion.bundle import CARD_FILE, METADATA_FILE, MODEL_FILE, REFERENCE_FILE, Registration
from fraud_kedro.datasets.bundle import BundleDataset, BundleDraft
from fraud_kedro.errors import BundleError


@pytest.fixture
def dataset(tmp_path):
    return BundleDataset(filepath=str(tmp_path / "models" / "bundle"))


@pytest.fixture
def draft(make_bundle, tmp_path):
    bundle = make_bundle(tmp_path / "made", version=None)
    return BundleDraft(
        metadata=bundle.metadata,
        model=bundle.model,
        reference=(bundle.folder / REFERENCE_FILE).read_bytes(),
        card="# the card\n",
    )


def test_a_draft_comes_back_as_a_verified_bundle(dataset, draft, tmp_path):
    dataset.save(draft)
    bundle = dataset.load()
    assert bundle.folder == tmp_path / "models" / "bundle"
    assert bundle.model == draft.model
    assert bundle.registration is None
    assert (bundle.folder / CARD_FILE).read_text() == "# the card\n"
    assert (bundle.folder / REFERENCE_FILE).read_bytes() == draft.reference
    sealed = {"files", "checksum"}
    assert bundle.metadata.model_dump(exclude=sealed) == draft.metadata.model_dump(exclude=sealed)
    assert bundle.metadata.checksum != draft.metadata.checksum


def test_a_local_copy_keeps_its_registration(dataset, draft):
    registration = Registration(version=3, run_id="abc")
    dataset.save(BundleDraft(**{**vars(draft), "registration": registration}))
    assert dataset.load().registration == registration


def test_a_bundle_exists_once_it_is_saved(dataset, draft):
    assert not dataset.exists()
    dataset.save(draft)
    assert dataset.exists()


def test_a_tampered_bundle_does_not_load(dataset, draft):
    dataset.save(draft)
    file = dataset.load().folder / MODEL_FILE
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert isinstance(caught.value.__cause__, BundleError)
    assert MODEL_FILE in str(caught.value.__cause__)


def test_a_missing_bundle_says_what_to_do(dataset):
    with pytest.raises(DatasetError, match="kedro run"):
        dataset.load()


def test_the_preview_is_the_metadata_without_the_rows_of_the_self_test(dataset, draft):
    dataset.save(draft)
    shown = json.loads(dataset.preview())
    written = json.loads((dataset.load().folder / METADATA_FILE).read_text())
    assert written.pop("self_test")["rows"]
    assert shown == written


def test_keeping_leaves_the_folder_as_it_is(make_bundle, tmp_path):
    from fraud_kedro.datasets.bundle import BundleDataset, KeepBundle

    before = make_bundle(tmp_path / "champion").metadata.checksum
    dataset = BundleDataset(filepath=str(tmp_path / "champion"))
    dataset.save(KeepBundle())

    assert dataset.load().metadata.checksum == before
