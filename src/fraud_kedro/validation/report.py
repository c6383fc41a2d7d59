"""What a validation found: for people, and for a file."""

from __future__ import annotations

import logging
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

logger = logging.getLogger(__name__)

EXAMPLES_PER_CHECK = 5
_SHOWN_CHECKS = 10
_DECIMAL_COMMA = re.compile(r"\s*[-+]?[\d.]*,\d+\s*")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Example(_Part):
    """A value that failed; `row` is a line of the file where the table is text, a row from 1 otherwise."""

    row: int
    value: str | float | int | bool | None


class Finding(_Part):
    """A check that values of a column failed."""

    column: str
    check: str
    count: int
    examples: tuple[Example, ...] = ()

    def describe(self, place: str) -> str:
        """One clause: column, check, count and examples as they are written in the table."""
        rows = f"{self.count:,} row{'s' if self.count > 1 else ''}"
        examples = ", ".join(f"{place} {example.row}: {example.value!r}" for example in self.examples)
        return f"{self.column!r} {self.check} in {rows}" + (f" ({examples})" if examples else "")


class ValidationReport(_Part):
    """All that was checked in one table.

    Attributes
    ----------
    table : str
        Its path or name.
    rows : int
    place : {"line", "row"}
        What the rows of examples count.
    errors, warnings : tuple of Finding
        What makes the table unusable, and what is worth a look.
    """

    table: str
    rows: int
    place: Literal["line", "row"]
    errors: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    def error_message(self, file: str | None) -> str:
        """One line about the errors; `file` holds those that are not shown."""
        shown = "; ".join(finding.describe(self.place) for finding in self.errors[:_SHOWN_CHECKS])
        more = len(self.errors) - _SHOWN_CHECKS
        rest = f"; and {more} more" if more > 0 else ""
        comma = any(
            isinstance(example.value, str) and _DECIMAL_COMMA.fullmatch(example.value)
            for finding in self.errors
            for example in finding.examples
        )
        hint = (
            ' For decimal commas set the validator\'s option `decimal: ","` in the catalog.' if comma else ""
        )
        where = f" The whole report is in {file}." if file else ""
        return (
            f"{self.table}: {len(self.errors)} check(s) failed in {self.rows:,} rows. "
            f"{shown}{rest}. Mend or remove these rows.{hint}{where}"
        )

    def log_warnings(self) -> None:
        """Tell what is worth a look; nothing else shows it in a run that goes on."""
        for finding in self.warnings:
            logger.warning("%s: %s", self.table, finding.describe(self.place))
