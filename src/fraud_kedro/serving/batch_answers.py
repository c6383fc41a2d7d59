"""What a batch is answered with, part by part: JSON here, tables in `batch_table_answers`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Protocol

from fraud_kedro.prediction_log import PredictionRecord
from fraud_kedro.serving.answers import Answer, encode, timestamp_text
from fraud_kedro.serving.batch import Answered
from fraud_kedro.serving.explaining import ExplainedAnswer
from fraud_kedro.serving.requests import FieldError

_IN_MEMORY = 1024 * 1024
_BLOCK = 256 * 1024


# Explains the rows of a part that were answered.
Explain = Callable[[Answered], list[ExplainedAnswer]]


class Answers(Protocol):
    """Makes the bytes of an answer."""

    @property
    def begun(self) -> bool:
        """Whether there is something to answer with status 200."""

    def part(self, answered: Answered) -> bytes:
        """Take the next rows; the bytes may come later."""

    def end(self) -> Iterator[bytes]:
        """Give what is left."""

    def close(self) -> None:
        """Let go of files."""


class JsonAnswers:
    """``{"predictions": [...], "errors": [...]}``; the errors wait in a file for the predictions' end.

    Parameters
    ----------
    explain : callable, optional
        Without it there are no reasons.
    """

    def __init__(self, explain: Explain | None = None) -> None:
        self._explain = explain
        self.begun = False
        self._errors = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - `close` does
        self._failed = False

    def part(self, answered: Answered) -> bytes:
        """Give the part's predictions and keep its errors."""
        if answered.errors:
            self._errors.write((b"," if self._failed else b"") + encode(answered.errors)[1:-1])
            self._failed = True
        if not answered.stored:
            return b""
        before = b"," if self.begun else b'{"predictions":['
        self.begun = True
        if self._explain is not None:
            return before + encode(self._explain(answered))[1:-1]
        texts = timestamp_texts(answered.stored)
        # By position, which takes half the time: see `PredictionRecord`.
        answers = [Answer(r[0], r[6], r[5], r[7], r[4], texts[r[2]]) for r in answered.stored]
        return before + encode(answers)[1:-1]

    def end(self) -> Iterator[bytes]:
        """Give the errors."""
        yield (b"" if self.begun else b'{"predictions":[') + b'],"errors":['
        self._errors.seek(0)
        while block := self._errors.read(_BLOCK):
            yield block
        yield b"]}"

    def close(self) -> None:
        """Let go of the errors' file."""
        self._errors.close()


def row_error(errors: Sequence[FieldError]) -> str:
    """Write why a row failed, each field with its reason."""
    return "; ".join(
        f"{error.loc[-1]}: {error.msg}" if isinstance(error.loc[-1], str) else error.msg for error in errors
    )


def timestamp_texts(stored: Sequence[PredictionRecord]) -> dict[datetime, str]:
    """Write the moments there are, which many rows share."""
    return {moment: timestamp_text(moment) for moment in {record.timestamp for record in stored}}
