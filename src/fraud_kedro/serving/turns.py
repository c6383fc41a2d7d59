"""Single transactions that arrive together are scored together, and share a commit.

The graph, the bookkeeping and the log take hardly longer for some than for one:
with eight clients this nearly doubles what a worker answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log import PredictionRecord
from fraud_kedro.serving.judging import Judge, Serving
from fraud_kedro.serving.requests import Transaction

# Scoring so many takes a fraction of a millisecond, for which the loop stands still.
_ENOUGH = 64


class Turn:
    """A transaction on its way.

    Attributes
    ----------
    serving : Serving
        What there was when it came; it is answered by that.
    transaction : Transaction
    request_id : str or None
    stored : asyncio.Future
        As `GroupCommit.add` gives it.
    record : PredictionRecord or None
        The row for the log, once it is judged; None where the same transaction is
        judged at the same moment, whose row it is.
    """

    __slots__ = ("record", "request_id", "serving", "stored", "transaction")

    def __init__(
        self,
        serving: Serving,
        transaction: Transaction,
        request_id: str | None,
        stored: asyncio.Future[PredictionRecord | None],
    ) -> None:
        self.serving = serving
        self.transaction = transaction
        self.request_id = request_id
        self.stored = stored
        self.record: PredictionRecord | None = None


class Turns:
    """Gathers transactions while the sockets hold more of them.

    Parameters
    ----------
    judge : Judge
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._waiting: list[Turn] = []
        self._seen = 0

    def add(self, serving: Serving, transaction: Transaction, request_id: str | None) -> Turn:
        """Have a transaction scored and logged soon; call in the event loop."""
        loop = asyncio.get_running_loop()
        turn = Turn(serving, transaction, request_id, loop.create_future())
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            self._seen = 0
            loop.call_soon(self._look, loop)
        return turn

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for one more round of the loop if the last one has brought some."""
        if self._seen < len(self._waiting) < _ENOUGH:
            self._seen = len(self._waiting)
            loop.call_soon(self._look, loop)
            return
        taken, self._waiting = self._waiting, []
        # They differ only where a model has been swapped in between.
        for _, group in groupby(taken, key=lambda turn: tuple(map(id, turn.serving))):
            self._take([*group])

    def _take(self, turns: Sequence[Turn]) -> None:
        serving = turns[0].serving
        transactions = [turn.transaction for turn in turns]
        try:
            scorer = serving.champion.scorer
            probabilities = scorer.probabilities(scorer.few([t.values for t in transactions]))
            records = self._judge.many(
                serving, transactions, probabilities, datetime.now(UTC), [turn.request_id for turn in turns]
            )
        except Exception as error:  # noqa: BLE001 (a defect is for each of them to answer)
            for turn in turns:
                _fail(turn, error)
            return
        seen: set[tuple[str, str]] = set()
        for turn, record in zip(turns, records, strict=True):
            asked = record.transaction_id, record.request_hash
            if asked not in seen:
                seen.add(asked)
                turn.record = record
            try:
                serving.commits.add(record, turn.stored)
            except PredictionLogError as error:
                _fail(turn, error)


def _fail(turn: Turn, error: Exception) -> None:
    # A client that hung up has cancelled it.
    if not turn.stored.done():
        turn.stored.set_exception(error)
