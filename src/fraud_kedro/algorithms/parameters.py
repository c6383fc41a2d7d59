"""Parameters every algorithm shares: completing them, and which weights a fit sees."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.algorithms.base import LabelledMatrix, Parameters
from fraud_kedro.errors import TrainingError

# From about here a second thread pays on two free cores.
THREADED_ROWS = 50_000

FIT_WEIGHTS = ("sample", "sqrt", "none")
STOPPING_FRAUDS = 500


def complete(name: str, defaults: Parameters, parameters: Parameters) -> dict[str, Any]:
    """Put `parameters` over the defaults of algorithm `name`.

    Raises
    ------
    TrainingError
        If a parameter is not among the defaults.
    """
    unknown = sorted(set(parameters) - set(defaults))
    if unknown:
        raise TrainingError(
            f"{name} has no parameter {', '.join(map(repr, unknown))}. It has: {', '.join(sorted(defaults))}."
        )
    return {**defaults, **parameters}


def require_both_classes(name: str, data: LabelledMatrix) -> None:
    """Refuse rows nothing can be learnt from.

    Raises
    ------
    TrainingError
        If a class has no row, or no row with a positive weight.
    """
    counted = data.weights > 0
    frauds = int(((data.labels == 1) & counted).sum())
    legitimate = int(((data.labels == 0) & counted).sum())
    if not frauds or not legitimate:
        raise TrainingError(
            f"{name} needs both classes to learn from; it got {frauds} frauds and {legitimate} legitimate "
            "transactions. Give the training part more rows, or fewer folds."
        )


def can_stop_early(stopping: LabelledMatrix | None) -> TypeGuard[LabelledMatrix]:
    """Whether the rows hold enough frauds to choose the number of rounds by average precision.

    With about a hundred, chance puts the best round anywhere: on the ULB table
    rounds chosen so lose .06 of average precision against a fixed number.
    """
    return stopping is not None and int((stopping.labels == 1).sum()) >= STOPPING_FRAUDS


def useful_threads(rows: int, n_jobs: int) -> int:
    """How many threads a boosted tree's fit gains from.

    A round on few rows takes less time than its threads need to meet, and many
    times more where another process holds a core.

    Parameters
    ----------
    rows : int
    n_jobs : int
        At most so many.
    """
    return n_jobs if rows >= THREADED_ROWS else 1


def fit_weights(data: LabelledMatrix, kind: str) -> NDArray[np.float64]:
    """Weights a fit sees, scaled to a mean of one.

    Regularisation and the least hessian of a leaf then mean the same on a
    sample and on the table it stands for. Where few rows stand for many
    transactions each, a fit that takes them at full weight hangs on single
    rows; metrics, calibration and thresholds always use the weights
    themselves, so what a fit without them gets wrong is put right there.

    Parameters
    ----------
    kind : {"sample", "sqrt", "none"}
        The weights, their square roots, or ones; a row of weight 0 has none in any.

    Returns
    -------
    ndarray of shape (n_transactions,), float64
    """
    if kind == "sample":
        weights = data.weights
    elif kind == "sqrt":
        weights = np.sqrt(data.weights)
    elif kind == "none":
        weights = (data.weights > 0).astype(np.float64)
    else:
        raise TrainingError(
            f"fit_weights {kind!r} is unknown. It should be one of: {', '.join(FIT_WEIGHTS)}."
        )
    return np.asarray(weights / weights.mean(), dtype=np.float64)
