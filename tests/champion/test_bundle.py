from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fraud_kedro.champion.bundle import (
    CARD_FILE,
    FORMAT_VERSION,
    METADATA_FILE,
    MODEL_FILE,
    REFERENCE_FILE,
    REGISTRATION_FILE,
    Bundle,
    Registration,
    metadata_digest,
    read_bundle,
)
from fraud_kedro.champion.bundle_writer import write_bundle
from fraud_kedro.errors import BundleError

CHECKED = (MODEL_FILE, REFERENCE_FILE, CARD_FILE)


@pytest.fixture
def bundle(make_bundle, tmp_path):
    return make_bundle(tmp_path / "champion")


def rewrite(bundle: Bundle, folder: Path, card: str = "# another\n") -> Bundle:
    return write_bundle(
        folder,
        bundle.metadata,
        model=bundle.model,
        reference=(bundle.folder / REFERENCE_FILE).read_bytes(),
        card=card,
        registration=Registration(version=2, run_id="run2"),
    )


def change_metadata(folder: Path, seal: bool = False, **changes):
    """Change fields of ``metadata.json``, with a checksum that fits them if `seal`."""
    file = folder / METADATA_FILE
    content = {**json.loads(file.read_text()), **changes}
    if seal:
        body = {name: value for name, value in content.items() if name != "checksum"}
        content["checksum"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps(content))


def test_a_bundle_is_read_as_it_was_written(bundle, tmp_path):
    again = read_bundle(tmp_path / "champion")
    assert again == bundle
    assert again.model == (tmp_path / "champion" / MODEL_FILE).read_bytes()
    assert again.registration == Registration(version=1, run_id="run1")
    assert sorted(p.name for p in again.folder.iterdir()) == sorted(
        [*CHECKED, METADATA_FILE, REGISTRATION_FILE]
    )


def test_nothing_but_the_bundle_is_left_after_a_write(bundle, tmp_path):
    rewrite(bundle, tmp_path / "champion")
    assert [p.name for p in tmp_path.iterdir()] == ["champion"]


def test_a_bundle_replaces_the_one_before(bundle, tmp_path):
    rewrite(bundle, tmp_path / "champion")
    again = read_bundle(tmp_path / "champion")
    assert again.registration is not None
    assert again.registration.version == 2
    assert (again.folder / CARD_FILE).read_text() == "# another\n"


def test_folders_on_the_way_are_made(bundle, tmp_path):
    assert rewrite(bundle, tmp_path / "a" / "b" / "bundle").folder.is_dir()


def test_a_bundle_without_registration_has_none(make_bundle, tmp_path):
    assert make_bundle(tmp_path / "artifact", version=None).registration is None


def test_the_record_of_each_file_is_its_sum_and_size(bundle):
    assert set(bundle.metadata.files) == set(CHECKED)
    for name, record in bundle.metadata.files.items():
        content = (bundle.folder / name).read_bytes()
        assert record.size == len(content)
        assert record.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize("change", ["append", "flip", "empty"])
def test_a_changed_file_is_refused_by_name(bundle, name, change):
    file = bundle.folder / name
    content = bytearray(file.read_bytes())
    if change == "append":
        content += b"\n"
    elif change == "flip":
        content[len(content) // 2] ^= 1
    else:
        content.clear()
    file.write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name} does not match its checksum.*kedro champion set"):
        read_bundle(bundle.folder)


