"""The next table: the original one, and after it what the log has settled since."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from fraud_kedro.errors import DataError
from fraud_kedro.monitoring.settled import DECLINED, LabelOptions
from fraud_kedro.options import Options
from fraud_kedro.prediction_log import PredictionReader
from fraud_kedro.schema import SECONDS_PER_DAY, ResolvedSchema, with_offset

logger = logging.getLogger(__name__)

_COLUMNS = ("transaction_id", "timestamp", "probability", "decision", "features")
_ROWS_AT_ONCE = 20_000
# So many expected frauds and not one label: then nobody sends labels, and silence means nothing.
_SILENT_FRAUDS = 20.0

_ID, _ARRIVED, _LABEL = "\x1fid", "\x1farrived", "\x1flabel"


class NextTableOptions(Options):
    """The ``retraining.table`` parameters.

    Attributes
    ----------
    original_rows : int, optional
        The newest so many rows of the original table at most; all by default. Fewer
        let a new pattern weigh more.
    cut : datetime, optional
        What was known then, in UTC unless it says otherwise; now by default.
    """

    original_rows: int | None = Field(default=None, ge=1)
    cut: datetime | None = None

    @field_validator("cut")
    @classmethod
    def _in_a_zone(cls, cut: datetime | None) -> datetime | None:
        return cut if cut is None else with_offset(cut)


class NextTable(Options):
    """Where the rows of the next table are from, and which were left out.

    Attributes
    ----------
    cut : datetime
        Labels that came later were not used.
    original : int
        Rows of the original table.
    logged, frauds : int
        Rows from the log, and the frauds among them.
    waiting : int
        Left out: too young for their labels.
    declined : int
        Left out: declined, and never reviewed.
    unlabelled : int
        Left out: silence means nothing.
    without_features : int
        Left out: retention has taken their features away.
    other_schema : int
        Left out: scored by a model of other features.
    repeated : int
        Left out: the original table has them.
    moved_days : int
        By which the log's times were moved to lie behind the original table's.
    """

    cut: datetime
    original: int
    logged: int
    frauds: int
    waiting: int
    declined: int
    unlabelled: int
    without_features: int
    other_schema: int
    repeated: int
    moved_days: int


@dataclass
class _Tally:
    """What is counted while the log is read."""

    waiting: int = 0
    declined: int = 0
    unlabelled: int = 0
    without_features: int = 0
    other_schema: int = 0
    labels_of_fraud: int = 0
    expected_frauds: float = 0.0
    parts: list[pl.DataFrame] = field(default_factory=list)


def next_table(
    original: pl.LazyFrame,
    reader: PredictionReader,
    schema: ResolvedSchema,
    *,
    labels: LabelOptions,
    options: NextTableOptions,
    now: datetime,
) -> tuple[pl.LazyFrame, NextTable]:
    """Put what the log has settled behind the original table.

    A logged transaction is taken once, with the label that was known at the cut, and
    only if it had waited for that label as long as any other (see
    `fraud_kedro.monitoring.settled`).

    Parameters
    ----------
    original : LazyFrame
        Validated; its times are seconds.
    reader : PredictionReader
    schema : ResolvedSchema
        Of the original table.
    labels : LabelOptions
    options : NextTableOptions
    now : datetime
        The cut, where the options have none.

    Returns
    -------
    table : LazyFrame
        With the original table's columns that have a role.
    record : NextTable

    Raises
    ------
    DataError
        If the log has no transaction that could be used, nobody sends labels, or the cut
        lies in the future.
    """
    cut = options.cut or now
    if cut > now:
        raise DataError(
            f"retraining.table.cut, {cut:%Y-%m-%d %H:%M %Z}, lies in the future: transactions that still "
            "wait for their labels would count as settled."
        )
    logged, tally = _settled_rows(reader, schema, labels, cut)
    if not logged.height:
        raise DataError(_nothing(tally, labels))
    if not tally.labels_of_fraud and tally.expected_frauds >= _SILENT_FRAUDS:
        raise DataError(
            f"Not one label of a fraud has come for {logged.height:,} settled transactions, of which "
            f"{tally.expected_frauds:.0f} should be frauds by their scores: silence cannot mean legitimate "
            "while nobody sends labels. Send them to /feedback, or set labels.unlabelled to unknown."
        )
    if logged[_LABEL].min() == 1:
        raise DataError(
            f"All {logged.height:,} settled transactions are frauds: where silence means nothing "
            "(labels.unlabelled is unknown), legitimate ones need labels too, or a model would take "
            "whatever is recent for fraud. Send labels of both classes, or set it to legitimate."
        )
    columns = [*schema.columns]
    kept = original.select(columns)
    newest = kept.select(pl.len(), pl.col(schema.time).max()).collect(engine="streaming").row(0)
    logged = _as_columns(logged, original, schema)
    without = logged.lazy().join(kept, on=_keys(schema), how="anti", maintain_order="left")
    fresh = without.collect(engine="streaming")
    moved = _days_to_move(fresh, schema, newest[1])
    fresh = fresh.with_columns(pl.col(schema.time) + moved * SECONDS_PER_DAY)
    if options.original_rows is not None:
        kept = kept.sort(schema.time, maintain_order=True).tail(options.original_rows)
    record = NextTable(
        cut=cut,
        original=min(newest[0], options.original_rows or newest[0]),
        logged=fresh.height,
        frauds=int(fresh[schema.label].sum()),
        waiting=tally.waiting,
        declined=tally.declined,
        unlabelled=tally.unlabelled,
        without_features=tally.without_features,
        other_schema=tally.other_schema,
        repeated=logged.height - fresh.height,
        moved_days=moved,
    )
    logger.info(
        "%s rows of the original table, %s from the log with %s frauds; left out: %s waiting, %s declined",
        *(f"{n:,}" for n in (record.original, record.logged, record.frauds, record.waiting, record.declined)),
    )
    return pl.concat([kept, fresh.lazy().select(columns)], how="vertical_relaxed"), record


def _settled_rows(
    reader: PredictionReader, schema: ResolvedSchema, labels: LabelOptions, cut: datetime
) -> tuple[pl.DataFrame, _Tally]:
    tally = _Tally()
    mature_from = labels.mature_from(cut)
    rows = reader.labelled(until=cut, columns=_COLUMNS, known_by=cut, answers_only=True)
    chosen = _chosen(rows, schema, labels, mature_from, tally)
    while part := [*islice(chosen, _ROWS_AT_ONCE)]:
        tally.parts.append(pl.DataFrame(part, infer_schema_length=None))
    # They came newest first.
    return (
        pl.concat(tally.parts[::-1], how="vertical_relaxed").reverse() if tally.parts else pl.DataFrame()
    ), tally


def _chosen(
    rows: Iterator[Mapping[str, Any]],
    schema: ResolvedSchema,
    labels: LabelOptions,
    mature_from: datetime,
    tally: _Tally,
) -> Iterator[dict[str, Any]]:
    # Beside the features, a request may give these; without an amount or a time a row has no place.
    needed = dict.fromkeys([*schema.features, schema.amount])
    for row in rows:
        label, features = row["label"], row["features"]
        if row["timestamp"] > mature_from:
            tally.waiting += 1
        elif label is None and row["decision"] == DECLINED:
            tally.declined += 1
        elif label is None and labels.unlabelled == "unknown":
            tally.unlabelled += 1
        elif features is None:
            tally.without_features += 1
        elif not all(_is_number(features.get(name)) for name in needed):
            tally.other_schema += 1
        else:
            tally.labels_of_fraud += label == 1
            tally.expected_frauds += row["probability"]
            yield {
                _ID: row["transaction_id"],
                _ARRIVED: row["timestamp"].timestamp(),
                _LABEL: int(label or 0),
                schema.time: features.get(schema.time),
                **{name: float(features[name]) for name in needed if name != schema.time},
            }


def _as_columns(logged: pl.DataFrame, original: pl.LazyFrame, schema: ResolvedSchema) -> pl.DataFrame:
    """The log's rows with the original table's columns and types."""
    types = original.collect_schema()
    made = {schema.time: _times(logged, schema), schema.label: pl.col(_LABEL)}
    if schema.transaction_id is not None:
        made[schema.transaction_id] = pl.col(_ID)
    if schema.sample_weight is not None:
        made[schema.sample_weight] = pl.lit(1.0)
    filled = logged.with_columns(**made)
    try:
        return filled.select(pl.col(name).cast(types[name]) for name in schema.columns)
    except pl.exceptions.PolarsError as error:
        first = str(error).splitlines()[0]
        raise DataError(
            f"The log's transactions do not have the original table's types ({first}). Retrain on a table "
            "whose ids and features are of the types that requests have."
        ) from error


def _times(logged: pl.DataFrame, schema: ResolvedSchema) -> pl.Expr:
    """Each row's time on the table's clock; its arrival where requests do not say when it happened."""
    origin = 0.0 if schema.time_origin is None else schema.time_origin.timestamp()
    return pl.coalesce(pl.col(schema.time).cast(pl.Float64), pl.col(_ARRIVED) - origin)


def _keys(schema: ResolvedSchema) -> list[str]:
    return [*dict.fromkeys([*schema.features, schema.amount])]


def _days_to_move(fresh: pl.DataFrame, schema: ResolvedSchema, newest: float) -> int:
    """Whole days that bring the log's clock behind the table's, so that hours stay what they are.

    Seconds without an origin may begin anew with every stream. Where second 0 is
    known, each row has its place already.
    """
    if schema.time_origin is not None or not fresh.height:
        return 0
    oldest = float(np.min(fresh[schema.time].to_numpy()))
    if oldest > newest:
        return 0
    if schema.time_use == "raw":
        raise DataError(
            f"The log's {schema.time} begins at {oldest:g}, the original table ends at {newest:g}: their "
            "clocks are not one, and a model that reads the raw time cannot have it moved. Set "
            "schema.time.origin, or schema.time.use to hour_of_day."
        )
    return math.floor((newest - oldest) / SECONDS_PER_DAY) + 1


def _nothing(tally: _Tally, labels: LabelOptions) -> str:
    counts = {
        f"{tally.waiting:,} are younger than labels.maturity_days ({labels.maturity_days:g})": tally.waiting,
        f"{tally.declined:,} were declined and not reviewed": tally.declined,
        f"{tally.unlabelled:,} have no label": tally.unlabelled,
        f"{tally.without_features:,} have lost their features": tally.without_features,
        f"{tally.other_schema:,} were scored by a model of other features": tally.other_schema,
    }
    why = "; ".join(text for text, count in counts.items() if count) or "it is empty"
    return f"The prediction log has no transaction to learn from: {why}."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
