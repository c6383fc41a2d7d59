"""What was decided and done about retraining: one line of JSON each, only added to."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from fraud_kedro.errors import FraudKedroError
from fraud_kedro.options import Options

HISTORY_FILE = "history.jsonl"

Outcome = Literal["promoted", "challenger", "rejected", "failed"]


class HistoryError(FraudKedroError):
    """The history cannot be written or read."""


class HistoryEntry(Options):
    """A decision, or what came of a retraining.

    Attributes
    ----------
    at : datetime
    kind : {"decision", "retraining"}
    reason : str
    champion : str
        The one that reigned then; the new one after a promotion.
    retrain, held_back
        Of a decision.
    outcome, version
        Of a retraining: what the gate said, and of which version.
    """

    at: AwareDatetime
    kind: Literal["decision", "retraining"]
    reason: str
    champion: str | None = None
    retrain: bool | None = None
    held_back: str | None = None
    outcome: Outcome | None = None
    version: int | None = None


def read_history(file: Path) -> tuple[HistoryEntry, ...]:
    """Read every entry, in the order they were added; none if there is no file.

    A last line without its end was cut off by a crash, and is left out.

    Raises
    ------
    HistoryError
        If another line is no entry: a guard that forgets would guard nothing.
    """
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise HistoryError(f"{file} cannot be read: {error.strerror}.") from error
    entries = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            entries.append(HistoryEntry.model_validate_json(line))
        except ValidationError as error:
            raise HistoryError(
                f"Line {number} of {file} is no entry of the history. Mend or remove the line."
            ) from error
    return tuple(entries)


def append_history(file: Path, entry: HistoryEntry) -> None:
    """Add an entry; it is on the disk, or the file is as it was.

    Raises
    ------
    HistoryError
        If there is no room for it, or it cannot be written.
    """
    line = entry.model_dump_json(exclude_none=True).encode() + b"\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab", buffering=0) as opened:
            # A retraining by hand may end while a loop writes: neither cuts off the other's line.
            fcntl.flock(opened, fcntl.LOCK_EX)
            end = _end_of_last_line(file)
            opened.truncate(end)
            try:
                _write(opened.fileno(), line)
                os.fsync(opened.fileno())
            except OSError:
                opened.truncate(end)
                raise
    except OSError as error:
        raise HistoryError(
            f"The history of retrainings at {file} cannot be written: {error.strerror}. Nothing of it is "
            "lost; make room, or mend the folder."
        ) from error


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _end_of_last_line(file: Path) -> int:
    """Where the whole lines end: a crash may have left a part of one behind them."""
    return file.read_bytes().rfind(b"\n") + 1
