"""Late labels into the log, and what they say of the versions that served."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import polars as pl

from fraud_kedro.champion.registry import MODEL_NAME
from fraud_kedro.datasets.bundle import BundleDraft
from fraud_kedro.monitoring.label_table import parse_labels
from fraud_kedro.monitoring.performance import performance_over_time
from fraud_kedro.monitoring.performance_report import Figures, Performance
from fraud_kedro.monitoring.retraining import RetrainingRule
from fraud_kedro.monitoring.settled import LabelOptions
from fraud_kedro.pipelines.export.registration import champion_draft, current_registry
from fraud_kedro.pipelines.training.options import TrainingOptions
from fraud_kedro.prediction_log import Label, PredictionReader

logger = logging.getLogger(__name__)

_SHOWN_IDS = 100


def check_labels(late_labels: pl.LazyFrame) -> list[Label]:
    """Read the table of labels, which is taken as a whole or not at all."""
    return parse_labels(late_labels.collect(), now=datetime.now(UTC))


def report_labels(late_labels: pl.LazyFrame, stored_labels: pl.DataFrame) -> dict[str, Any]:
    """Say what the log holds now of the table's transactions.

    Returns
    -------
    dict
        ``transactions``, ``frauds`` (by the latest label), ``corrected`` (those that
        had another label before) and ``unknown``: those without a prediction, whose
        labels wait for it; ``unknown_ids`` names the first hundred.
    """
    given = late_labels.select(pl.col("transaction_id").cast(pl.String)).unique().collect()
    held = stored_labels.sort("labelled_at", maintain_order=True).join(given, on="transaction_id", how="semi")
    latest = held.group_by("transaction_id", maintain_order=True).agg(
        pl.col("label").last(), pl.col("predicted").last(), pl.col("label").n_unique().alias("labels")
    )
    unknown = latest.filter(~pl.col("predicted"))["transaction_id"]
    if len(unknown):
        logger.warning("%s labelled transactions have no prediction in the log (yet)", f"{len(unknown):,}")
    return {
        "transactions": latest.height,
        "frauds": int(latest["label"].sum()),
        "corrected": int((latest["labels"] > 1).sum()),
        "unknown": len(unknown),
        "unknown_ids": unknown.head(_SHOWN_IDS).to_list(),
    }


def find_champion() -> BundleDraft:
    """Fetch the champion's bundle from the registry."""
    return champion_draft(current_registry())


def measure_performance(
    prediction_log: PredictionReader,
    reigning_champion: BundleDraft,
    labels: LabelOptions,
    rule: RetrainingRule,
    training: TrainingOptions,
) -> Performance:
    """Measure every version that served, by what labels have settled."""
    performance = performance_over_time(
        prediction_log,
        days=rule.performance.days,
        by=rule.performance.by,
        labels=labels,
        costs=training.costs,
        amount=reigning_champion.metadata.schema_.amount,
        repetitions=rule.performance.repetitions,
        least_of_a_class=rule.performance.least_of_a_class,
    )
    for version in performance.versions:
        logger.info(
            "%s: %s predictions, %s settled with %s frauds; %s",
            version.model_version,
            *(f"{n:,}" for n in (version.predictions, version.settled, version.frauds)),
            _told(version.figures) if version.figures else version.figures_problem,
        )
    return performance


def model_version(champion: BundleDraft) -> str:
    """The champion as the log names it."""
    registered = champion.registration
    version = registered.version if registered else 0
    return f"{MODEL_NAME}_{champion.metadata.algorithm}_v{version}"


def _told(figures: Figures) -> str:
    shown = {
        "recall": figures.recall,
        "precision": figures.precision,
        "average precision": figures.average_precision,
    }
    return ", ".join(f"{name} {figure.value:.3f}" for name, figure in shown.items())
