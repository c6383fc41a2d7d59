"""The bundle: a served model as a folder of four files, and nothing executable.

``model.onnx``, ``metadata.json``, ``reference.parquet`` and ``model_card.md``.
``metadata.json`` holds the SHA-256 of the other files and of itself (of its
canonical JSON without the field ``checksum``), so a bundle that was changed
after it was written does not load.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fraud_kedro.errors import BundleError
from fraud_kedro.schema import ResolvedSchema

FORMAT_VERSION = 1
MODEL_FILE = "model.onnx"
METADATA_FILE = "metadata.json"
REFERENCE_FILE = "reference.parquet"
CARD_FILE = "model_card.md"
REGISTRATION_FILE = "registration.json"

_PAYLOAD = (MODEL_FILE, REFERENCE_FILE, CARD_FILE)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Thresholds(_Record):
    """Calibrated probabilities that separate the decisions, compared as float32."""

    flag: float = Field(ge=0, le=1)
    decline: float = Field(ge=0, le=1)
    policy: str


class Metric(_Record):
    """A figure on the test rows with its bootstrap interval."""

    value: float
    low: float | None = None
    high: float | None = None


class DataSource(_Record):
    """Where the training rows came from."""

    kind: Literal["simulated", "real"]
    name: str
    location: str


class PartRecord(_Record):
    """One side of the split; times in seconds from the schema's origin."""

    rows: int
    frauds: int
    time_from: float
    time_to: float
    fingerprint: str = ""


class DataRecord(_Record):
    """Which rows trained the model.

    `refit` says which parts the model was fitted on in the end; it is None until
    one is. `hours` are the weighted rows in each hour of the day, empty where they
    were not counted.
    """

    source: DataSource
    fingerprint: str
    test_fingerprint: str
    rows: int
    frauds: int
    weighted_rows: float
    weighted_frauds: float
    time_from: float
    time_to: float
    test_time_from: float
    split: Literal["temporal", "stratified"]
    duplicates_dropped: int = 0
    parts: dict[str, PartRecord] = {}
    hours: tuple[float, ...] = ()
    refit: Literal["train", "train_validation", "all"] | None = None


class Histogram(_Record):
    """Shares of scores between consecutive edges, on rows the scoring model had not seen."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]


class SelfTest(_Record):
    """Raw feature rows and the probabilities the graph must give for them."""

    rows: tuple[tuple[float, ...], ...]
    probabilities: tuple[float, ...]


class FileRecord(_Record):
    """A file of the bundle; size in bytes."""

    sha256: str
    size: int


class BundleMetadata(_Record):
    """Contents of ``metadata.json``.

    `background` holds the rows that explanations compare with, as the model
    reads them; without any, scores cannot be explained.
    """

    format_version: int = FORMAT_VERSION
    model_name: str = "fraud_detection"
    algorithm: str
    created: datetime
    schema_: ResolvedSchema = Field(alias="schema")
    thresholds: Thresholds
    metrics: dict[str, Metric]
    data: DataRecord
    score_histogram: Histogram
    flag_rate: float
    self_test: SelfTest
    background: tuple[tuple[float, ...], ...] = ()
    parameters: dict[str, Any]
    versions: dict[str, str]
    seed: int
    git_revision: str | None = None
    files: dict[str, FileRecord] = {}
    checksum: str = ""


def metadata_digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of ``metadata.json`` without `checksum`.

    Of what is written, not of what this release makes of it: a field that came
    later has a default, which an older bundle was sealed without.
    """
    body = {name: value for name, value in document.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


class Registration(_Record):
    """Which version of the registry a local bundle is; the artifact of a version has none."""

    version: int
    run_id: str


@dataclass(frozen=True)
class Bundle:
    """A verified bundle in memory."""

    folder: Path
    metadata: BundleMetadata
    model: bytes
    registration: Registration | None = None


def read_bundle(folder: Path, *, version: int | None = None) -> Bundle:
    """Read a bundle and verify every checksum.

    Parameters
    ----------
    folder : Path
    version : int, optional
        Of which version of the registry the folder is a passing copy: what is
        wrong is told as that version's.

    Raises
    ------
    BundleError
        If a file is missing or differs from its checksum, or the format is
        newer than this code.
    """
    while True:
        identity = _identity(folder)
        previous = previous_of(folder)
        # Where another bundle was put in place meanwhile, files of both may have been read.
        try:
            there = previous if not folder.exists() and previous.exists() else folder
            bundle = read_folder(there, version=version)
        except BundleError:
            if _identity(folder) == identity:
                raise
        else:
            if _identity(folder) == identity:
                return bundle


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def read_folder(folder: Path, *, version: int | None = None) -> Bundle:
    """Read and verify the files of one folder, as they are at this moment; `version` as in `read_bundle`."""
    mend = _MEND if version is None else MEND_VERSION

    def called(file: str) -> str:
        return str(folder / file) if version is None else f"Version {version} in the registry: {file}"

    try:
        raw = json.loads((folder / METADATA_FILE).read_bytes())
        payload = {name: (folder / name).read_bytes() for name in _PAYLOAD}
        registration = _read_registration(folder / REGISTRATION_FILE)
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise BundleError(
            f"No bundle at {folder}: {missing} is missing. Train one with `kedro run`."
            if version is None
            else f"{called(missing)} is missing. {mend}"
        ) from error
    except OSError as error:
        raise BundleError(
            f"{called(Path(error.filename).name)} cannot be read: {error.strerror}. {mend}"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{called(METADATA_FILE)} is not JSON ({error}). {mend}") from error
    found = raw.get("format_version") if isinstance(raw, dict) else None
    if found != FORMAT_VERSION:
        place = f"The bundle at {folder}" if version is None else f"The bundle of version {version}"
        raise BundleError(
            f"{place} has format {found!r}; this version reads format {FORMAT_VERSION}. "
            "Use the release that wrote it, or export the model again."
        )
    try:
        metadata = BundleMetadata.model_validate(raw)
    except ValidationError as error:
        raise BundleError(f"{called(METADATA_FILE)} is not a bundle's metadata: {error}. {mend}") from error
    if metadata_digest(raw) != metadata.checksum:
        raise BundleError(f"{called(METADATA_FILE)} was changed after it was written. {mend}")
    for name, content in payload.items():
        record = metadata.files.get(name)
        if record is None or hashlib.sha256(content).hexdigest() != record.sha256:
            raise BundleError(f"{called(name)} does not match its checksum. {mend}")
    return Bundle(folder=folder, metadata=metadata, model=payload[MODEL_FILE], registration=registration)


def _read_registration(file: Path) -> Registration | None:
    if not file.exists():
        return None
    try:
        return Registration.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise BundleError(f"{file} is not a registration: {error}. {_MEND}") from error


_MEND = (
    "Restore it from the registry with `kedro champion set VERSION --why REASON`, or export the model again."
)
MEND_VERSION = (
    "Choose another version with `kedro champion set VERSION --why REASON`, or export the model again with "
    "`kedro run --pipeline=export`."
)


def previous_of(folder: Path) -> Path:
    """Where the bundle lies that is being replaced."""
    return folder.with_name(f"{folder.name}.previous")
