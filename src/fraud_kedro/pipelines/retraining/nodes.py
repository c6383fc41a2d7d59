"""The decision to train anew, the table to do it on, and what became of it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import polars as pl

from fraud_kedro.champion.bundle import DataSource
from fraud_kedro.datasets.bundle import BundleDraft
from fraud_kedro.monitoring.drift_verdict import DriftVerdict
from fraud_kedro.monitoring.performance_report import Performance
from fraud_kedro.monitoring.retraining import Decision, Reigning, RetrainingRule, decide
from fraud_kedro.monitoring.retraining_history import HistoryEntry
from fraud_kedro.monitoring.retraining_rows import NextTable, NextTableOptions, next_table
from fraud_kedro.monitoring.settled import LabelOptions
from fraud_kedro.pipelines.export.options import Promotion
from fraud_kedro.pipelines.performance.nodes import model_version
from fraud_kedro.prediction_log import PredictionReader
from fraud_kedro.schema import TransactionSchema

logger = logging.getLogger(__name__)


def decide_retraining(
    performance: Performance,
    last_drift_verdict: DriftVerdict | None,
    reigning_champion: BundleDraft,
    retraining_history: tuple[HistoryEntry, ...],
    rule: RetrainingRule,
) -> tuple[Decision, HistoryEntry]:
    """Decide whether to train anew, and write it down."""
    metadata = reigning_champion.metadata
    champion = Reigning(
        model_version=model_version(reigning_champion), created=metadata.created, metrics=metadata.metrics
    )
    decision = decide(performance, last_drift_verdict, champion, retraining_history, rule, datetime.now(UTC))
    logger.info("Retrain: %s. %s", "yes" if decision.retrain else "no", decision.reason)
    entry = HistoryEntry(
        at=decision.decided_at,
        kind="decision",
        reason=decision.reason,
        champion=decision.champion,
        retrain=decision.retrain,
        held_back=decision.held_back,
    )
    return decision, entry


def build_next_table(
    raw_transactions: pl.LazyFrame,
    prediction_log: PredictionReader,
    data_source: DataSource,
    schema: TransactionSchema,
    labels: LabelOptions,
    table: NextTableOptions,
) -> tuple[pl.LazyFrame, NextTable, DataSource]:
    """Put what the log has settled behind the original table.

    Its source is still that of the original table, or the gate would not compare the
    two models; its location says that the log is in it.
    """
    location = f"{data_source.location} and the prediction log"
    rows, record = next_table(
        raw_transactions,
        prediction_log,
        schema.resolve(raw_transactions.collect_schema().names()),
        labels=labels,
        options=table,
        now=datetime.now(UTC),
    )
    return rows, record, data_source.model_copy(update={"location": location})


def remember_retraining(promotion: Promotion) -> HistoryEntry:
    """Write down what the gate said."""
    return HistoryEntry(
        at=datetime.now(UTC),
        kind="retraining",
        reason=promotion.reason,
        outcome=promotion.outcome,
        version=promotion.version,
    )
