"""Where drift is kept: the newest page and verdict, dated ones beside them, and a line for every run.

All of a run's files are written beside their places first and renamed at the end:
on a full disk nothing of an earlier run is lost, and nothing is half there.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fraud_kedro.errors import DataError, DriftError
from fraud_kedro.monitoring.drift_verdict import DriftVerdict


@dataclass(frozen=True)
class DriftReport:
    """All that a run has made.

    Attributes
    ----------
    verdict : DriftVerdict
    page : str
        HTML.
    evidently : dict
        Evidently's numbers.
    keep : int
        So many dated reports stay, this one among them.
    """

    verdict: DriftVerdict
    page: str
    evidently: dict[str, Any]
    keep: int


def new_run_id() -> str:
    """Make a name that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def read_verdict(file: Path) -> DriftVerdict | None:
    """Read the newest verdict, None if there is no file.

    Raises
    ------
    DataError
        If it is no verdict.
    """
    try:
        return DriftVerdict.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(
            f"{file} is not a verdict about drift ({place}: {first['msg']}). Look for drift again, or "
            "remove the file."
        ) from error


def keep_report(page: Path, report: DriftReport) -> None:
    """Keep what a run has made.

    Parameters
    ----------
    page : Path
        Of the newest page, such as ``drift.html``. Beside it go ``drift.json``
        (the verdict), ``drift_evidently.json``, the three again with the run's id
        in their names, and ``drift_history.jsonl``.
    report : DriftReport

    Raises
    ------
    DriftError
        If the disk is full or the folder cannot be written; what was there stays.
    """
    folder, stem, run = page.parent, page.stem, report.verdict.id
    verdict = report.verdict.model_dump_json(indent=1)
    evidently = json.dumps(report.evidently)
    contents = {
        f"{stem}_{run}.html": report.page,
        f"{stem}_{run}_evidently.json": evidently,
        page.name: report.page,
        f"{stem}_evidently.json": evidently,
        f"{stem}.json": verdict,
        # Last: who waits for it finds the others.
        f"{stem}_{run}.json": verdict,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f".{stem}.lock"):
            _drop_half_written(folder, stem)
            history = folder / f"{stem}_history.jsonl"
            line = f"{_line(report.verdict)}\n".encode()
            texts = {name: text.encode() for name, text in contents.items()}
            _put(folder, {history.name: _lines(history) + line, **texts})
            _drop_old(folder, stem, report.keep)
    except OSError as error:
        raise DriftError(
            f"The report on drift cannot be kept in {folder}: {error.strerror or error}. Make room or give "
            "the folder back its rights; earlier reports are untouched."
        ) from error


def _line(verdict: DriftVerdict) -> str:
    """What the history keeps of a run."""
    told = verdict.model_dump(
        mode="json",
        include={
            "id", "created", "verdict", "reason", "model_version", "reference_rows", "drifted_columns",
            "drifted_share", "drifted_importance",
        },
    )  # fmt: skip
    window = verdict.window.model_dump(mode="json", exclude={"model_versions"})
    raised = sorted(name for name, alarm in verdict.alarms.items() if alarm.is_raised)
    columns = [column.column for column in verdict.columns if column.is_drifted]
    return json.dumps({**told, "alarms": raised, "columns": columns, "window": window})


def _lines(history: Path) -> bytes:
    """What is there, whoever wrote it: the next line begins a line."""
    before = history.read_bytes() if history.exists() else b""
    return before if before.endswith(b"\n") or not before else before + b"\n"


def _put(folder: Path, contents: dict[str, bytes]) -> None:
    beside = {name: folder / f".{name}.{os.getpid()}.new" for name in contents}
    try:
        for name, content in contents.items():
            with beside[name].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for name, file_beside in beside.items():
            file_beside.replace(folder / name)
    finally:
        for file_beside in beside.values():
            file_beside.unlink(missing_ok=True)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep other processes from the history until it is written."""
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _drop_half_written(folder: Path, stem: str) -> None:
    """Remove what runs that were killed have left; who has the lock is alone."""
    for file in folder.glob(f".{stem}*.new"):
        file.unlink(missing_ok=True)


def _drop_old(folder: Path, stem: str, keep: int) -> None:
    pages = sorted(folder.glob(f"{stem}_*.html"))
    for page in pages[: max(len(pages) - keep, 0)]:
        for file in (page, page.with_suffix(".json"), page.with_name(f"{page.stem}_evidently.json")):
            file.unlink(missing_ok=True)
