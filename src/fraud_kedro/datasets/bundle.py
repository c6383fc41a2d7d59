"""A catalog entry for a bundle: the folder of files that is served."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import JSONPreview

from fraud_kedro.champion.bundle import (
    METADATA_FILE,
    Bundle,
    BundleMetadata,
    Registration,
    read_bundle,
)
from fraud_kedro.champion.bundle_writer import write_bundle


@dataclass(frozen=True)
class BundleDraft:
    """The contents of a bundle that is not written yet.

    Attributes
    ----------
    metadata : BundleMetadata
    model, reference : bytes
        ``model.onnx`` and ``reference.parquet``.
    card : str
        ``model_card.md``.
    registration : Registration, optional
        For the local copy of a registered version.
    """

    metadata: BundleMetadata
    model: bytes
    reference: bytes
    card: str
    registration: Registration | None = None


class KeepBundle:
    """Saved in place of a draft: the folder stays as it is. Kedro saves no None."""


class BundleDataset(AbstractDataset[BundleDraft | KeepBundle, Bundle]):
    """Saves a draft as a bundle, whole or not at all, and loads it verified.

    Parameters
    ----------
    filepath : str
        The bundle's folder, on the local file system: a folder is put in place by
        one rename, which an object store does not have.
    metadata : dict, optional
        For Kedro-Viz and other plugins.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Bundle:
        """Read and verify the bundle."""
        return read_bundle(self._filepath)

    def save(self, data: BundleDraft | KeepBundle) -> None:
        """Write, verify and put in place."""
        if isinstance(data, KeepBundle):
            return
        write_bundle(
            self._filepath,
            data.metadata,
            model=data.model,
            reference=data.reference,
            card=data.card,
            registration=data.registration,
        )

    def preview(self) -> JSONPreview:
        """Show the metadata in Kedro-Viz, without the long lists."""
        metadata = json.loads((self._filepath / METADATA_FILE).read_bytes())
        return JSONPreview(json.dumps({k: v for k, v in metadata.items() if k != "self_test"}))

    def _exists(self) -> bool:
        return (self._filepath / METADATA_FILE).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
