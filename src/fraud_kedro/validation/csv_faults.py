"""Why a CSV cannot be read: a slower look, once reading it has failed."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from pathlib import Path

_SEPARATORS = (";", "\t", "|", ",")
_NAMES = {";": "a semicolon", "\t": "a tab", "|": "a vertical bar", ",": "a comma"}
_GZIP = b"\x1f\x8b"


def separator_hint(columns: Sequence[str]) -> str:
    """What to say where a header was read as one column, empty if it was not.

    Parameters
    ----------
    columns : sequence of str
        The header as it was read.
    """
    found = [sign for sign in _SEPARATORS if len(columns) == 1 and sign in columns[0]]
    if not found:
        return ""
    return (
        f" The header holds {_NAMES[found[0]]}: if that separates the columns, set "
        f"load_args.separator to {found[0]!r} in the catalog."
    )


def csv_fault(file: Path) -> str | None:
    """Say where a CSV breaks its own form.

    Parameters
    ----------
    file : Path
        Text or gzip; anything else, or a file that is not there, gives None.

    Returns
    -------
    str or None
        A sentence with the line and the mend; None if no fault is found.
    """
    if not file.is_file() or ".csv" not in file.suffixes:
        return None
    with file.open("rb") as raw:
        start = raw.read(4)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "the file is UTF-16. Save it as UTF-8."
    try:
        with gzip.open(file) if start.startswith(_GZIP) else file.open("rb") as raw:
            return _text_fault(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""))
    except EOFError:
        return "the gzip file is truncated: it ends before its contents do. Copy it again."
    except (gzip.BadGzipFile, zlib.error):
        return "the gzip file is damaged. Copy it again."


def _text_fault(text: io.TextIOWrapper) -> str | None:
    lines = _Counted(text)
    try:
        header = text.readline()
        separator = max(_SEPARATORS, key=header.count)
        width = len(next(csv.reader([header], delimiter=separator)))
        for cells in csv.reader(lines, delimiter=separator):
            if len(cells) != width and lines.opened and lines.ended:
                return _open_quote(lines.first)
            if len(cells) > width:
                return (
                    f"line {lines.first} has {len(cells)} cells, the header {width}. Mend the line; "
                    "a text with the separator in it needs quotes."
                )
            lines.next_row()
    except UnicodeDecodeError:
        return f"the file is not UTF-8 near line {lines.number}. Save it as UTF-8."
    except csv.Error as error:
        # A field that grows over many lines until it is too large.
        return _open_quote(lines.first) if lines.opened else f"line {lines.number} is no CSV ({error})."
    return None


def _open_quote(line: int) -> str:
    return f"a quote that opens on line {line} is not closed. Close it, or remove it."


class _Counted:
    """Lines with their numbers: a row in quotes may span several."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.number, self.first, self.ended = 1, 2, False

    @property
    def opened(self) -> int:
        """How many lines the row has beyond its first."""
        return self.number - self.first

    def next_row(self) -> None:
        """The next line begins a row."""
        self.first = self.number + 1

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> str:
        line = self._text.readline()
        if not line:
            self.ended = True
            raise StopIteration
        self.number += 1
        return line
