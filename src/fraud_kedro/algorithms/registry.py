"""Finds algorithms by name: a module of this package that defines `ALGORITHM` is one."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import fraud_kedro.algorithms
from fraud_kedro.algorithms.base import Algorithm
from fraud_kedro.errors import TrainingError

# Named here, so that listing the algorithms imports none of their libraries.
_NOT_ALGORITHMS = frozenset(
    {"base", "binning", "calibration_graph", "graph", "model", "parameters", "registry", "trees"}
)

ALGORITHM_NAMES: tuple[str, ...] = tuple(
    sorted(
        module.name
        for module in pkgutil.iter_modules(fraud_kedro.algorithms.__path__)
        if module.name not in _NOT_ALGORITHMS
    )
)

# Made of the others, and a candidate beside them.
ENSEMBLE = "ensemble"
CANDIDATE_NAMES: tuple[str, ...] = (*ALGORITHM_NAMES, ENSEMBLE)


def get_algorithm(name: str) -> Algorithm:
    """Import an algorithm.

    Parameters
    ----------
    name : str
        One of `ALGORITHM_NAMES`.

    Raises
    ------
    TrainingError
        If there is no such algorithm.
    """
    if name not in ALGORITHM_NAMES:
        raise TrainingError(
            f"Algorithm {name!r} is unknown. It should be one of: {', '.join(ALGORITHM_NAMES)}."
        )
    algorithm: Algorithm = import_module(f"fraud_kedro.algorithms.{name}").ALGORITHM
    return algorithm
