"""When it is settled what a transaction was: labels come late, and silence has to be read."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fraud_kedro.options import Options

DECLINED = "decline"
# Fewer settled ones of either class say nothing that an interval could hold.
LEAST_OF_A_CLASS = 10


class LabelOptions(Options):
    """The ``labels`` parameters.

    Attributes
    ----------
    maturity_days : float
        From its arrival on a transaction waits so long for its label.
    unlabelled : {"legitimate", "unknown"}
        What a transaction is that no label has come for by then. Chargebacks
        report frauds alone: silence means legitimate.
    """

    maturity_days: float = Field(default=30.0, ge=0, le=3650)
    unlabelled: Literal["legitimate", "unknown"] = "legitimate"

    def mature_from(self, as_of: datetime) -> datetime:
        """Transactions that arrived after this moment still wait for their labels."""
        return as_of - timedelta(days=self.maturity_days)


def settled_labels(
    labels: NDArray[np.float64],
    decisions: NDArray[Any],
    is_mature: NDArray[np.bool_],
    options: LabelOptions,
) -> NDArray[np.float64]:
    """What each transaction was, as far as that is settled.

    Parameters
    ----------
    labels : ndarray of shape (n_transactions,)
        NaN where none has come.
    decisions : ndarray of shape (n_transactions,)
        ``approve``, ``review`` or ``decline``.
    is_mature : ndarray of shape (n_transactions,)
        Whether it has waited for its label long enough.
    options : LabelOptions

    Returns
    -------
    ndarray of shape (n_transactions,)
        0, 1, or NaN where it is open: labels of frauds come first, so those of
        transactions that still wait would make every rate too high, and nobody
        reports a transaction that was declined, so its silence says nothing.
    """
    settled = np.where(is_mature, labels, np.nan)
    if options.unlabelled == "legitimate":
        silent = is_mature & np.isnan(labels) & (decisions != DECLINED)
        settled = np.where(silent, 0.0, settled)
    return settled
