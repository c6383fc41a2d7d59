"""A trained model: estimator, calibration and roles of columns, natively and as ONNX."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.special import expit
from typing_extensions import override

from fraud_kedro.algorithms.calibration_graph import add_calibration
from fraud_kedro.algorithms.graph import INPUT_NAME, GraphBuilder
from fraud_kedro.algorithms.registry import ENSEMBLE, get_algorithm
from fraud_kedro.algorithms.trees import TreeEnsemble
from fraud_kedro.evaluation.calibration import Calibration
from fraud_kedro.schema import SECONDS_PER_DAY, ResolvedSchema

# The wider, the later.
REFITS = ("train", "train_validation", "all")

# Probabilities stay inside, so that their log-odds are finite in float32 too.
PROBABILITY_FLOOR = float(np.float32(1e-9))
PROBABILITY_CEILING = 1.0 - 2.0**-23


class ScoringModel(ABC):
    """What training hands to evaluation and export.

    Attributes
    ----------
    algorithm : str
        A name that `get_algorithm` knows, or ``ensemble``.
    schema : ResolvedSchema
        Feature order and the use of time.
    parameters : mapping
        What it was fitted with.
    refit : {"train", "train_validation", "all"}
        The rows of the recipe's final fit.
    """

    algorithm: str
    schema: ResolvedSchema
    parameters: Mapping[str, Any]
    refit: str

    @abstractmethod
    def log_odds(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated log-odds of fraud.

        Parameters
        ----------
        features : ndarray of shape (n_transactions, n_features), float32
            Finite. Time may be raw or as `ResolvedSchema.model_matrix` leaves it.

        Returns
        -------
        ndarray of shape (n_transactions,), float64
        """

    @abstractmethod
    def tree_ensembles(self) -> list[TreeEnsemble]:
        """All its trees, as its graph has them."""

    @abstractmethod
    def add_to_graph(self, graph: GraphBuilder, features: str) -> str:
        """Add it to a graph that has reduced time.

        Parameters
        ----------
        features : str
            Name of the float32 tensor of shape (n, n_features) to read.

        Returns
        -------
        str
            Name of a float32 tensor of shape (n, 1) with the calibrated log-odds.
        """

    def probability(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probability of fraud, from `PROBABILITY_FLOOR` to `PROBABILITY_CEILING`.

        Parameters
        ----------
        features : ndarray of shape (n_transactions, n_features), float32
            As for `log_odds`, but for this: a row with a value that is not finite is NaN.

        Returns
        -------
        ndarray of shape (n_transactions,), float64
        """
        finite = np.isfinite(features).all(axis=1)
        if finite.all():
            return bounded_probability(self.log_odds(features))
        # Each library has its own idea of a missing value; none of them was trained with one.
        probability = np.full(len(features), np.nan)
        if finite.any():
            probability[finite] = bounded_probability(self.log_odds(features[finite]))
        return probability


@dataclass(frozen=True)
class FraudModel(ScoringModel):
    """One algorithm's estimator, calibrated.

    Attributes
    ----------
    estimator : object
        What that algorithm's `fit` returned.
    calibration : Calibration
        Fitted on rows the estimator has not seen.
    """

    algorithm: str
    estimator: Any
    calibration: Calibration
    schema: ResolvedSchema
    parameters: Mapping[str, Any] = field(default_factory=dict)
    refit: str = "train"

    @override
    def log_odds(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        return self.calibration.apply(self.margin(features))

    def margin(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Uncalibrated log-odds; arguments and result as for `log_odds`."""
        reduced = reduce_time(features, self.schema)
        return get_algorithm(self.algorithm).log_odds(self.estimator, reduced)

    @override
    def tree_ensembles(self) -> list[TreeEnsemble]:
        trees = get_algorithm(self.algorithm).trees(self.estimator)
        return [] if trees is None else [trees]

    @override
    def add_to_graph(self, graph: GraphBuilder, features: str) -> str:
        raw = get_algorithm(self.algorithm).add_to_graph(self.estimator, graph, features)
        return add_calibration(graph, raw, self.calibration)


@dataclass(frozen=True)
class EnsembleModel(ScoringModel):
    """The mean of the members' calibrated log-odds, calibrated again.

    Attributes
    ----------
    members : tuple of FraudModel
        At least one, all of one schema.
    calibration : Calibration
        Of the mean: it is less sure than its members are.
    """

    members: tuple[FraudModel, ...]
    calibration: Calibration
    algorithm: str = ENSEMBLE

    @property
    def schema(self) -> ResolvedSchema:  # type: ignore[override]
        """The members' schema."""
        return self.members[0].schema

    @property
    def parameters(self) -> Mapping[str, Any]:  # type: ignore[override]
        """Each member's parameters, by its algorithm."""
        return {member.algorithm: dict(member.parameters) for member in self.members}

    @property
    def refit(self) -> str:  # type: ignore[override]
        """The members' widest: what one of them has seen, the mean has seen."""
        return max((member.refit for member in self.members), key=REFITS.index)

    @override
    def log_odds(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        mean = np.mean([member.log_odds(features) for member in self.members], axis=0)
        return self.calibration.apply(np.asarray(mean, dtype=np.float64))

    @override
    def tree_ensembles(self) -> list[TreeEnsemble]:
        return [trees for member in self.members for trees in member.tree_ensembles()]

    @override
    def add_to_graph(self, graph: GraphBuilder, features: str) -> str:
        scores = [member.add_to_graph(graph, features) for member in self.members]
        mean = graph.node("Mean", scores) if len(scores) > 1 else scores[0]
        return add_calibration(graph, mean, self.calibration)


def bounded_probability(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities, kept within `PROBABILITY_FLOOR` and `PROBABILITY_CEILING`."""
    return np.asarray(np.clip(expit(log_odds), PROBABILITY_FLOOR, PROBABILITY_CEILING), dtype=np.float64)


def reduce_time(features: NDArray[np.float32], schema: ResolvedSchema) -> NDArray[np.float32]:
    """Reduce the time column in float32, as the graph does it.

    Rows that `ResolvedSchema.model_matrix` made pass unchanged.

    Parameters
    ----------
    features : ndarray of shape (n_transactions, n_features), float32

    Returns
    -------
    ndarray of the same shape, float32
        A copy where the column changes.
    """
    index = schema.time_index
    if index is None or schema.time_use == "raw":
        return features
    reduced = features.copy()
    if schema.time_use == "none":
        reduced[:, index] = 0.0
        return reduced
    day = np.float32(SECONDS_PER_DAY)
    seconds = np.fmod(features[:, index], day)
    # A negative time just below midnight rounds up to the next one: hence the second remainder.
    reduced[:, index] = np.fmod(np.where(seconds < 0, seconds + day, seconds), day)
    return reduced


def to_onnx(model: ScoringModel) -> onnx.ModelProto:
    """Convert a model to one graph: raw features in, calibrated probability out.

    The input ``features`` is float32 of shape (n, n_features), the output
    ``probability`` float32 of shape (n,), clipped as `ScoringModel.probability`
    is, and as there NaN for a row with a value that is not finite.

    Parameters
    ----------
    model : ScoringModel

    Returns
    -------
    onnx.ModelProto
        Checked; the same model always gives the same bytes from
        ``SerializeToString(deterministic=True)``.
    """
    schema = model.schema
    graph = GraphBuilder(len(schema.features))
    features = _add_time(graph, schema)
    probability = _add_probability(graph, model.add_to_graph(graph, features))
    probability = _add_not_finite(graph, probability)
    return graph.finish(
        probability,
        {
            "algorithm": model.algorithm,
            "features": json.dumps(schema.features),
            "schema_hash": schema.hash,
            "time_use": schema.time_use,
        },
    )


def _add_time(graph: GraphBuilder, schema: ResolvedSchema) -> str:
    index = schema.time_index
    if index is None or schema.time_use == "raw":
        return INPUT_NAME
    # The column alone: a remainder over the whole matrix costs fifteen times as much.
    widths = np.array([index, 1, len(schema.features) - index - 1], dtype=np.int64)
    widths = widths[widths > 0]
    parts = list(graph.node_of("Split", [INPUT_NAME], len(widths), axis=1, split=widths.tolist()))
    position = 1 if index > 0 else 0
    parts[position] = (_zero_time if schema.time_use == "none" else _second_of_day)(graph, parts[position])
    return graph.node("Concat", parts, axis=1)


def _zero_time(graph: GraphBuilder, time: str) -> str:
    return graph.node("Sub", [time, time])


def _second_of_day(graph: GraphBuilder, time: str) -> str:
    day = graph.constant(np.array([SECONDS_PER_DAY], dtype=np.float32))
    zero = graph.constant(np.zeros(1, dtype=np.float32))
    seconds = graph.node("Mod", [time, day], fmod=1)
    negative = graph.node("Less", [seconds, zero])
    shifted = graph.node("Add", [seconds, day])
    return graph.node("Mod", [graph.node("Where", [negative, shifted, seconds]), day], fmod=1)


def _add_probability(graph: GraphBuilder, log_odds: str) -> str:
    """``1 / (1 + exp(-z))``: onnxruntime's own Sigmoid ties everything below 1e-7."""
    negated = graph.node("Neg", [log_odds])
    one = graph.constant(np.ones(1, dtype=np.float32))
    probability = graph.node("Reciprocal", [graph.node("Add", [graph.node("Exp", [negated]), one])])
    return graph.node("Clip", [probability], min=PROBABILITY_FLOOR, max=PROBABILITY_CEILING)


def _add_not_finite(graph: GraphBuilder, probability: str) -> str:
    """Add zero times every feature: nothing, or NaN where one is not finite."""
    zeros = graph.constant(np.zeros((graph.n_features, 1), dtype=np.float32))
    return graph.node("Add", [probability, graph.node("MatMul", [INPUT_NAME, zeros])])
