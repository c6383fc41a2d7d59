"""What a validation found: for people, and for a file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

logger = logging.getLogger(__name__)

EXAMPLES_PER_CHECK = 5
_SHOWN_CHECKS = 10
_SHOWN_CHARACTERS = 40
WHOLE_ROW = ""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Example(_Part):
    """A value that failed; `row` counts from 1, or is the line of a file."""

    row: int
    value: str | float | int | bool | None


class Finding(_Part):
    """A check that values of a column failed, or whole rows where `column` is `WHOLE_ROW`."""

    column: str
    check: str
    count: int
    examples: tuple[Example, ...] = ()

    def describe(self, place: str) -> str:
        """One clause: column, check, count and examples as they are written in the table."""
        rows = f"{self.count:,} row{'s' if self.count > 1 else ''}"
        if self.column == WHOLE_ROW:
            places = ", ".join(f"{place} {example.row}" for example in self.examples)
            return f"{rows} {self.check} ({places})"
        examples = ", ".join(f"{place} {example.row}: {example.value!r}" for example in self.examples)
        return f"{shown(self.column)!r} {self.check} in {rows}" + (f" ({examples})" if examples else "")


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

    def error_message(self, file: str | None, mends: Sequence[str] = ()) -> str:
        """One line about the errors; `file` holds those that are not shown."""
        clauses = "; ".join(finding.describe(self.place) for finding in self.errors[:_SHOWN_CHECKS])
        more = len(self.errors) - _SHOWN_CHECKS
        rest = f"; and {more} more" if more > 0 else ""
        hints = "".join(f" {mend}" for mend in mends)
        where = f" The whole report is in {file}." if file else ""
        return (
            f"{self.table}: {len(self.errors)} check(s) failed in {self.rows:,} rows. "
            f"{clauses}{rest}. Mend or remove these rows.{hints}{where}"
        )

    def log_warnings(self) -> None:
        """Tell what is worth a look; nothing else shows it in a run that goes on."""
        for finding in self.warnings:
            logger.warning("%s: %s", self.table, finding.describe(self.place))


def shown(value: object) -> str | float | int | bool | None:
    """A value for a message: short, whatever the table holds."""
    if value is None or isinstance(value, float | int):
        return value
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
