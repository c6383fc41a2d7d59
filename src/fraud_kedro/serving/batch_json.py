"""A batch in JSON, read in pieces: the rows of ``{"transactions": [...]}``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import msgspec
import numpy as np

from fraud_kedro.serving.answers import RowError
from fraud_kedro.serving.batch import WHERE, BatchError, Part, broken
from fraud_kedro.serving.requests import InvalidRequestError, RequestFormat, Transaction

# Decoding takes longer than scoring: small parts, so that both go on at once from the beginning.
_ROWS_PER_PART = 500

_OPENING = b'{"transactions":['
_OPENED = re.compile(rb'\s*\{\s*"transactions"\s*:\s*\[')

# Of a body this much is decoded at a time; a single transaction has at most the second.
_WINDOW_BYTES = 1024 * 1024
_LARGEST_WINDOW = 16 * _WINDOW_BYTES
_CUTS_TRIED = 8


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    transactions: list[msgspec.Raw]


class JsonSource:
    """Reads a JSON body.

    Parameters
    ----------
    file : binary file
    requests : RequestFormat
    limit : int
        Most rows.
    """

    def __init__(self, file: BinaryIO, requests: RequestFormat, limit: int) -> None:
        self._file = file
        self._requests = requests
        self._limit = limit
        self._decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
        self._decode_body = msgspec.json.Decoder(_Body).decode
        # Where the pieces are that `check` found; the last one has the end of the body.
        self._pieces: list[tuple[int, int]] = []

    def check(self) -> int:
        """Find the rows, without looking into them."""
        rows, position = 0, 0
        self._pieces = []
        while position >= 0:
            found, size = self._piece(position)
            rows += len(found)
            if rows > self._limit:
                raise broken("list_length", self._length(), "transactions", status=413)
            self._pieces.append((position, size))
            position = position + size if self._more else -1
        if rows == 0:
            raise broken("list_length", self._length(), "transactions")
        return rows

    def parts(self) -> Iterator[Part]:
        """Decode and check the rows, some at a time."""
        first = 0
        for index, (position, size) in enumerate(self._pieces):
            self._file.seek(position)
            rows = self._rows(self._file.read(size), position, last=index == len(self._pieces) - 1)
            for start in range(0, len(rows), _ROWS_PER_PART):
                part = rows[start : start + _ROWS_PER_PART]
                yield self._part(first, part)
                first += len(part)

    def _length(self) -> str:
        return f"should have 1 to {self._limit} transactions"

    def _piece(self, position: int) -> tuple[list[msgspec.Raw], int]:
        """Rows from a position on, and how many bytes they take with the comma behind them."""
        window = _WINDOW_BYTES
        while True:
            self._file.seek(position)
            data = self._file.read(window)
            self._more = len(data) == window
            if not self._more:
                return self._rows(data, position, last=True), len(data)
            cut = len(data)
            for _ in range(_CUTS_TRIED):
                cut = data.rfind(b"},", 0, cut)
                if cut < 0:
                    break
                # Decoding goes from left to right: if this is a list, the cut is between two rows.
                try:
                    return self._rows(data[: cut + 2], position, last=False), cut + 2
                except BatchError as error:
                    problem = error
            if window >= _LARGEST_WINDOW:
                raise problem if cut >= 0 else broken("json_invalid", "a transaction is too large")
            window *= 2

    def _rows(self, data: bytes, position: int, *, last: bool) -> list[msgspec.Raw]:
        try:
            if last:
                return self._decode_body(_OPENING + data if position else data).transactions
            if position == 0:
                opened = _OPENED.match(data)
                if opened is None:
                    raise broken("json_invalid", 'should be {"transactions": [{...}, ...]}')
                data = data[opened.end() :]
            return self._decode_rows(b"[" + data[:-1] + b"]")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            reason = str(error) or type(error).__name__
            place = f" (counted from byte {position} of the body)" if position else ""
            message = f'should be {{"transactions": [{{...}}, ...]}}: {reason}{place}'
            raise broken("json_invalid", message) from error

    def _part(self, first: int, rows: Sequence[msgspec.Raw]) -> Part:
        good: list[int] = []
        transactions: list[Transaction] = []
        errors: list[RowError] = []
        decode = self._requests.decode
        for row, raw in enumerate(rows):
            try:
                transactions.append(decode(bytes(raw), where=(*WHERE, first + row)))
            except InvalidRequestError as error:
                errors.append(RowError(first + row, None, error.errors))
            else:
                good.append(row)
        values = np.array([t.values for t in transactions], dtype=np.float64)
        return Part(
            first=first,
            count=len(rows),
            rows=good,
            values=values.reshape(-1, len(self._requests.features)),
            transactions=lambda: transactions,
            errors=errors,
        )
