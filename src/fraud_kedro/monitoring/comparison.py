"""Versions side by side, by what they answered and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.champion.bundle import Thresholds
from fraud_kedro.evaluation.bootstrap import bootstrap, interval
from fraud_kedro.evaluation.measures import Measured, decisions, measure, ranking
from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.evaluation.selection import paired_figures
from fraud_kedro.prediction_log import PredictionReader

FIGURES = ("recall", "precision", "average_precision")
DECISIONS = ("approve", "review", "decline")

# Fewer of either class say nothing that an interval could hold.
LEAST_OF_A_CLASS = 20
# Labelled rows that figures are computed on, the newest: intervals of 500 draws take seconds.
MOST_LABELLED = 50_000
SEED = 0

_COLUMNS = (
    "transaction_id", "role", "timestamp", "model_version", "probability", "prediction", "decision",
)  # fmt: skip

Rows = dict[str, NDArray[Any]]


def compare_versions(
    reader: PredictionReader, *, since: datetime, most_rows: int, repetitions: int
) -> dict[str, Any]:
    """Compare the versions that scored since a moment.

    Parameters
    ----------
    reader : PredictionReader
    since : datetime
        Aware.
    most_rows : int
        The newest so many predictions are read, shadow scores among them.
    repetitions : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``since``, ``until``, ``rows``, ``is_all`` (whether nothing was left out),
        ``versions`` (a list, one for each version and role) and ``pairs`` (shadow
        beside champion on the same transactions). Numbers only, for JSON.
    """
    read = list(reader.labelled(since=since, columns=_COLUMNS, limit=most_rows + 1))
    rows = _columns(read[:most_rows])
    groups = _groups(rows)
    moments = [row["timestamp"] for row in read[:most_rows]]
    return {
        "since": min(moments, default=since).isoformat(),
        "until": max(moments, default=since).isoformat(),
        "rows": len(moments),
        "is_all": len(read) <= most_rows,
        "versions": [
            {"model_version": version, "role": role, **_version(part, repetitions)}
            for (version, role), part in sorted(groups.items())
        ],
        "pairs": [
            {"shadow": shadow, "champion": champion, **found}
            for (shadow, role), scored in sorted(groups.items())
            if role == "shadow"
            for (champion, other), answered in sorted(groups.items())
            if other == "champion" and (found := _pair(scored, answered, repetitions)) is not None
        ],
    }


def _columns(read: list[Mapping[str, Any]]) -> Rows:
    labels = [np.nan if row["label"] is None else float(row["label"]) for row in read]
    return {
        "id": np.array([row["transaction_id"] for row in read], dtype=object),
        "version": np.array([row["model_version"] for row in read], dtype=object),
        "role": np.array([row["role"] for row in read], dtype=object),
        "score": np.array([row["probability"] for row in read], dtype=np.float64),
        "flagged": np.array([row["prediction"] for row in read], dtype=np.float64),
        "decision": np.array([row["decision"] for row in read], dtype=object),
        "label": np.array(labels, dtype=np.float64),
    }


def _groups(rows: Rows) -> dict[tuple[str, str], Rows]:
    found: dict[tuple[str, str], list[int]] = {}
    for number, key in enumerate(zip(rows["version"], rows["role"], strict=True)):
        found.setdefault(key, []).append(number)
    return {key: _take(rows, np.array(numbers)) for key, numbers in found.items()}


def _take(rows: Rows, numbers: NDArray[Any]) -> Rows:
    return {name: values[numbers] for name, values in rows.items()}


def _version(rows: Rows, repetitions: int) -> dict[str, Any]:
    labelled = _labelled(rows)
    missing = _missing(labelled)
    return {
        "predictions": len(rows["id"]),
        "decisions": {name: int((rows["decision"] == name).sum()) for name in DECISIONS},
        "mean_score": float(rows["score"].mean()),
        "flagged_share": float(rows["flagged"].mean()),
        **_counts(labelled),
        "figures": None if missing else _figures(labelled, repetitions),
        "figures_problem": missing,
    }


def _figures(labelled: Rows, repetitions: int) -> dict[str, Any]:
    values: dict[str, float] = {}
    draws: Measured = {}
    for rows, made in _measured(labelled).values():
        values |= measure(rows, [made])
        draws |= bootstrap(rows, [made], repetitions=repetitions, seed=SEED)
    return {name: _with_interval(values[name], interval(draws[name])) for name in FIGURES}


def _measured(labelled: Rows) -> dict[str, tuple[ScoredRows, Any]]:
    """The rows and the measure behind each figure.

    Recall and precision are of the decisions that were made, whatever the thresholds
    were then: a flagged row stands as a score of 1.
    """
    made, scored = _scored(labelled, "flagged"), _scored(labelled, "score")
    at_half = decisions(made, Thresholds(flag=0.5, decline=0.5, policy="made"))
    return {
        "recall": (made, at_half),
        "precision": (made, at_half),
        "average_precision": (scored, ranking(scored)),
    }


def _pair(shadow: Rows, champion: Rows, repetitions: int) -> dict[str, Any] | None:
    """Compare on the transactions that both scored; None if there are none."""
    _, in_shadow, in_champion = np.intersect1d(
        shadow["id"].astype(str), champion["id"].astype(str), assume_unique=True, return_indices=True
    )
    if not len(in_shadow):
        return None
    one, other = _take(shadow, in_shadow), _take(champion, in_champion)
    labelled = _labelled(one)
    missing = _missing(labelled)
    found: dict[str, Any] = {
        "transactions": len(in_shadow),
        "mean_score_difference": float((one["score"] - other["score"]).mean()),
        "same_decision_share": float((one["decision"] == other["decision"]).mean()),
        **_counts(labelled),
        "differences": None,
        "differences_problem": missing,
    }
    if missing is None:
        beside = _labelled(other)
        found["differences"] = {name: _difference(labelled, beside, name, repetitions) for name in FIGURES}
    return found


def _difference(shadow: Rows, champion: Rows, figure: str, repetitions: int) -> dict[str, Any]:
    candidates = {"shadow": _measured(shadow)[figure], "champion": _measured(champion)[figure]}
    paired = paired_figures(candidates, figure, repetitions=repetitions, seed=SEED)
    return _with_interval(*paired.difference("shadow", "champion"))


def _labelled(rows: Rows) -> Rows:
    # Rows come newest first.
    return _take(rows, np.flatnonzero(np.isfinite(rows["label"]))[:MOST_LABELLED])


def _scored(labelled: Rows, column: str) -> ScoredRows:
    labels = labelled["label"].astype(np.int8)
    return ScoredRows(labels, labelled[column], np.ones(len(labels)))


def _counts(labelled: Rows) -> dict[str, int]:
    return {"labelled": len(labelled["label"]), "frauds": int(labelled["label"].sum())}


def _missing(labelled: Rows) -> str | None:
    frauds = int(labelled["label"].sum())
    legitimate = len(labelled["label"]) - frauds
    if min(frauds, legitimate) >= LEAST_OF_A_CLASS:
        return None
    return (
        f"Too few labels: {LEAST_OF_A_CLASS} frauds and {LEAST_OF_A_CLASS} legitimate transactions are "
        f"needed, {frauds} and {legitimate} have come."
    )


def _with_interval(value: float, bounds: Iterable[float] | None) -> dict[str, Any]:
    low, high = (None, None) if bounds is None else bounds
    return {"value": value, "low": low, "high": high}
