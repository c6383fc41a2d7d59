"""Why a CSV cannot be read, and where a row of it is: a slower look, once there is something to say."""

from __future__ import annotations

import csv
import gzip
import logging
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

_SEPARATORS = (";", "\t", "|", ",")
_NAMES = {";": "a semicolon", "\t": "a tab", "|": "a vertical bar", ",": "a comma"}
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SUFFIXES = {".csv", ".tsv", ".txt"}
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?(e[-+]?\d+)?", re.IGNORECASE)

# How polars names a header's second `V1`.
REPEATED = re.compile(r"(.*)_duplicated_\d+")

# How other formats begin, or what only they have in a first line.
_FORMATS = (
    (r"PAR1", "the file is Parquet. Give it a name that ends in .parquet"),
    (r"PK\x03\x04", "the file is a zip archive or an Excel workbook. Export the table as CSV or Parquet"),
    (r"\s*<", "the file is a web page or XML, not a table. Download it again"),
    (r"\s*[\[{]", "the file is JSON, not a table. Write it as CSV or Parquet"),
    (r".*\x00.*", "the file is UTF-16 or no text at all. Save it as UTF-8"),
    (r".*\r.*", "the lines end with a carriage return alone. Save the file with line feeds"),
)


def header_fault(columns: Sequence[str]) -> str | None:
    """Say what a CSV is, if its header shows that it is none.

    Parameters
    ----------
    columns : sequence of str
        The header as it was read.
    """
    line = ",".join(columns)
    for pattern, fault in _FORMATS:
        if re.match(pattern, line, re.DOTALL):
            return f"{fault}."
    return None


def header_hint(columns: Sequence[str]) -> str:
    """What to say where columns are missing from a CSV's header; empty if it shows no reason.

    Parameters
    ----------
    columns : sequence of str
        The header as it was read.
    """
    signs = [sign for sign in _SEPARATORS if len(columns) == 1 and sign in columns[0]]
    if signs:
        return (
            f" The header holds {_NAMES[signs[0]]}: if that separates the columns, set "
            f"load_args.separator to {signs[0]!r} in the catalog."
        )
    repeated = [
        match[1] for column in columns if (match := REPEATED.fullmatch(column)) and match[1] in columns
    ]
    if repeated and not _NUMBER.fullmatch(repeated[0]):
        return f" The header names {repeated[0]!r} more than once."
    if any("�" in column for column in columns):
        return " The header is not UTF-8: save the file as UTF-8."
    if 2 * sum(_NUMBER.fullmatch(column) is not None for column in columns) > len(columns):
        return " The first line holds values, not names: put a header above it."
    return ""


def csv_fault(file: Path, short_rows: bool = False) -> str | None:
    """Say where a CSV breaks its own form.

    Parameters
    ----------
    file : Path
        Text or gzip; anything else, or a file that is not there, gives None.
    short_rows : bool, default False
        Whether a row with fewer cells than the header is a fault.

    Returns
    -------
    str or None
        A sentence with the line and the mend; None if no fault is found.
    """
    if not is_csv(file):
        return None
    with file.open("rb") as raw:
        start = raw.read(4)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "the file is UTF-16. Save it as UTF-8."
    if start == _ZSTD:
        return None
    try:
        with _opened(file) as content:
            return _text_fault(_Lines(content), short_rows)
    except EOFError:
        return "the gzip file is truncated: it ends before its contents do. Copy it again."
    except (gzip.BadGzipFile, zlib.error):
        return "the gzip file is damaged. Copy it again."


def rows_with_lines(file: Path, rows: Sequence[int]) -> dict[int, tuple[int, dict[str, str]]]:
    """Find rows of a readable CSV: each with its first line and its cells by column.

    A row in quotes may span lines, so a row's number does not tell its line.

    Parameters
    ----------
    file : Path
    rows : sequence of int
        Positions from 0.
    """
    wanted, found = set(rows), {}
    with _opened(file) as content:
        lines = _Lines(content, errors="replace")
        separator, header = _header(lines)
        try:
            for position, cells in enumerate(csv.reader(lines, delimiter=separator)):
                if position in wanted:
                    found[position] = (lines.first, dict(zip(header, cells, strict=False)))
                    if len(found) == len(wanted):
                        break
                lines.next_row()
        except csv.Error:
            logger.debug("No lines from line %s of %s on", lines.number, file, exc_info=True)
    return found


def is_csv(file: Path) -> bool:
    """Whether a path is a file that a name says is text."""
    return file.is_file() and bool(_SUFFIXES & {suffix.lower() for suffix in file.suffixes})


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    with file.open("rb") as raw:
        compressed = raw.read(2) == _GZIP
        raw.seek(0)
        yield gzip.GzipFile(fileobj=raw) if compressed else raw  # type: ignore[misc]


def _header(lines: _Lines) -> tuple[str, list[str]]:
    """The sign between columns, and their names."""
    line = next((line for line in lines if line.strip()), "")
    lines.next_row()
    separator = max(_SEPARATORS, key=line.count)
    return separator, next(csv.reader([line], delimiter=separator), [])


def _text_fault(lines: _Lines, short_rows: bool) -> str | None:
    try:
        separator, header = _header(lines)
        width = len(header)
        for cells in csv.reader(lines, delimiter=separator, strict=True):
            if len(cells) != width and lines.spanned and (lines.ended or len(cells) > width):
                return _open_quote(lines.first)
            if len(cells) > width or (short_rows and 0 < len(cells) < width):
                return (
                    f"line {lines.first} has {len(cells)} cells, the header {width}. Mend the line; "
                    "a text or number with the separator in it needs quotes."
                )
            if lines.quotes % 2:
                return _stray_quote(lines.first)
            lines.next_row()
    except UnicodeDecodeError:
        return f"line {lines.number} is not UTF-8. Save the file as UTF-8."
    except csv.Error as error:
        # What follows a quote that closes too early, a text that never ends, or one that grows too large.
        if lines.spanned or "end of data" in str(error):
            return _open_quote(lines.first)
        if "expected after" in str(error):
            return _stray_quote(lines.first)
        return f"line {lines.number} is no CSV ({error})."
    return None


def _open_quote(line: int) -> str:
    return f"a quote that opens on line {line} is not closed. Close it, or remove it."


def _stray_quote(line: int) -> str:
    return (
        f"line {line} has a quote inside a cell. Put such a cell in quotes and double the quote, or set "
        "load_args.quote_char to null in the catalog."
    )


class _Lines:
    """Lines of text with their numbers: a row in quotes may span several."""

    def __init__(self, content: IO[bytes], errors: str = "strict") -> None:
        self._content = content
        self._errors = errors
        self.number, self.first, self.quotes, self.ended = 0, 1, 0, False

    @property
    def spanned(self) -> int:
        """How many lines the row has beyond its first."""
        return self.number - self.first

    def next_row(self) -> None:
        """The next line begins a row."""
        self.first, self.quotes = self.number + 1, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._content.readline()
        if not line:
            self.ended = True
            raise StopIteration
        self.number += 1
        self.quotes += line.count(b'"')
        return line.decode("utf-8-sig" if self.number == 1 else "utf-8", self._errors)
