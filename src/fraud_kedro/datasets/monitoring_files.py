"""Files that monitoring leaves: the last verdict about drift, and the history of retrainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from fraud_kedro.monitoring.drift_files import read_verdict
from fraud_kedro.monitoring.drift_verdict import DriftVerdict
from fraud_kedro.monitoring.retraining_history import (
    HISTORY_FILE,
    HistoryEntry,
    append_history,
    read_history,
)


class LastVerdictDataset(AbstractDataset[None, DriftVerdict | None]):
    """Reads the last verdict about drift; None where nobody has looked.

    Parameters
    ----------
    file : str
        Its JSON.
    metadata : dict, optional
        For Kedro-Viz and other plugins.
    """

    def __init__(self, *, file: str, metadata: dict[str, Any] | None = None) -> None:
        self._file = Path(file)
        self.metadata = metadata

    def load(self) -> DriftVerdict | None:
        """Read the file."""
        return read_verdict(self._file)

    def save(self, data: None) -> NoReturn:
        """Refuse.

        Raises
        ------
        DatasetError
            Always: who looks for drift writes it.
        """
        raise DatasetError("A verdict about drift is only read here.")

    def _exists(self) -> bool:
        # Not to have looked is an answer too.
        return True

    def _describe(self) -> dict[str, Any]:
        return {"file": str(self._file)}


class RetrainingHistoryDataset(AbstractDataset[HistoryEntry, tuple[HistoryEntry, ...]]):
    """Adds an entry to the history of retrainings, and loads all of them.

    Parameters
    ----------
    folder : str
        Where ``history.jsonl`` lies.
    metadata : dict, optional
        For Kedro-Viz and other plugins.
    """

    def __init__(self, *, folder: str, metadata: dict[str, Any] | None = None) -> None:
        self._file = Path(folder) / HISTORY_FILE
        self.metadata = metadata

    def load(self) -> tuple[HistoryEntry, ...]:
        """Read every entry, in the order they were added."""
        return read_history(self._file)

    def save(self, data: HistoryEntry) -> None:
        """Add an entry."""
        append_history(self._file, data)

    def _exists(self) -> bool:
        # Without a file nothing has happened yet.
        return True

    def _describe(self) -> dict[str, Any]:
        return {"file": str(self._file)}
