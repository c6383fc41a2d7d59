"""Writes a bundle whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from pathlib import Path

from fraud_kedro.champion.bundle import (
    CARD_FILE,
    METADATA_FILE,
    MODEL_FILE,
    REFERENCE_FILE,
    REGISTRATION_FILE,
    Bundle,
    BundleMetadata,
    FileRecord,
    Registration,
    metadata_digest,
    previous_of,
    read_bundle,
    read_folder,
)
from fraud_kedro.errors import BundleError

_ABANDONED_SECONDS = 3600.0
_SWAP_ATTEMPTS = 20


def write_bundle(
    folder: Path,
    metadata: BundleMetadata,
    *,
    model: bytes,
    reference: bytes,
    card: str,
    registration: Registration | None = None,
) -> Bundle:
    """Write a bundle beside its place, verify it, then put it there.

    A reader sees the previous bundle or the new one. Where the platform cannot
    swap two folders in one step, a crash between the two renames leaves the
    previous bundle as ``<folder>.previous``, which `read_bundle` falls back to.

    Parameters
    ----------
    folder : Path
        Its final place; a bundle that is there is replaced.
    metadata : BundleMetadata
        `files` and `checksum` are filled in here.
    model, reference : bytes
        ``model.onnx`` and ``reference.parquet``.
    card : str
        ``model_card.md``.

    Returns
    -------
    Bundle
        The bundle as read back from its place.

    Raises
    ------
    BundleError
        If the files cannot be written, on a full disk for example, or do not read
        back as they were written.
    """
    staging = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    payload = {MODEL_FILE: model, REFERENCE_FILE: reference, CARD_FILE: card.encode()}
    files = {
        name: FileRecord(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for name, content in payload.items()
    }
    sealed = metadata.model_copy(update={"files": files})
    digest = metadata_digest(json.loads(sealed.model_dump_json(by_alias=True)))
    sealed = sealed.model_copy(update={"checksum": digest})
    payload[METADATA_FILE] = sealed.model_dump_json(by_alias=True, indent=2).encode()
    if registration is not None:
        payload[REGISTRATION_FILE] = registration.model_dump_json().encode()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        staging.mkdir()
        for name, content in payload.items():
            with (staging / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(staging)
        read_folder(staging)
        _swap(staging, folder)
        _sync_folder(folder.parent)
    except OSError as error:
        raise BundleError(
            f"The bundle at {folder} cannot be written: {error.strerror}. What was there before is unchanged."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return read_bundle(folder)


def _remove_abandoned(folder: Path) -> None:
    """Take away what writers that were killed have left; one at work is younger."""
    for staging in folder.parent.glob(f".{folder.name}.*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - staging.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(staging, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Make new names last over a power cut, where the platform can open a folder."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(staging: Path, folder: Path) -> None:
    previous = previous_of(folder)
    for attempt in range(_SWAP_ATTEMPTS):
        try:
            if folder.exists():
                shutil.rmtree(previous, ignore_errors=True)
                folder.rename(previous)
            staging.rename(folder)
        except OSError:
            # Another writer may have come in between the two renames.
            if attempt + 1 == _SWAP_ATTEMPTS or not staging.exists():
                raise
            time.sleep(0.01)
        else:
            break
    shutil.rmtree(previous, ignore_errors=True)
