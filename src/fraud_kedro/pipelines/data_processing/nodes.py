"""From a validated table to train, validation and test."""

from __future__ import annotations

import hashlib
import logging

import polars as pl

from fraud_kedro.champion.bundle import DataRecord, DataSource, PartRecord
from fraud_kedro.pipelines.data_processing.splits import PARTS, SplitOptions, assign_parts
from fraud_kedro.schema import ResolvedSchema, TransactionSchema

logger = logging.getLogger(__name__)


def prepare_transactions(
    raw_transactions: pl.LazyFrame, schema: TransactionSchema
) -> tuple[pl.DataFrame, ResolvedSchema, dict[str, float]]:
    """Match the roles with the columns, and keep the first of equal rows.

    Rows are equal if all features and the label are. They are dropped before
    the split, so that a row and its copy are never on both sides.

    Returns
    -------
    transactions : DataFrame
        In the table's order.
    resolved_schema : ResolvedSchema
    counts : dict
        ``rows``, ``duplicates`` and ``frauds``, for MLflow.
    """
    frame = raw_transactions.collect()
    resolved = schema.resolve(frame.columns)
    logger.info("Roles: %s", _describe_roles(resolved))
    keys = [*resolved.features, resolved.label]
    transactions = frame.unique(subset=keys, keep="first", maintain_order=True)
    counts = {
        "rows": float(transactions.height),
        "duplicates": float(frame.height - transactions.height),
        "frauds": float(transactions[resolved.label].sum()),
    }
    logger.info(
        "%s rows, %s duplicates dropped, %s frauds",
        *(f"{counts[key]:,.0f}" for key in ("rows", "duplicates", "frauds")),
    )
    return transactions, resolved, counts


def split_transactions(
    transactions: pl.DataFrame, resolved_schema: ResolvedSchema, split: SplitOptions, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Split into train, validation and test; rows in a gap are left out."""
    times = transactions[resolved_schema.time].to_numpy()
    labels = transactions[resolved_schema.label].to_numpy()
    weight = resolved_schema.sample_weight
    weights = transactions[weight].to_numpy() if weight else None
    parts = pl.Series(assign_parts(split.root, times, labels, seed, weights))
    train, validation, test = (transactions.filter(parts == index) for index in range(len(PARTS)))
    logger.info(
        "Split (%s): %s",
        split.root.kind,
        ", ".join(
            f"{name} {part.height:,} rows with {part[resolved_schema.label].sum():,} frauds"
            for name, part in zip(PARTS, (train, validation, test), strict=True)
        ),
    )
    return train, validation, test


def record_data(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    test: pl.DataFrame,
    resolved_schema: ResolvedSchema,
    data_source: DataSource,
    counts: dict[str, float],
    split: SplitOptions,
) -> DataRecord:
    """Describe the rows, so that a model can say what it was trained on."""
    frames = dict(zip(PARTS, (train, validation, test), strict=True))
    parts = {name: _part_record(frame, resolved_schema) for name, frame in frames.items()}
    weight, label = resolved_schema.sample_weight, resolved_schema.label
    weighted = {True: 0.0, False: 0.0}
    for frame in frames.values():
        weights = frame[weight] if weight else pl.Series([1.0]).new_from_index(0, frame.height)
        for is_fraud in weighted:
            weighted[is_fraud] += float(weights.filter(frame[label] == is_fraud).sum())
    return DataRecord(
        source=data_source,
        fingerprint=fingerprint(list(frames.values()), resolved_schema),
        test_fingerprint=fingerprint([test], resolved_schema),
        rows=sum(part.rows for part in parts.values()),
        frauds=sum(part.frauds for part in parts.values()),
        weighted_rows=weighted[True] + weighted[False],
        weighted_frauds=weighted[True],
        time_from=min(part.time_from for part in parts.values()),
        time_to=max(part.time_to for part in parts.values()),
        test_time_from=parts["test"].time_from,
        split=split.root.kind,
        duplicates_dropped=int(counts["duplicates"]),
        parts=parts,
    )


def fingerprint(frames: list[pl.DataFrame], schema: ResolvedSchema) -> str:
    """Digest of the rows' values in their order, by columns with a role.

    Returns
    -------
    str
        The first 16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256()
    for frame in frames:
        for column in schema.columns:
            series = frame[column]
            digest.update(column.encode())
            if series.dtype == pl.String:
                digest.update("\0".join(series.to_list()).encode())
            else:
                digest.update(series.to_numpy().tobytes())
    return digest.hexdigest()[:16]


def _describe_roles(schema: ResolvedSchema) -> str:
    roles = {
        "time": f"{schema.time} (used as {schema.time_use})",
        "amount": schema.amount,
        "label": schema.label,
        "transaction_id": schema.transaction_id,
        "sample_weight": schema.sample_weight,
    }
    found = ", ".join(f"{role} = {name or 'absent'}" for role, name in roles.items())
    return f"{found}; {len(schema.features)} features"


def _part_record(frame: pl.DataFrame, schema: ResolvedSchema) -> PartRecord:
    times = frame[schema.time]
    return PartRecord(
        rows=frame.height,
        frauds=int(frame[schema.label].sum()),
        time_from=float(times.min()),  # type: ignore[arg-type]
        time_to=float(times.max()),  # type: ignore[arg-type]
    )
