"""A local file that takes predictions while the database is away, until they are in it.

One file for all workers of a host. Each line is a checksum and a record; a
batch of lines is synced before its requests are answered. Whoever appends or
removes holds the lock, so what a crash has left half-written is the file's end,
was never answered, and is cut off by the next who holds the lock.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log.database import LogUnavailableError
from fraud_kedro.prediction_log.tables import PredictionRecord
from fraud_kedro.prediction_log.writer import LogBusyError, PredictionWriter, key_of, settled

logger = logging.getLogger(__name__)

SPILLED = "spilled.jsonl"
SET_ASIDE = "set_aside.jsonl"

Write = Callable[[Sequence[PredictionRecord]], list[PredictionRecord | None]]

# Rows of a transaction of the replay; they are read into memory with their lines.
_CHUNK = 500
_READ_BYTES = 1024 * 1024
_CHECKSUM_DIGITS = 8

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(PredictionRecord).decode


class SpillError(LogUnavailableError):
    """The spill file cannot be written, or is full."""


@dataclass(frozen=True)
class Replayed:
    """What one replay has done.

    Attributes
    ----------
    records : int
        Lines whose record is in the database now.
    set_aside : int
        Lines that are damaged, or that the database holds another answer for.
    """

    records: int = 0
    set_aside: int = 0


class Spill:
    """The spill file of a host.

    Safe to share between threads, and between processes by a lock file.

    Parameters
    ----------
    folder : Path
        A folder on a local disk, of its own; made at the first use.
    limit_bytes : int
        Size at which further predictions are refused.
    """

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self.folder = folder
        self._path = folder / SPILLED
        self._limit = limit_bytes
        self._thread_lock = threading.Lock()
        self._file: int | None = None
        self._size = 0
        self._replayed = 0
        self._index: dict[tuple[str, bool], int] = {}

    @property
    def size(self) -> int:
        """Bytes that wait for the database."""
        try:
            return os.stat(self._path).st_size  # noqa: PTH116, asked before every commit
        except FileNotFoundError:
            return 0

    def add(
        self, records: Sequence[PredictionRecord], *, begin: bool
    ) -> list[PredictionRecord | None] | None:
        """Append records and sync them.

        Parameters
        ----------
        records : sequence of PredictionRecord
        begin : bool
            Whether to begin a file where there is none.

        Returns
        -------
        list of PredictionRecord or None
            As `PredictionWriter.write` gives it, by what the file holds; None
            if there is no file and `begin` is false: the database is to be asked.

        Raises
        ------
        SpillError
            If nothing could be appended.
        """
        with self._mending(), self._locked():
            if not self._refresh(begin=begin) or (self._size == 0 and not begin):
                return None
            found: list[PredictionRecord] = []
            new: dict[tuple[str, bool], PredictionRecord] = {}
            for record in records:
                key = key_of(record)
                stored = new.get(key) or self._stored(key)
                if stored is None:
                    stored = new[key] = record
                found.append(stored)
            self._append(new)
        return [settled(record, stored) for record, stored in zip(records, found, strict=True)]

    def replay(self, write: Write, *, stopping: Callable[[], bool] = lambda: False) -> Replayed:
        """Put every record into the database, in order, and remove the file.

        Parameters
        ----------
        write : callable
            Commits records to the database; one that is there already stays.
        stopping : callable
            Asked between transactions whether to leave the rest for later.

        Returns
        -------
        Replayed
            Nothing if another process is at it.

        Raises
        ------
        PredictionLogError
            If the database is still away; what is left stays in the file.
        """
        records = aside = 0
        with self._mending(), self._alone() as alone:
            if not alone:
                return Replayed()
            while not stopping():
                with self._locked():
                    if not self._refresh(begin=False):
                        break
                    if self._replayed >= self._size:
                        # Under the lock: whoever comes next finds no file and asks the database.
                        self._remove()
                        break
                    lines = self._lines(self._replayed)
                done, refused = _commit(lines, write)
                if refused:
                    self._keep_aside(refused)
                records, aside = records + done, aside + len(refused)
                self._replayed += sum(len(line) for line in lines)
        return Replayed(records, aside)

    def waiting(self) -> int:
        """Count the lines that wait for the database."""
        try:
            with self._path.open("rb") as file:
                return sum(part.count(b"\n") for part in iter(lambda: file.read(_READ_BYTES), b""))
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        """Let go of the file."""
        with self._thread_lock:
            self._forget()

    @contextmanager
    def _mending(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SpillError(
                f"The spill file {self._path} cannot be used: {error.strerror or error}. Check that its "
                "folder can be written and that the disk has room."
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._thread_lock, _file_lock(self.folder / "append.lock", fcntl.LOCK_EX):
            yield

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        if self.size == 0:
            yield False
            return
        try:
            with _file_lock(self.folder / "replay.lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
                yield True
        except BlockingIOError:
            yield False

    def _refresh(self, *, begin: bool) -> bool:
        """Take up what other processes have appended; false where there is no file."""
        if self._file is not None and os.fstat(self._file).st_nlink == 0:
            self._forget()
        if self._file is None:
            if not begin and self.size == 0:
                return False
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            _sync_folder(self.folder)
        end = os.fstat(self._file).st_size
        while self._size < end:
            part = os.pread(self._file, _READ_BYTES, self._size)
            whole = part.rfind(b"\n") + 1
            if whole == 0:
                logger.warning("%s ended within a line, which was never answered; it is cut off.", self._path)
                os.ftruncate(self._file, self._size)
                break
            for line in part[:whole].splitlines(keepends=True):
                record = _record(line)
                if record is not None:
                    self._index.setdefault(key_of(record), self._size)
                self._size += len(line)
        return True

    def _stored(self, key: tuple[str, bool]) -> PredictionRecord | None:
        offset = self._index.get(key)
        if offset is None:
            return None
        assert self._file is not None  # noqa: S101 - the index is empty without one
        line = b""
        while not line.endswith(b"\n"):
            part = os.pread(self._file, 4096, offset + len(line))
            if not part:
                return None
            head, newline, _ = part.partition(b"\n")
            line += head + newline
        return _record(line)

    def _append(self, new: dict[tuple[str, bool], PredictionRecord]) -> None:
        if not new:
            return
        assert self._file is not None  # noqa: S101 - `_refresh` has opened it
        lines = [_line(record) for record in new.values()]
        content = b"".join(lines)
        if self._size + len(content) > self._limit:
            raise SpillError(
                f"The spill file {self._path} has reached its limit of {self._limit} bytes "
                "(FRAUD_LOG_SPILL_BYTES). Bring the database back, or raise the limit."
            )
        if max(map(len, lines)) > _READ_BYTES:
            raise SpillError(f"A prediction of more than {_READ_BYTES} bytes cannot be spilled.")
        try:
            written = 0
            while written < len(content):
                written += os.write(self._file, content[written:])
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        for key, line in zip(new, lines, strict=True):
            self._index[key] = self._size
            self._size += len(line)

    def _lines(self, offset: int) -> list[bytes]:
        assert self._file is not None  # noqa: S101 - `_refresh` has opened it
        part = os.pread(self._file, min(_READ_BYTES, self._size - offset), offset)
        return part[: part.rfind(b"\n") + 1].splitlines(keepends=True)[:_CHUNK]

    def _remove(self) -> None:
        self._path.unlink()
        _sync_folder(self.folder)
        self._forget()

    def _forget(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self._size, self._replayed = None, 0, 0
        self._index = {}

    def _keep_aside(self, refused: list[tuple[bytes, str]]) -> None:
        """Keep what the database does not take, before its line goes."""
        path = self.folder / SET_ASIDE
        with path.open("ab") as file:
            for line, reason in refused:
                file.write(_encode({"reason": reason, "line": line.decode(errors="replace").rstrip("\n")}))
                file.write(b"\n")
            file.flush()
            os.fsync(file.fileno())
        logger.error(
            "%d spilled predictions are not in the prediction log, but in %s, with reasons.",
            len(refused),
            path,
        )


class SpillingWriter:
    """Writes to the database, and to the spill file while that is away.

    Parameters
    ----------
    spill : Spill
    database : PredictionWriter, optional
        None where it could not be opened yet.
    may_begin : bool
        Whether an outage begins a file; else one that is there is emptied, and
        that is all.
    """

    def __init__(self, spill: Spill, database: PredictionWriter | None, *, may_begin: bool = True) -> None:
        self.spill = spill
        self.may_begin = may_begin
        self.database = database
        #: Called with the number of records whenever some are spilled.
        self.observe: Callable[[int], None] = lambda _records: None

    @property
    def local(self) -> bool:
        """Whether a commit is a matter of this machine's disk alone."""
        return self.database is not None and self.database.local

    def write(
        self, records: Sequence[PredictionRecord], *, wait: bool = True
    ) -> list[PredictionRecord | None]:
        """Commit records, or sync them to the spill file: see `PredictionWriter.write`."""
        if self.spill.size:
            if not wait:
                raise LogBusyError("Predictions are being spilled.")
            # The database has not what the file has: ids are looked for, and order kept, in the file.
            found = self.spill.add(records, begin=False)
            if found is not None:
                self.observe(len(records))
                return found
        if self.database is not None:
            try:
                return self.database.write(records, wait=wait)
            except LogBusyError:
                if not wait or not self.may_begin:
                    raise
            except LogUnavailableError as error:
                if not self.may_begin:
                    raise
                if not wait:
                    raise LogBusyError("The prediction log fails.") from error
                logger.error("Predictions are spilled to %s. %s", self.spill.folder, error)
        found = self.spill.add(records, begin=True)
        assert found is not None  # noqa: S101 - begun where it was not there
        self.observe(len(records))
        return found

    def replay(self, stopping: Callable[[], bool] = lambda: False) -> Replayed:
        """Put into the database what was spilled: see `Spill.replay`."""
        if self.database is None or not self.spill.size:
            return Replayed()
        return self.spill.replay(self.database.write, stopping=stopping)

    def close(self) -> None:
        """Let go of database and file."""
        if self.database is not None:
            self.database.close()
        self.spill.close()


