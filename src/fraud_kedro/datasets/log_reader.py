"""The prediction log as something to ask."""

from __future__ import annotations

from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from fraud_kedro.champion.tracking_store import without_password
from fraud_kedro.prediction_log import PredictionReader, open_for_reading


class LogReaderDataset(AbstractDataset[None, PredictionReader]):
    """Opens a prediction log for reading: nothing is created, migrated or locked.

    Parameters
    ----------
    url : str
        SQLAlchemy URL; a password in it is never shown.
    metadata : dict, optional
        For Kedro-Viz and other plugins.
    """

    def __init__(self, *, url: str, metadata: dict[str, Any] | None = None) -> None:
        self._url = url
        self.metadata = metadata

    def load(self) -> PredictionReader:
        """Open the log."""
        return open_for_reading(self._url)

    def save(self, data: None) -> NoReturn:
        """Refuse.

        Raises
        ------
        DatasetError
            Always: predictions are written by the service.
        """
        raise DatasetError("The prediction log is written by the service alone.")

    def _exists(self) -> bool:
        # Opening it says better what is wrong.
        return True

    def _describe(self) -> dict[str, Any]:
        return {"url": without_password(self._url)}
