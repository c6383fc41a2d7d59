"""Which scores are clearly better than others, and which the rows cannot tell apart.

With a few dozen frauds the best of several is mostly the luckiest. The rule here is
that of one standard error (Breiman, Friedman, Olshen, Stone 1984, "Classification and
Regression Trees", section 3.4.3): what lies within it of the best is as good as the
best, and the more stable one is taken. The error is that of the paired difference,
which is far smaller than either figure's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.bootstrap import LEVEL, draws, interval
from fraud_kedro.evaluation.measures import Measure, measure, ranking
from fraud_kedro.evaluation.metrics import ScoredRows

# A mean of one is no ensemble.
LEAST_MEMBERS = 2


@dataclass(frozen=True)
class Lead:
    """How far the first scores are ahead of the second on the same rows.

    Attributes
    ----------
    value : float
        The first one's figure minus the second one's.
    standard_error : float
        Of the value, from paired resamples; infinite where too few of them define the figure.
    """

    value: float
    standard_error: float

    @property
    def is_clear(self) -> bool:
        """Whether the first is ahead by more than one standard error."""
        return self.value > self.standard_error


@dataclass(frozen=True)
class PairedFigures:
    """One figure of several scores of the same rows.

    Attributes
    ----------
    values : mapping of str to float
    draws : mapping of str to ndarray of shape (repetitions,)
        On resamples that all of them share.
    """

    values: Mapping[str, float]
    draws: Mapping[str, NDArray[np.float64]]

    def lead(self, first: str, second: str) -> Lead:
        """How far the first is ahead of the second."""
        differences = self.draws[first] - self.draws[second]
        defined = differences[np.isfinite(differences)]
        enough = len(defined) >= LEVEL * len(differences)
        return Lead(self.values[first] - self.values[second], float(defined.std()) if enough else np.inf)

    def difference(self, first: str, second: str) -> tuple[float, tuple[float, float] | None]:
        """The first one's figure minus the second one's, and its paired 95 % interval.

        The interval is None where too few resamples define the figure.
        """
        return self.values[first] - self.values[second], interval(self.draws[first] - self.draws[second])


def paired_figures(
    candidates: Mapping[str, tuple[ScoredRows, Measure]], figure: str, *, repetitions: int, seed: int
) -> PairedFigures:
    """Measure scores of the same rows, on resamples that all of them share.

    Parameters
    ----------
    candidates : mapping of str to (ScoredRows, Measure)
        The measure is made for the rows, and gives the figure.
    figure : str
        Of which more is better.
    repetitions, seed : int
        Of the stratified bootstrap.

    Raises
    ------
    TrainingError
        If the rows do not define the figure.
    """
    rows = next(rows for rows, _ in candidates.values())
    measures = {name: measured for name, (_, measured) in candidates.items()}
    drawn = draws(rows, measures, repetitions=repetitions, seed=seed)
    values = {name: measure(each, [measured]).get(figure) for name, (each, measured) in candidates.items()}
    return PairedFigures(
        {name: _defined(value, figure) for name, value in values.items()},
        {name: found[figure] for name, found in drawn.items()},
    )


def harmful_members(
    log_odds: Mapping[str, NDArray[np.float64]],
    labels: NDArray[np.int8],
    weights: NDArray[np.float64],
    figure: str,
    *,
    repetitions: int,
    seed: int,
) -> dict[str, Lead]:
    """Find the members without which the mean of the others ranks clearly better.

    Backward elimination: as long as a member is found whose absence raises the figure
    by more than a standard error, the one whose absence raises it most leaves. A weak
    member whose errors are its own stays; two always stay.

    Parameters
    ----------
    log_odds : mapping of str to ndarray of shape (n_transactions,)
        Each member's calibrated score of rows it has not seen.
    labels, weights : ndarray of shape (n_transactions,)
    figure : str
        One that `fraud_kedro.evaluation.measures.ranking` gives.
    repetitions, seed : int
        Of the bootstrap.

    Returns
    -------
    dict of str to Lead
        The members that left, in their order, with the lead of the mean without them.
    """
    staying, left = dict(log_odds), dict[str, Lead]()
    while len(staying) > LEAST_MEMBERS:
        means = {name: _mean(s for other, s in staying.items() if other != name) for name in staying}
        rows = {
            name: ScoredRows(labels, scores, weights)
            for name, scores in {"": _mean(staying.values()), **means}.items()
        }
        figures = paired_figures(
            {name: (each, ranking(each)) for name, each in rows.items()},
            figure,
            repetitions=repetitions,
            seed=seed,
        )
        without = {name: figures.lead(name, "") for name in staying}
        clear = {name: found for name, found in without.items() if found.is_clear}
        if not clear:
            break
        worst = max(clear, key=lambda name: clear[name].value)
        left[worst] = clear[worst]
        del staying[worst]
    return left


def _defined(value: float | None, figure: str) -> float:
    if value is None:
        raise TrainingError(f"{figure} is not defined on the rows the candidates are compared on.")
    return value


def _mean(scores: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.asarray(np.mean(list(scores), axis=0), dtype=np.float64)