@contextmanager
def _file_lock(path: Path, operation: int) -> Iterator[None]:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, operation)
        yield
    finally:
        # Which lets go of the lock as well.
        os.close(lock)


def _sync_folder(folder: Path) -> None:
    """A new or removed name survives a power cut once its folder is synced."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _line(record: PredictionRecord) -> bytes:
    content = _encode(record)
    return b"%08x %b\n" % (zlib.crc32(content), content)


def _record(line: bytes) -> PredictionRecord | None:
    """Read a line; None if it is damaged."""
    checksum, content = line[:_CHECKSUM_DIGITS], line[_CHECKSUM_DIGITS + 1 : -1]
    if checksum != b"%08x" % zlib.crc32(content):
        return None
    try:
        return _decode(content)
    except msgspec.MsgspecError:
        return None


def _commit(lines: Sequence[bytes], write: Write) -> tuple[int, list[tuple[bytes, str]]]:
    """Write a chunk; gives how many are in the database, and the lines that are not, with the reason."""
    refused: list[tuple[bytes, str]] = []
    good: list[tuple[bytes, PredictionRecord]] = []
    for line in lines:
        record = _record(line)
        if record is None:
            refused.append((line, "damaged"))
        else:
            good.append((line, record))
    try:
        stored = write([record for _, record in good])
    except (LogUnavailableError, LogBusyError):
        raise
    except PredictionLogError as error:
        if len(good) == 1:
            return 0, [*refused, (good[0][0], str(error))]
        for half in (good[: len(good) // 2], good[len(good) // 2 :]):
            _, more = _commit([line for line, _ in half], write)
            refused += more
        return len(lines) - len(refused), refused
    for (line, record), found in zip(good, stored, strict=True):
        if found is None:
            refused.append((line, "the log has this transaction_id for another request"))
        elif found.timestamp != record.timestamp:
            refused.append((line, "the log has an earlier answer to the same request"))
    return len(lines) - len(refused), refused
