"""From transactions to rows of the log: the champion judges, the challenger for its share."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import uuid_utils
from numpy.typing import NDArray

from fraud_kedro.prediction_log import GroupCommit, PredictionRecord
from fraud_kedro.prediction_log.tables import Role
from fraud_kedro.serving.metrics import CHALLENGER_FAILURES
from fraud_kedro.serving.model_store import Roles, ServedModel
from fraud_kedro.serving.requests import Transaction
from fraud_kedro.serving.routing import is_challenged

logger = logging.getLogger(__name__)


class Serving(NamedTuple):
    """What transactions are answered with, from their beginning to their end."""

    roles: Roles
    champion: ServedModel
    commits: GroupCommit


class Judge:
    """Has transactions judged by the model whose turn it is.

    Parameters
    ----------
    share : float
        Of all ids, from 0 to 1, for the challenger.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._complained: set[str] = set()

    def many(
        self,
        serving: Serving,
        transactions: Sequence[Transaction],
        probabilities: NDArray[np.float32],
        arrived: datetime,
        request_ids: Iterable[str | None],
    ) -> list[PredictionRecord]:
        """Judge transactions that the champion has scored.

        Parameters
        ----------
        serving : Serving
        transactions : sequence of Transaction
        probabilities : ndarray of shape (n_transactions,)
            The champion's.
        arrived : datetime
            Aware, UTC.
        request_ids : iterable of str or None
            One for each.

        Raises
        ------
        ValueError
            If the champion gave no number, which the log does not take.
        """
        if not np.isfinite(probabilities).all():
            raise ValueError("the champion's probability is no number")
        challenger = serving.roles.challenger
        if challenger is not None:
            transactions = [_with_id(transaction) for transaction in transactions]
        records = [
            _record(serving.champion, transaction, probability, arrived, request_id)
            for transaction, probability, request_id in zip(
                transactions, probabilities.tolist(), request_ids, strict=True
            )
        ]
        if challenger is not None:
            self._challenge(challenger, transactions, records)
        return records

    def _challenge(
        self,
        challenger: ServedModel,
        transactions: Sequence[Transaction],
        records: list[PredictionRecord],
    ) -> None:
        """Put the challenger's rows in the place of the champion's; leave them if it fails."""
        chosen = [i for i, record in enumerate(records) if is_challenged(record.transaction_id, self._share)]
        if not chosen:
            return
        try:
            scorer = challenger.scorer
            probabilities = scorer.probabilities(scorer.matrix([transactions[i].values for i in chosen]))
            if not np.isfinite(probabilities).all():
                # The log takes numbers alone, and would refuse the champion's rows of the same commit.
                raise ValueError("the challenger's probability is no number")
            found = [
                _record(
                    challenger,
                    transactions[i],
                    probability,
                    records[i].timestamp,
                    records[i].request_id,
                    "challenger",
                )
                for i, probability in zip(chosen, probabilities.tolist(), strict=True)
            ]
        except Exception:
            # Whatever the challenger does, the champion answers: counted, and said once.
            CHALLENGER_FAILURES.inc(len(chosen))
            if challenger.name not in self._complained:
                self._complained.add(challenger.name)
                logger.exception("The challenger %s fails, and the champion answers for it.", challenger.name)
            return
        for i, record in zip(chosen, found, strict=True):
            records[i] = record


def _with_id(transaction: Transaction) -> Transaction:
    if transaction.transaction_id is not None:
        return transaction
    return transaction._replace(transaction_id=str(uuid_utils.uuid7()))


def _record(
    model: ServedModel,
    transaction: Transaction,
    probability: float,
    arrived: datetime,
    request_id: str | None,
    role: Role = "champion",
) -> PredictionRecord:
    # By position, which takes half the time; in the order of the columns.
    return PredictionRecord(
        transaction.transaction_id or str(uuid_utils.uuid7()),
        role,
        arrived,
        transaction.event_time,
        *model.judgement(probability),
        transaction.request_hash,
        request_id,
        transaction.features,
    )
