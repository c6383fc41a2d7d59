from __future__ import annotations

import errno
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from fraud_kedro.monitoring import retraining_history
from fraud_kedro.monitoring.retraining_history import HistoryEntry, HistoryError, append_history, read_history


def entry(now, hours, reason="a reason"):
    return HistoryEntry(at=now + timedelta(hours=hours), kind="decision", reason=reason, retrain=False)


def test_entries_come_back_as_they_were_added_whatever_the_clock_said(tmp_path, now):
    file = tmp_path / "new" / "history.jsonl"
    assert read_history(file) == ()
    for hours in (2, 1, 3):
        append_history(file, entry(now, hours))
    assert read_history(file) == tuple(entry(now, hours) for hours in (2, 1, 3))


def test_a_line_that_a_crash_cut_off_is_left_out_and_written_over(tmp_path, now):
    file = tmp_path / "history.jsonl"
    append_history(file, entry(now, 1))
    with file.open("ab") as opened:
        opened.write(b'{"at": "2026')
    assert read_history(file) == (entry(now, 1),)
    append_history(file, entry(now, 2))
    assert read_history(file) == (entry(now, 1), entry(now, 2))


def test_another_broken_line_is_named(tmp_path, now):
    file = tmp_path / "history.jsonl"
    file.write_text("nonsense\n")
    append_history(file, entry(now, 1))
    with pytest.raises(HistoryError, match=r"Line 1 of .*history\.jsonl is no entry"):
        read_history(file)


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, now, monkeypatch):
    file = tmp_path / "history.jsonl"
    append_history(file, entry(now, 1))
    write = os.write

    def full(descriptor, content):
        if len(content) > 20:
            return write(descriptor, content[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(retraining_history.os, "write", lambda d, c: full(d, c[:20] if len(c) > 40 else c))
        with pytest.raises(HistoryError, match="No space left on device") as caught:
            append_history(file, entry(now, 2))
    assert "\n" not in str(caught.value)
    assert file.read_bytes().endswith(b"\n")
    assert read_history(file) == (entry(now, 1),)
    append_history(file, entry(now, 2))
    assert len(read_history(file)) == 2


def test_a_second_writer_waits_for_the_first_one(tmp_path, now):
    file = tmp_path / "history.jsonl"
    append_history(file, entry(now, 1))
    with ThreadPoolExecutor(1) as pool:
        with file.open("ab", buffering=0) as first:
            fcntl.flock(first, fcntl.LOCK_EX)
            second = pool.submit(append_history, file, entry(now, 3))
            with pytest.raises(TimeoutError):
                second.result(timeout=0.2)
            first.write(entry(now, 2).model_dump_json(exclude_none=True).encode() + b"\n")
        second.result(timeout=10)
    assert read_history(file) == tuple(entry(now, hours) for hours in (1, 2, 3))
