"""From transactions to rows of the log: the champion judges, the challenger for its share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import uuid_utils
from numpy.typing import NDArray

from fraud_kedro.prediction_log import PredictionRecord
from fraud_kedro.prediction_log.tables import Role
from fraud_kedro.serving.metrics import CHALLENGER_FAILURES
from fraud_kedro.serving.model_store import Roles, ServedModel
from fraud_kedro.serving.requests import Transaction
from fraud_kedro.serving.routing import is_challenged

logger = logging.getLogger(__name__)


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

    def one(
        self,
        roles: Roles,
        champion: ServedModel,
        transaction: Transaction,
        arrived: datetime,
        request_id: str | None,
    ) -> PredictionRecord:
        """Judge one transaction."""
        if roles.challenger is not None:
            transaction = _with_id(transaction)
            challenged = self._challenged(
                roles.challenger, [transaction], np.array([transaction.values]), arrived, request_id
            )
            if challenged:
                return challenged[0]
        scorer = champion.scorer
        probability = float(scorer.probabilities(scorer.row(transaction.values))[0])
        return _record(champion, transaction, probability, arrived, request_id)

    def many(
        self,
        roles: Roles,
        champion: ServedModel,
        transactions: Sequence[Transaction],
        values: NDArray[np.float64],
        probabilities: NDArray[np.float32],
        arrived: datetime,
        request_id: str | None,
    ) -> list[PredictionRecord]:
        """Judge many transactions that the champion has scored.

        Parameters
        ----------
        roles : Roles
        champion : ServedModel
        transactions : sequence of Transaction
        values : ndarray of shape (n_transactions, n_features)
            Their raw features.
        probabilities : ndarray of shape (n_transactions,)
            The champion's.
        arrived : datetime
        request_id : str or None
        """
        if roles.challenger is not None:
            transactions = [_with_id(transaction) for transaction in transactions]
        records = [
            _record(champion, transaction, probability, arrived, request_id)
            for transaction, probability in zip(transactions, probabilities.tolist(), strict=True)
        ]
        if roles.challenger is not None:
            # Its rows take the place of the champion's.
            challenged = self._challenged(roles.challenger, transactions, values, arrived, request_id)
            for place, record in challenged.items():
                records[place] = record
        return records

    def _challenged(
        self,
        challenger: ServedModel,
        transactions: Sequence[Transaction],
        values: NDArray[np.float64],
        arrived: datetime,
        request_id: str | None,
    ) -> dict[int, PredictionRecord]:
        """The challenger's rows by their places; none if it fails."""
        chosen = [i for i, t in enumerate(transactions) if is_challenged(t.transaction_id or "", self._share)]
        if not chosen:
            return {}
        try:
            scorer = challenger.scorer
            probabilities = scorer.probabilities(scorer.matrix(values[chosen]))
            if not np.isfinite(probabilities).all():
                # The log takes numbers alone, and would refuse the champion's rows of the same commit.
                raise ValueError("the challenger's probability is no number")
            return {
                i: _record(challenger, transactions[i], probability, arrived, request_id, "challenger")
                for i, probability in zip(chosen, probabilities.tolist(), strict=True)
            }
        except Exception:
            # Whatever the challenger does, the champion answers: counted, and said once.
            CHALLENGER_FAILURES.inc(len(chosen))
            if challenger.name not in self._complained:
                self._complained.add(challenger.name)
                logger.exception("The challenger %s fails, and the champion answers for it.", challenger.name)
            return {}


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
