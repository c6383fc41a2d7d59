"""From a validated table to train, validation and test.

Rows stay in streams: what is held in memory is a hash, a time, a label and a part
for each of them.
"""

from __future__ import annotations

import hashlib
import logging

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_kedro.champion.bundle import DataRecord, DataSource, PartRecord
from fraud_kedro.errors import FraudKedroError
from fraud_kedro.pipelines.data_processing.duplicates import (
    DuplicateOptions,
    find_duplicates,
    without_duplicates,
)
from fraud_kedro.pipelines.data_processing.splits import PARTS, SplitOptions, assign_parts
from fraud_kedro.profiling.findings import findings
from fraud_kedro.profiling.page import profile_page
from fraud_kedro.profiling.profile import DataProfile
from fraud_kedro.schema import HOURS_PER_DAY, ResolvedSchema, TransactionSchema, hour_counts
from fraud_kedro.validation.expectations import Expectations

logger = logging.getLogger(__name__)

PART = "part"
# Beside the table's columns; not printable, so none of them has this name.
_PART = "\x1fpart"


def prepare_transactions(
    raw_transactions: pl.LazyFrame,
    schema: TransactionSchema,
    duplicates: DuplicateOptions,
    expectations: Expectations,
    split: SplitOptions,
    data_source: DataSource,
    seed: int,
) -> tuple[pl.LazyFrame, pl.LazyFrame, ResolvedSchema, dict[str, float]]:
    """Match the roles with the columns, keep the first of equal rows, and choose each row's part.

    Rows are equal if all features and the label are. They are dropped before
    the split, so that a row and its copy are never on both sides. All that can
    fail is here, before anything is written.

    Returns
    -------
    transactions : LazyFrame
        In the table's order.
    row_parts : LazyFrame
        The part of each of them, as `assign_parts` gives it.
    resolved_schema : ResolvedSchema
    counts : dict
        ``rows``, ``duplicates`` and ``frauds``, for MLflow.
    """
    resolved = schema.resolve(raw_transactions.collect_schema().names())
    logger.info("Roles: %s", _describe_roles(resolved))
    found = find_duplicates(raw_transactions, resolved, duplicates)
    transactions = without_duplicates(raw_transactions, found, resolved)
    kept = _roles_only(transactions, resolved)
    try:
        parts = assign_parts(
            split.root,
            kept[resolved.time].to_numpy(),
            kept[resolved.label].to_numpy(),
            seed,
            kept[resolved.sample_weight].to_numpy() if resolved.sample_weight else None,
            resolved.time_origin,
        )
    except FraudKedroError as error:
        raise type(error)(f"{data_source.location}: {error}") from error
    counts = {
        "rows": float(kept.height),
        "duplicates": float(len(found.dropped)),
        "frauds": float(kept[resolved.label].sum()),
    }
    logger.info(
        "%s rows, %s duplicates dropped, %s frauds",
        *(f"{counts[key]:,.0f}" for key in ("rows", "duplicates", "frauds")),
    )
    expectations.warn_of_duplicates(len(found.dropped), kept.height, data_source.location)
    return transactions, pl.LazyFrame({PART: parts}), resolved, counts


def split_transactions(
    transactions: pl.LazyFrame, row_parts: pl.LazyFrame
) -> tuple[pl.LazyFrame, pl.LazyFrame, pl.LazyFrame]:
    """Split into train, validation and test; rows in a gap are left out."""
    train, validation, test = (_rows_of(transactions, row_parts, index) for index in range(len(PARTS)))
    return train, validation, test


def record_data(
    transactions: pl.LazyFrame,
    row_parts: pl.LazyFrame,
    resolved_schema: ResolvedSchema,
    data_source: DataSource,
    counts: dict[str, float],
    split: SplitOptions,
) -> DataRecord:
    """Describe the rows, so that a model can say what it was trained on."""
    parts, weights, hours = {}, np.zeros(2), np.zeros(HOURS_PER_DAY)
    for index, name in enumerate(PARTS):
        rows = _rows_of(transactions, row_parts, index)
        roles = _roles_only(rows, resolved_schema)
        parts[name] = _part_record(roles, fingerprint(rows, resolved_schema), resolved_schema)
        weights += _class_weights(roles, resolved_schema)
        hours += _hour_weights(roles, resolved_schema)
        logger.info("%s: %s rows with %s frauds", name, f"{parts[name].rows:,}", f"{parts[name].frauds:,}")
    return DataRecord(
        source=data_source,
        fingerprint=hashlib.sha256("".join(p.fingerprint for p in parts.values()).encode()).hexdigest()[:16],
        test_fingerprint=parts["test"].fingerprint,
        rows=sum(part.rows for part in parts.values()),
        frauds=sum(part.frauds for part in parts.values()),
        weighted_rows=float(weights.sum()),
        weighted_frauds=float(weights[1]),
        time_from=min(part.time_from for part in parts.values()),
        time_to=max(part.time_to for part in parts.values()),
        test_time_from=parts["test"].time_from,
        split=split.root.kind,
        duplicates_dropped=int(counts["duplicates"]),
        parts=parts,
        hours=tuple(hours.tolist()),
    )


def write_profile_page(data_profile: DataProfile, data_source: DataSource) -> str:
    """Write the profile for people, and say in the log what of it is worth a look."""
    for finding in findings(data_profile):
        logger.warning("%s: %s", data_source.location, finding.text)
    source = f"{data_source.kind}: {data_source.name} ({data_source.location})"
    return profile_page(data_profile, title="Data profile", source=source)


def fingerprint(rows: pl.LazyFrame, schema: ResolvedSchema) -> str:
    """Digest of the rows' values in their order, by columns with a role.

    Returns
    -------
    str
        The first 16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256()
    # One column at a time: all together may be more than the memory holds.
    for column in schema.columns:
        series = rows.select(column).collect(engine="streaming").to_series()
        digest.update(column.encode())
        if series.dtype == pl.String:
            digest.update("\0".join(series.to_list()).encode())
        else:
            digest.update(series.to_numpy().tobytes())
    return digest.hexdigest()[:16]


def _rows_of(transactions: pl.LazyFrame, row_parts: pl.LazyFrame, part: int) -> pl.LazyFrame:
    both = pl.concat([transactions, row_parts.rename({PART: _PART})], how="horizontal")
    return both.filter(pl.col(_PART) == part).drop(_PART)


def _roles_only(frame: pl.LazyFrame, schema: ResolvedSchema) -> pl.DataFrame:
    """Time, label and weight of every row."""
    weight = [schema.sample_weight] if schema.sample_weight else []
    return frame.select(schema.time, schema.label, *weight).collect(engine="streaming")


def _class_weights(rows: pl.DataFrame, schema: ResolvedSchema) -> NDArray[np.float64]:
    labels = rows[schema.label].to_numpy()
    weights = rows[schema.sample_weight].to_numpy() if schema.sample_weight else None
    return np.bincount(labels, weights, minlength=2).astype(np.float64)


def _hour_weights(rows: pl.DataFrame, schema: ResolvedSchema) -> NDArray[np.float64]:
    weights = rows[schema.sample_weight].to_numpy() if schema.sample_weight else None
    return hour_counts(rows[schema.time].to_numpy(), weights)


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


def _part_record(frame: pl.DataFrame, digest: str, schema: ResolvedSchema) -> PartRecord:
    times = frame[schema.time]
    return PartRecord(
        rows=frame.height,
        frauds=int(frame[schema.label].sum()),
        time_from=float(times.min()),  # type: ignore[arg-type]
        time_to=float(times.max()),  # type: ignore[arg-type]
        fingerprint=digest,
    )
