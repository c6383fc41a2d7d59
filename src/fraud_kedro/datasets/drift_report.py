"""A catalog entry for reports on drift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from fraud_kedro.monitoring.drift_files import DriftReport, keep_report


class DriftReportDataset(AbstractDataset[DriftReport, str]):
    """Keeps each report with its date, the newest under a name of its own, and a history.

    Parameters
    ----------
    filepath : str
        Of the newest page, on the local file system; see `keep_report`.
    metadata : dict, optional
        For Kedro-Viz and other plugins.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> str:
        """Read the newest page."""
        return self._filepath.read_text(encoding="utf-8")

    def save(self, data: DriftReport) -> None:
        """Keep a report; earlier ones stay."""
        keep_report(self._filepath, data)

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
