"""Why a transaction scores as it does: what each feature adds, from the graph alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.champion.bundle import Bundle
from fraud_kedro.champion.graph_program import GraphProgram
from fraud_kedro.errors import ExplanationError

# In log-odds, beside what float32 leaves of a probability near one: a forest's shares are sums of hundreds
# of float32 numbers, and logarithms enlarge what is lost in the smallest.
TOLERANCE = 0.02
_ROUNDINGS = 8


@dataclass(frozen=True)
class Reason:
    """One feature's part in a score.

    Attributes
    ----------
    feature : str
    value : float
        As the model reads it: in float32, time reduced.
    contribution : float
        In log-odds; positive towards fraud.
    """

    feature: str
    value: float
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """All contributions to one score.

    Attributes
    ----------
    features : tuple of str
        In the schema's order.
    values : ndarray of shape (n_features,), float64
        As the model reads them.
    contributions : ndarray of shape (n_features,), float64
        In log-odds of the calibrated probability.
    base : float
        The reference's log-odds.
    log_odds : float
        Of the probability that was answered: `base` plus all `contributions`.
    """

    features: tuple[str, ...]
    values: NDArray[np.float64]
    contributions: NDArray[np.float64]
    base: float
    log_odds: float

    def top_reasons(self, k: int) -> list[Reason]:
        """The `k` largest contributions of either sign, the largest first; none that is zero."""
        order = np.argsort(-np.abs(self.contributions), kind="stable")[: max(k, 0)]
        return [
            Reason(self.features[i], float(self.values[i]), float(self.contributions[i]))
            for i in order
            if self.contributions[i] != 0
        ]


class Explainer:
    """Explains the scores of one bundle's graph.

    Made once for a bundle; safe to share between threads, since nothing here
    changes after construction. It never gives reasons it is not sure of: its
    own log-odds must agree with the probability that was answered.

    Parameters
    ----------
    bundle : Bundle
        As `read_bundle` returns it.

    Attributes
    ----------
    problem : str or None
        Why this bundle's scores cannot be explained; None if they can. Scoring
        does not depend on it.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._features = bundle.metadata.schema_.features
        self._program: GraphProgram | None = None
        self.problem: str | None = None
        try:
            self._program = GraphProgram(bundle.model, self._background(bundle))
            self._self_test(bundle)
        except ExplanationError as error:
            self.problem = f"The scores of this model cannot be explained: {error}."

    def explain(self, row: NDArray[np.float32], probability: float) -> Explanation:
        """Split a score among the features.

        Parameters
        ----------
        row : ndarray of shape (1, n_features), float32
            Finite, as `Scorer.row` or `Scorer.matrix` makes it.
        probability : float
            What `Scorer.probabilities` gave for this row.

        Returns
        -------
        Explanation

        Raises
        ------
        ExplanationError
            If the bundle has a `problem`, or the probability is not this row's.
        """
        if self._program is None or self.problem is not None:
            raise ExplanationError(self.problem)
        return self._explain(self._program, row, probability)

    def _explain(self, program: GraphProgram, row: NDArray[np.float32], probability: float) -> Explanation:
        values = np.asarray(row, dtype=np.float32).reshape(len(self._features))
        shares = program.shares(values)
        exact = program.reference + shares.sum()
        possible = 0 < probability < 1
        answered = float(np.log(probability) - np.log1p(-probability)) if possible else np.nan
        rounding = answered - exact
        if not possible or abs(rounding) > TOLERANCE + _ROUNDINGS * _log_odds_step(probability):
            raise ExplanationError(
                f"its graph answers the probability {probability:.9g}, its explanation comes to the log-odds "
                f"{exact:.6g}"
            )
        size = np.abs(shares).sum()
        # What float32 has rounded away is shared out by size, so that no feature gets what it has no part in.
        if size > 0:
            shares = shares + rounding * np.abs(shares) / size
        return Explanation(self._features, values.astype(np.float64), shares, program.reference, answered)

    def _background(self, bundle: Bundle) -> NDArray[np.float32]:
        rows = bundle.metadata.background
        if not rows:
            raise ExplanationError("it holds no rows to compare with; export the model again")
        if {len(row) for row in rows} != {len(self._features)}:
            raise ExplanationError("the rows to compare with have another number of features than its schema")
        return bundle.metadata.schema_.model_matrix(np.array(rows, dtype=np.float64))

    def _self_test(self, bundle: Bundle) -> None:
        test = bundle.metadata.self_test
        rows = np.array(test.rows, dtype=np.float64).reshape(-1, len(self._features))
        assert self._program is not None  # noqa: S101 (made just before)
        for row, probability in zip(
            bundle.metadata.schema_.model_matrix(rows), test.probabilities, strict=True
        ):
            self._explain(self._program, row, probability)


def _log_odds_step(probability: float) -> float:
    """How far apart the log-odds of neighbouring float32 probabilities lie."""
    return float(np.spacing(np.float32(probability))) / (probability * (1 - probability))
