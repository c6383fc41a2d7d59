"""Late labels as a table: checked, and given to the log as ``POST /feedback`` gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from fraud_kedro.errors import DataError
from fraud_kedro.prediction_log import Label, LabelsWritten, PredictionWriter, write_labels
from fraud_kedro.prediction_log.tables import MAX_ID_LENGTH
from fraud_kedro.schema import with_offset

ID, LABEL, MOMENT = "transaction_id", "label", "labelled_at"

# A label of the future would outweigh every correction until then; clocks may differ by this.
_AHEAD = timedelta(minutes=5)
_SHOWN = 5


def parse_labels(table: pl.DataFrame, *, now: datetime) -> list[Label]:
    """Read a table of labels.

    Parameters
    ----------
    table : DataFrame
        Columns ``transaction_id``, ``label`` (0 or 1) and, if it is known when each
        became known, ``labelled_at`` (ISO 8601, UTC unless it says otherwise). They
        may be text; other columns are not looked at.
    now : datetime

    Returns
    -------
    list of Label
        By the moment they became known; equal ones once.

    Raises
    ------
    DataError
        With every kind of fault and the first rows that have it.
    """
    missing = [name for name in (ID, LABEL) if name not in table.columns]
    if missing:
        raise DataError(
            f"The table of labels has no column {' and no column '.join(map(repr, missing))}; it has: "
            f"{', '.join(table.columns[:20]) or 'none'}."
        )
    given_moment = MOMENT in table.columns
    rows = table.select(
        pl.col(ID).cast(pl.String, strict=False),
        pl.col(LABEL).cast(pl.String, strict=False).str.strip_chars().replace({"0.0": "0", "1.0": "1"}),
        _moments(table[MOMENT]) if given_moment else pl.lit(None, pl.Datetime("us", "UTC")).alias(MOMENT),
    )
    id_length = pl.col(ID).str.len_chars()
    faults = {
        f"transaction_id should have 1 to {MAX_ID_LENGTH} characters": rows.select(
            (pl.col(ID).is_null() | (id_length == 0) | (id_length > MAX_ID_LENGTH)).alias("wrong")
        ).to_series(),
        "label should be 0 or 1": ~rows[LABEL].is_in(["0", "1"]).fill_null(value=False),
        "labelled_at should not lie in the future": (rows[MOMENT] > now + _AHEAD).fill_null(value=False),
    }
    if given_moment:
        text = table[MOMENT].cast(pl.String, strict=False)
        faults["labelled_at should be a timestamp such as 2026-01-31T12:00:00Z"] = (
            text.fill_null("") != ""
        ) & rows[MOMENT].is_null()
    _refuse(faults)
    unique = rows.unique(maintain_order=True)
    both = unique.filter(pl.struct(ID, MOMENT).is_duplicated())
    if both.height:
        raise DataError(
            f"The table of labels says both 0 and 1 of {both[ID].n_unique():,} transaction(s) for the same "
            f"moment, such as {both[ID][0]!r}. Say when each was known (labelled_at): the later one counts."
        )
    ordered = unique.sort(MOMENT, nulls_last=True, maintain_order=True)
    return [Label(name, int(label), moment) for name, label, moment in ordered.iter_rows()]


def write_all(writer: PredictionWriter, labels: Sequence[Label], *, received_at: datetime) -> LabelsWritten:
    """Put labels into the log, of one transaction in the order they became known.

    Raises
    ------
    PredictionLogError
        If the log cannot be written. Given again, what is missing is added.
    """
    total = LabelsWritten()
    for part in _rounds(labels):
        written = write_labels(writer.engine, part, received_at=received_at)
        total.stored += written.stored
        total.unchanged += written.unchanged
        total.corrections += written.corrections
        total.unknown += written.unknown
    total.unknown = [*dict.fromkeys(total.unknown)]
    return total


def _rounds(labels: Sequence[Label]) -> Iterator[list[Label]]:
    """Parts that have each transaction once, its earliest label first."""
    waiting = [*labels]
    while waiting:
        taken: dict[str, Label] = {}
        later = []
        for label in waiting:
            if label.transaction_id in taken:
                later.append(label)
            else:
                taken[label.transaction_id] = label
        yield [*taken.values()]
        waiting = later


def _moments(given: pl.Series) -> pl.Series:
    if given.dtype == pl.String:
        # Each by itself: polars takes one format for a column.
        read = [None if text is None else _moment(text.strip()) for text in given]
        return pl.Series(MOMENT, read, dtype=pl.Datetime("us", "UTC"))
    if isinstance(given.dtype, pl.Datetime):
        zoned = given.dt.replace_time_zone("UTC") if given.dtype.time_zone is None else given
        return zoned.dt.convert_time_zone("UTC").dt.cast_time_unit("us").alias(MOMENT)
    if given.dtype == pl.Date:
        return given.cast(pl.Datetime("us", "UTC")).alias(MOMENT)
    return pl.Series(MOMENT, [None] * len(given), dtype=pl.Datetime("us", "UTC"))


def _moment(text: str) -> datetime | None:
    try:
        return with_offset(datetime.fromisoformat(text)).astimezone(UTC)
    # Beyond the calendar in UTC.
    except (ValueError, OverflowError):
        return None


def _refuse(faults: dict[str, pl.Series]) -> None:
    said = []
    for text, wrong in faults.items():
        rows = wrong.arg_true()
        if len(rows):
            shown = ", ".join(str(number + 1) for number in rows[:_SHOWN])
            said.append(f"{text} ({len(rows):,} row(s), such as {shown})")
    if said:
        raise DataError(f"The table of labels was not taken: {'; '.join(said)}.")
