"""Late labels in the prediction log: a catalog entry that labels are saved to."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from kedro.io import AbstractDataset

from fraud_kedro.locations import log_url
from fraud_kedro.monitoring.label_table import write_all
from fraud_kedro.prediction_log import Label, open_for_reading, open_for_writing

logger = logging.getLogger(__name__)

_COLUMNS: dict[str, Any] = {
    "transaction_id": pl.String,
    "label": pl.Int8,
    "labelled_at": pl.Datetime("us", "UTC"),
    "received_at": pl.Datetime("us", "UTC"),
    "predicted": pl.Boolean,
}


class StoredLabelsDataset(AbstractDataset[list[Label], pl.DataFrame]):
    """Adds labels to a prediction log, and loads every label it ever got.

    What the log holds already is not added again, so a table may be given as
    often as one likes. A label may come before its prediction.

    Parameters
    ----------
    root : str
        The log's default place is below it; ``FRAUD_LOG_URL`` names another, so that
        no password stands in the catalog. A log that does not exist is made.
    metadata : dict, optional
        For Kedro-Viz and other plugins.
    """

    def __init__(self, *, root: str, metadata: dict[str, Any] | None = None) -> None:
        self._root = Path(root)
        self.metadata = metadata

    def save(self, data: list[Label]) -> None:
        """Add labels, and say what became of them."""
        writer = open_for_writing(log_url(self._root))
        try:
            written = write_all(writer, data, received_at=datetime.now(UTC))
        finally:
            writer.close()
        logger.info(
            "%s labels added, %s were there already, %s corrections, %s of transactions without a prediction",
            *(
                f"{n:,}"
                for n in (written.stored, written.unchanged, written.corrections, len(written.unknown))
            ),
        )

    def load(self) -> pl.DataFrame:
        """Return every label, in the order they came, and whether its transaction was predicted."""
        reader = open_for_reading(log_url(self._root))
        try:
            return pl.DataFrame([*reader.labels()], schema=_COLUMNS)
        finally:
            reader.close()

    def _exists(self) -> bool:
        # Opening it says better what is wrong.
        return True

    def _describe(self) -> dict[str, Any]:
        return {"root": self._root}