@pytest.mark.parametrize("name", [*CHECKED, METADATA_FILE])
def test_a_missing_file_is_named_with_the_way_out(bundle, name):
    (bundle.folder / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing.*kedro run"):
        read_bundle(bundle.folder)


@pytest.mark.parametrize("name", [*CHECKED, METADATA_FILE])
def test_a_folder_in_place_of_a_file_is_a_bundle_error(bundle, name):
    (bundle.folder / name).unlink()
    (bundle.folder / name).mkdir()
    with pytest.raises(BundleError, match=name):
        read_bundle(bundle.folder)


def test_no_bundle_at_all_says_where_and_what_to_do(tmp_path):
    with pytest.raises(BundleError, match=r"No bundle at .*nothing.*kedro run"):
        read_bundle(tmp_path / "nothing")


def test_a_file_in_place_of_the_folder_is_a_bundle_error(tmp_path):
    (tmp_path / "champion").write_text("no folder")
    with pytest.raises(BundleError, match="champion"):
        read_bundle(tmp_path / "champion")


def test_every_field_of_the_metadata_is_sealed(bundle):
    content = json.loads((bundle.folder / METADATA_FILE).read_text())
    thresholds = {**content["thresholds"], "flag": 0.999}
    for changes in ({"thresholds": thresholds}, {"flag_rate": 0.0}, {"algorithm": "xgboost"}, {"seed": 8}):
        original = (bundle.folder / METADATA_FILE).read_bytes()
        change_metadata(bundle.folder, **changes)
        with pytest.raises(BundleError, match=rf"{METADATA_FILE} was changed"):
            read_bundle(bundle.folder)
        (bundle.folder / METADATA_FILE).write_bytes(original)
    read_bundle(bundle.folder)


def test_a_bundle_that_was_sealed_without_a_later_field_still_loads(bundle):
    file = bundle.folder / METADATA_FILE
    document = json.loads(file.read_text())
    del document["background"]
    document["checksum"] = metadata_digest(document)
    file.write_text(json.dumps(document))
    assert read_bundle(bundle.folder).metadata.background == ()


def test_a_file_without_a_record_is_refused(bundle):
    files = json.loads((bundle.folder / METADATA_FILE).read_text())["files"]
    del files[MODEL_FILE]
    change_metadata(bundle.folder, seal=True, files=files)
    with pytest.raises(BundleError, match=MODEL_FILE):
        read_bundle(bundle.folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000], ids=["empty", "cut", "bytes", "deep"]
)
def test_metadata_that_is_no_json_is_refused(bundle, content):
    (bundle.folder / METADATA_FILE).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{METADATA_FILE} is not JSON"):
        read_bundle(bundle.folder)


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"format_version": "1"}'])
def test_json_that_is_no_bundle_is_refused(bundle, content):
    (bundle.folder / METADATA_FILE).write_text(content)
    with pytest.raises(BundleError, match=f"this version reads format {FORMAT_VERSION}"):
        read_bundle(bundle.folder)


def test_another_format_is_refused_with_both_numbers(bundle):
    change_metadata(bundle.folder, seal=True, format_version=99)
    with pytest.raises(BundleError, match=rf"has format 99; this version reads format {FORMAT_VERSION}"):
        read_bundle(bundle.folder)


@pytest.mark.parametrize(
    "changes", [{"thresholds": {"flag": 2, "decline": 3, "policy": "x"}}, {"colour": "red"}]
)
def test_metadata_that_does_not_fit_is_refused_even_if_sealed(bundle, changes):
    change_metadata(bundle.folder, seal=True, **changes)
    with pytest.raises(BundleError, match=rf"{METADATA_FILE} is not a bundle's metadata"):
        read_bundle(bundle.folder)


@pytest.mark.parametrize("content", ["", "{}", '{"version": "first", "run_id": "a"}'])
def test_a_broken_registration_is_refused_by_name(bundle, content):
    (bundle.folder / REGISTRATION_FILE).write_text(content)
    with pytest.raises(BundleError, match=REGISTRATION_FILE):
        read_bundle(bundle.folder)


class _Interrupted(BaseException):
    """A stop that nothing in the code may take for an error of its own."""


@pytest.mark.parametrize("step", range(6))
def test_a_write_that_stops_at_a_file_leaves_the_bundle_before(bundle, tmp_path, monkeypatch, step):
    calls = iter(range(100))

    def stop(descriptor):
        if next(calls) == step:
            raise _Interrupted

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(_Interrupted):
        rewrite(bundle, tmp_path / "champion")
    assert read_bundle(tmp_path / "champion") == bundle
    assert [p.name for p in tmp_path.iterdir()] == ["champion"]


