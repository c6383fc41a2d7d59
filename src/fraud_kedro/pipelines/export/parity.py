"""The parity gate: a graph leaves only if it scores as its native model does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from fraud_kedro.algorithms.graph import INPUT_NAME, OUTPUT_NAME
from fraud_kedro.algorithms.model import ScoringModel
from fraud_kedro.errors import ParityError
from fraud_kedro.pipelines.export.edge_rows import split_counts

_BATCH = 50_000
# onnxruntime takes another way through a tree ensemble for a single row than for a batch.
_SINGLE_ROWS = 32


class RowSetParity(BaseModel):
    """How far the two sides part on one set of rows.

    Attributes
    ----------
    rows : int
    max_difference : float
        Largest absolute difference in probability.
    differing_decisions : int
        Rows on another side of a threshold, compared as float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    max_difference: float
    differing_decisions: int


class ParityReport(BaseModel):
    """What was compared, and the outcome by set of rows.

    Attributes
    ----------
    tolerance : float
    splits, probed_splits : int
        Splits of the model's trees, and how many of them `edge_rows` probes.
    row_sets : dict of str to RowSetParity
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: str
    tolerance: float
    splits: int
    probed_splits: int
    row_sets: dict[str, RowSetParity]

    @property
    def max_difference(self) -> float:
        """Largest difference in probability over all sets."""
        return max((part.max_difference for part in self.row_sets.values()), default=0.0)


def check_parity(
    model: ScoringModel,
    graph: bytes,
    rows: Mapping[str, NDArray[np.float32]],
    thresholds: Sequence[float],
    tolerance: float = 1e-5,
) -> ParityReport:
    """Compare the graph with the native model on every row.

    The first rows of each set are also scored one by one.

    Parameters
    ----------
    model : ScoringModel
    graph : bytes
        The serialised graph as it will be shipped.
    rows : mapping of str to ndarray of shape (n_rows, n_features), float32
        Named sets of rows; both sides get the same ones.
    thresholds : sequence of float
        Probabilities that separate decisions.
    tolerance : float
        Largest absolute difference in probability that passes.

    Returns
    -------
    ParityReport

    Raises
    ------
    ParityError
        If a difference exceeds `tolerance`, one side alone gives NaN, or a row
        gets another decision.
    """
    session = _session(graph)
    row_sets = {}
    for name, matrix in rows.items():
        native = _in_batches(model, matrix)
        scored = _graph_scores(session, matrix)
        difference = np.abs(native - scored.astype(np.float64))
        # Both must give NaN for the same rows: against a number it is further off than any other.
        difference[np.isnan(native) & np.isnan(scored)] = 0.0
        difference[np.isnan(difference)] = np.inf
        differing = _decisions(native, thresholds) != _decisions(scored, thresholds)
        parting = _Parting(model, name, matrix, native, scored, tolerance)
        if len(matrix) and difference.max() > tolerance:
            raise parting.error(int(difference.argmax()), f"more than the {tolerance:g} allowed")
        if differing.any():
            row = int(differing.argmax())
            nearest = min(thresholds, key=lambda threshold: abs(threshold - native[row]))
            raise parting.error(row, f"on two sides of the decision threshold {nearest:.9g}")
        row_sets[name] = RowSetParity(
            rows=len(matrix),
            max_difference=float(difference.max(initial=0.0)),
            differing_decisions=int(differing.sum()),
        )
    splits, probed = split_counts(model)
    return ParityReport(
        algorithm=model.algorithm,
        tolerance=tolerance,
        splits=splits,
        probed_splits=probed,
        row_sets=row_sets,
    )


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _in_batches(model: ScoringModel, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    parts = [model.probability(matrix[start : start + _BATCH]) for start in range(0, len(matrix), _BATCH)]
    return np.concatenate([np.empty(0), *parts])


def _graph_scores(session: onnxruntime.InferenceSession, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    def score(part: NDArray[np.float32]) -> NDArray[np.float32]:
        (probability,) = session.run([OUTPUT_NAME], {INPUT_NAME: np.ascontiguousarray(part)})
        return np.asarray(probability, dtype=np.float32)

    single = [score(matrix[[row]]) for row in range(min(_SINGLE_ROWS, len(matrix)))]
    rest = [score(matrix[start : start + _BATCH]) for start in range(len(single), len(matrix), _BATCH)]
    return np.concatenate([np.empty(0, dtype=np.float32), *single, *rest])


def _decisions(probability: NDArray[np.floating], thresholds: Sequence[float]) -> NDArray[np.intp]:
    """Count the thresholds each row reaches, compared as float32 as the service does."""
    reached = probability.astype(np.float32)[:, None] >= np.array(thresholds, dtype=np.float32)
    return np.asarray(reached.sum(axis=1))


@dataclass(frozen=True)
class _Parting:
    model: ScoringModel
    row_set: str
    matrix: NDArray[np.float32]
    native: NDArray[np.float64]
    scored: NDArray[np.float32]
    tolerance: float

    def error(self, row: int, what: str) -> ParityError:
        names = self.model.schema.features
        values = ", ".join(
            f"{name}={value:.9g}" for name, value in zip(names, self.matrix[row].tolist(), strict=True)
        )
        return ParityError(
            f"{self.model.algorithm}: on row {row} of the {self.row_set} rows the native model gives "
            f"{self.native[row]:.9g} and the graph {self.scored[row]:.9g}, {what}{self._nearest_split(row)}. "
            f"Nothing was exported. The row: {values}."
        )

    def _nearest_split(self, row: int) -> str:
        candidates = []
        split_points = [
            points for trees in self.model.tree_ensembles() for points in trees.split_points().items()
        ]
        for feature, points in split_points:
            value = self.matrix[row, feature]
            distance = np.abs(points.astype(np.float64) - float(value))
            at = int(distance.argmin())
            candidates.append((distance[at] / max(1e-30, abs(float(value))), feature, float(points[at])))
        if not candidates:
            return ""
        _, feature, point = min(candidates)
        return f"; the nearest split is {self.model.schema.features[feature]} at {point:.9g}"
