"""What an algorithm is to the rest of the project.

An algorithm is one file in this package: its search space, its fit and its
ONNX twin. Everything speaks log-odds, because calibration, the ensemble and
reason codes all work on that scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import optuna

    from fraud_kedro.algorithms.graph import GraphBuilder
    from fraud_kedro.algorithms.trees import TreeEnsemble

Parameters = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class LabelledMatrix:
    """Rows a model can be fitted or judged on.

    Equal only to itself: boosters keep the binned form of the rows they were
    given for as long as this object lives, so the trials of a study should
    pass the same object for the same fold.

    Attributes
    ----------
    features : ndarray of shape (n_transactions, n_features), float32
        As `ResolvedSchema.model_matrix` makes them.
    labels : ndarray of shape (n_transactions,), int8
        1 is fraud.
    weights : ndarray of shape (n_transactions,), float64
        How many transactions of the full table a row stands for.
    amounts : ndarray of shape (n_transactions,), float64, optional
        In the table's currency, for what is judged by cost.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int8]
    weights: NDArray[np.float64]
    amounts: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.intp]) -> LabelledMatrix:
        """Return the given rows, in the given order."""
        amounts = None if self.amounts is None else self.amounts[rows]
        return LabelledMatrix(self.features[rows], self.labels[rows], self.weights[rows], amounts)


class Algorithm(Protocol):
    """One way to learn a score from labelled transactions.

    Attributes
    ----------
    name : str
        Also the name of its module.
    defaults : mapping
        Every parameter with a sound value; no other name is accepted.
    """

    name: str
    defaults: Parameters

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Draw one point of the search space."""

    def fit(
        self,
        data: LabelledMatrix,
        parameters: Parameters,
        *,
        seed: int,
        n_jobs: int,
        stopping: LabelledMatrix | None = None,
    ) -> Any:
        """Fit an estimator; the parameter ``fit_weights`` says how far it follows the weights.

        Parameters
        ----------
        stopping : LabelledMatrix, optional
            Rows to stop early on, for boosted trees, if they hold enough frauds.
            Without it the number of rounds in ``parameters`` is used as it is.
        """

    def fixed_parameters(self, estimator: Any, parameters: Parameters) -> dict[str, Any]:
        """Write what early stopping found (rounds) into the parameters."""

    def log_odds(self, estimator: Any, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score natively: uncalibrated log-odds of fraud, shape (n_transactions,), finite."""

    def trees(self, estimator: Any) -> TreeEnsemble | None:
        """Return the estimator's trees as its graph has them, None if it has none."""

    def add_to_graph(self, estimator: Any, graph: GraphBuilder, features: str) -> str:
        """Add the estimator to an ONNX graph.

        Parameters
        ----------
        features : str
            Name of the float32 tensor of shape (n, n_features) to read.

        Returns
        -------
        str
            Name of a tensor of shape (n, 1) with the uncalibrated log-odds.
        """
