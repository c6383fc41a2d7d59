"""What monitoring has found last, as metrics: read from its files when Prometheus asks."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fraud_kedro.champion.bundle import BundleMetadata
from fraud_kedro.locations import drift_verdict_file, performance_file
from fraud_kedro.serving.metrics import (
    DRIFT,
    DRIFT_TIME,
    FLAG_RATE,
    MODEL_CREATED,
    PERFORMANCE_TIME,
    RECALL,
    RECALL_EXPECTED,
    RECALL_HIGH,
    RECALL_LIMIT,
)

logger = logging.getLogger(__name__)

_VERDICTS = {"ok": 0.0, "warn": 1.0, "drift": 2.0}
# A figure nobody knows compares with nothing, so no alert comes of it.
UNKNOWN = math.nan


class MonitoringGauges:
    """Shows the newest verdict about drift and the newest performance.

    Parameters
    ----------
    root : Path
        What the files are below.
    """

    def __init__(self, root: Path) -> None:
        self._verdict = drift_verdict_file(root)
        self._performance = performance_file(root)
        # By file: when it was changed last, and what it held.
        self._read: dict[Path, tuple[tuple[int, int], Mapping[str, Any]]] = {}

    def refresh(self, model_version: str | None, metadata: BundleMetadata | None) -> None:
        """Set the gauges; a file that is not there, or is none of ours, leaves its gauges unknown.

        Parameters
        ----------
        model_version : str or None
            The champion that serves.
        metadata : BundleMetadata or None
            Its bundle's.
        """
        verdict = self._document(self._verdict)
        # After a promotion, what was said of the last champion is no alarm.
        is_served = model_version in (None, verdict.get("model_version"))
        DRIFT.set(_VERDICTS.get(str(verdict.get("verdict")), UNKNOWN) if is_served else UNKNOWN)
        DRIFT_TIME.set(_seconds(_until(verdict)))
        performance = self._document(self._performance)
        PERFORMANCE_TIME.set(_seconds(performance.get("as_of")))
        recall = _recall(performance, model_version)
        RECALL.set(_number(recall.get("value")))
        RECALL_HIGH.set(_number(recall.get("high")))
        expected = metadata.metrics.get("recall") if metadata else None
        RECALL_EXPECTED.set(_number(expected.value if expected else None))
        RECALL_LIMIT.set(_number(expected.low if expected else None))
        FLAG_RATE.set(_number(metadata.flag_rate if metadata else None))
        MODEL_CREATED.set(UNKNOWN if metadata is None else metadata.created.timestamp())

    def _document(self, file: Path) -> Mapping[str, Any]:
        try:
            found = file.stat()
            changed = (found.st_mtime_ns, found.st_ino)
            if file in self._read and self._read[file][0] == changed:
                return self._read[file][1]
            document = json.loads(file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be shown to Prometheus: %s", file, error)
            return {}
        kept = document if isinstance(document, dict) else {}
        self._read[file] = (changed, kept)
        return kept


def _until(verdict: Mapping[str, Any]) -> object:
    window = verdict.get("window")
    return window.get("until") if isinstance(window, dict) else None


def _recall(performance: Mapping[str, Any], model_version: str | None) -> Mapping[str, Any]:
    versions = performance.get("versions")
    for version in versions if isinstance(versions, list) else ():
        if isinstance(version, dict) and version.get("model_version") == model_version:
            figures = version.get("figures")
            recall = figures.get("recall") if isinstance(figures, dict) else None
            return recall if isinstance(recall, dict) else {}
    return {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else UNKNOWN


def _seconds(moment: object) -> float:
    try:
        return datetime.fromisoformat(str(moment)).timestamp()
    except ValueError:
        return UNKNOWN
