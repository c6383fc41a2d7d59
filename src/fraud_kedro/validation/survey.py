"""One streamed pass over a table: what fails, and what is counted on the way."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from fraud_kedro.equal_rows import rows_at, suspects
from fraud_kedro.schema import ROW
from fraud_kedro.validation.checks import MISSING, range_checks, value_checks
from fraud_kedro.validation.parsing import Parser
from fraud_kedro.validation.report import EXAMPLES_PER_CHECK, WHOLE_ROW, Example, Finding, shown

logger = logging.getLogger(__name__)

# Of a batch: what bounds the memory however many columns there are.
BATCH_CELLS = 8_000_000
_REPORT_EVERY = 5_000_000


@dataclass(frozen=True)
class Survey:
    """What a table holds.

    Attributes
    ----------
    rows, frauds : int
    weights : tuple of float
        Sum of the weights of legitimate rows and of frauds.
    errors, out_of_range : tuple of Finding
    """

    rows: int
    frauds: int
    weights: tuple[float, float]
    errors: tuple[Finding, ...]
    out_of_range: tuple[Finding, ...]


def survey(table: pl.LazyFrame, parser: Parser, ranges: Mapping[str, tuple[float, float]]) -> Survey:
    """Check every value, and count rows, frauds and weights.

    Parameters
    ----------
    table : LazyFrame
        The columns with a role, as they are written.
    parser : Parser
    ranges : mapping of str to (low, high)
        Values outside are noted.

    Returns
    -------
    Survey
    """
    resolved = parser.resolved
    values, expected = value_checks(parser), range_checks(parser, ranges)
    errors, outside = _Findings(), _Findings()
    batch_rows = max(1, BATCH_CELLS // len(resolved.columns))
    label = parser.number(resolved.label)
    weight = parser.number(resolved.sample_weight) if resolved.sample_weight else pl.repeat(1.0, pl.len())
    rows = frauds = 0
    weights = [0.0, 0.0]
    for batch in table.collect_batches(chunk_size=batch_rows):
        errors.add(values, batch, rows)
        outside.add(expected, batch, rows)
        sums = batch.select(
            frauds=(label == 1).sum(),
            of_legitimate=weight.filter(label == 0).sum(),
            of_frauds=weight.filter(label == 1).sum(),
        ).row(0)
        if rows // _REPORT_EVERY != (rows + batch.height) // _REPORT_EVERY:
            logger.info("Checked %s rows", f"{rows + batch.height:,}")
        rows += batch.height
        frauds += sums[0]
        weights = [weights[0] + sums[1], weights[1] + sums[2]]
    return Survey(
        rows=rows,
        frauds=frauds,
        weights=(weights[0], weights[1]),
        errors=(*_blank_rows_as_one(errors.all(), resolved.columns), *_repeated_ids(table, parser)),
        out_of_range=outside.all(),
    )


@dataclass
class _Findings:
    """Failures of several batches, by column and check."""

    found: dict[tuple[str, str], Finding] = field(default_factory=dict)

    def add(self, checks: pa.DataFrameSchema, batch: pl.DataFrame, offset: int) -> None:
        """Note what fails in a batch whose first row is `offset`."""
        if not checks.columns:
            return
        try:
            checks.validate(batch, lazy=True)
        except SchemaErrors as failed:
            cases = failed.failure_cases
            if cases["index"].null_count():
                # A check that could not run is a defect, not a finding about the table.
                raise
            for (column, check), group in cases.group_by("column", "check", maintain_order=True):
                self._note(str(column), str(check), group["index"], batch, offset)

    def _note(self, column: str, check: str, rows: pl.Series, batch: pl.DataFrame, offset: int) -> None:
        known = self.found.get((column, check), Finding(column=column, check=check, count=0))
        wanted = EXAMPLES_PER_CHECK - len(known.examples)
        examples = tuple(
            Example(row=row + offset + 1, value=shown(batch[column][row])) for row in rows.sort().head(wanted)
        )
        self.found[column, check] = Finding(
            column=column, check=check, count=known.count + len(rows), examples=(*known.examples, *examples)
        )

    def all(self) -> tuple[Finding, ...]:
        """In the order of the table's columns is not promised: as they were met."""
        return tuple(self.found.values())


def _blank_rows_as_one(findings: tuple[Finding, ...], columns: Sequence[str]) -> tuple[Finding, ...]:
    """Tell of rows without any value once, not once a column."""
    missing = [finding for finding in findings if finding.check == MISSING]
    counts = {finding.count for finding in missing}
    places = {tuple(example.row for example in finding.examples) for finding in missing}
    if len(missing) < len(columns) or len(counts) > 1 or len(places) > 1:
        return findings
    examples = tuple(Example(row=row, value=None) for row in places.pop())
    blank = Finding(column=WHOLE_ROW, check="without any value", count=counts.pop(), examples=examples)
    return (blank, *(finding for finding in findings if finding.check != MISSING))


def _repeated_ids(table: pl.LazyFrame, parser: Parser) -> tuple[Finding, ...]:
    """Ids that an earlier row has; absent ones are missing, not repeated."""
    key = parser.resolved.transaction_id
    if key is None:
        return ()
    ids = table.select(pl.when(~parser.blank(key)).then(pl.col(key).cast(pl.String)).alias(key))
    candidates = rows_at(ids, suspects(ids, [key])[ROW], [key]).drop_nulls(key).sort(ROW)
    repeated = candidates.filter(~pl.col(key).is_first_distinct())
    if repeated.is_empty():
        return ()
    examples = repeated.head(EXAMPLES_PER_CHECK)
    return (
        Finding(
            column=key,
            check="is repeated",
            count=repeated.height,
            examples=tuple(
                Example(row=row + 1, value=shown(value))
                for row, value in zip(examples[ROW], examples[key], strict=True)
            ),
        ),
    )
