"""A catalog entry for the prediction log."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from fraud_kedro.locations import log_url
from fraud_kedro.prediction_log import PredictionReader, open_for_reading


class PredictionLogDataset(AbstractDataset[None, PredictionReader]):
    """Opens the log for reading; its rows stay in the database until a node asks for some.

    Parameters
    ----------
    root : str
        The log's default place is below it. ``FRAUD_LOG_URL`` names another, as
        for the service: so no password stands in the catalog.
    metadata : dict, optional
        For Kedro-Viz and other plugins.

    Examples
    --------
    ```yaml
    prediction_log:
      type: fraud_kedro.datasets.prediction_log.PredictionLogDataset
      root: data
    ```
    """

    def __init__(self, *, root: str, metadata: dict[str, Any] | None = None) -> None:
        self._root = Path(root)
        self._opened: list[PredictionReader] = []
        self.metadata = metadata

    def load(self) -> PredictionReader:
        """Open the log.

        Raises
        ------
        PredictionLogError
            If there is none, or it is of another release. Kedro shows it as a
            DatasetError.
        """
        self._opened.append(open_for_reading(log_url(self._root)))
        return self._opened[-1]

    def save(self, data: None) -> NoReturn:
        """Refuse.

        Raises
        ------
        DatasetError
            Always: the service writes the log.
        """
        raise DatasetError("The prediction log can't be saved to: the service writes it.")

    def _exists(self) -> bool:
        # Opening it says better what is wrong.
        return True

    def _release(self) -> None:
        while self._opened:
            self._opened.pop().close()

    def _describe(self) -> dict[str, Any]:
        return {"root": self._root}