@pytest.mark.parametrize("step", [0, 1])
def test_a_write_that_stops_at_a_rename_leaves_the_bundle_before(bundle, tmp_path, monkeypatch, step):
    rename, calls = Path.rename, iter(range(100))

    def stop(self, target):
        if next(calls) == step:
            raise _Interrupted
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(_Interrupted):
        rewrite(bundle, tmp_path / "champion")
    monkeypatch.undo()
    found = read_bundle(tmp_path / "champion")
    assert (found.metadata, found.model, found.registration) == (
        bundle.metadata,
        bundle.model,
        bundle.registration,
    )
    # The next write goes through as if nothing had happened.
    rewrite(found, tmp_path / "champion")
    assert [p.name for p in tmp_path.iterdir()] == ["champion"]


def test_a_first_write_that_stops_leaves_nothing(bundle, tmp_path, monkeypatch):
    def stop(self, target):
        raise _Interrupted

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(_Interrupted):
        rewrite(bundle, tmp_path / "other" / "champion")
    assert list((tmp_path / "other").iterdir()) == []


def test_what_does_not_read_back_is_never_put_in_place(bundle, tmp_path, monkeypatch):
    opened = Path.open

    def corrupt(self, *arguments, **options):
        if self.name == MODEL_FILE and arguments == ("wb",):
            return opened(self.with_name("elsewhere"), *arguments, **options)
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", corrupt)
    with pytest.raises(BundleError, match=MODEL_FILE):
        rewrite(bundle, tmp_path / "champion")
    monkeypatch.undo()
    assert read_bundle(tmp_path / "champion") == bundle


_REWRITE_FOR_EVER = """
import sys
from pathlib import Path
from fraud_kedro.champion.bundle import Registration, read_bundle
from fraud_kedro.champion.bundle_writer import write_bundle
source, target = map(Path, sys.argv[1:])
bundle = read_bundle(source)
number = 0
while True:
    number += 1
    write_bundle(
        target, bundle.metadata, model=bundle.model, card=f"# {number}",
        reference=(source / "reference.parquet").read_bytes(),
        registration=Registration(version=number, run_id=f"run{number}"),
    )
    print(number, flush=True)
"""


def test_a_killed_writer_always_leaves_a_whole_bundle(make_bundle, tmp_path):
    source = make_bundle(tmp_path / "source")
    target = tmp_path / "there" / "champion"
    moments = random.Random(11)
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", _REWRITE_FOR_EVER, str(source.folder), str(target)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "1\n"
            time.sleep(moments.uniform(0, 0.03))
        finally:
            writer.send_signal(signal.SIGKILL)
            output, _ = writer.communicate()
        written = max(map(int, output.split()), default=1)
        found = read_bundle(target)
        assert found.registration is not None
        assert found.registration.version in (written, written + 1)


def test_a_reader_beside_a_writer_always_finds_a_whole_bundle(make_bundle, tmp_path):
    source = make_bundle(tmp_path / "source")
    target = tmp_path / "there" / "champion"
    writer = subprocess.Popen(
        [sys.executable, "-c", _REWRITE_FOR_EVER, str(source.folder), str(target)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "1\n"
        seen = set()
        end = time.monotonic() + 1
        while time.monotonic() < end:
            found = read_bundle(target)
            assert found.registration is not None
            seen.add(found.registration.version)
    finally:
        writer.kill()
        writer.communicate()
    assert len(seen) > 5


def test_two_writers_at_once_both_come_through(make_bundle, tmp_path):
    first, second = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b", intercept=-2.0)
    place = tmp_path / "champion"
    with ThreadPoolExecutor(2) as pool:
        writes = [pool.submit(rewrite, draft, place) for draft in [first, second] * 15]
        for write in writes:
            write.result()
    assert read_bundle(place).model in {first.model, second.model}
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b", "champion"}


def test_a_full_disk_is_told_and_leaves_the_bundle_before(bundle, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match=r"champion cannot be written: No space left on device\. What was"):
        rewrite(bundle, tmp_path / "champion")
    assert read_bundle(tmp_path / "champion") == bundle
    assert [p.name for p in tmp_path.iterdir()] == ["champion"]


def test_what_a_killed_writer_left_is_taken_away_once_it_is_old(bundle, tmp_path):
    old, young = tmp_path / ".champion.old", tmp_path / ".champion.young"
    for staging in (old, young):
        staging.mkdir()
        (staging / MODEL_FILE).write_bytes(b"half")
    os.utime(old, (0, 0))
    rewrite(bundle, tmp_path / "champion")
    assert not old.exists()
    assert young.exists()
