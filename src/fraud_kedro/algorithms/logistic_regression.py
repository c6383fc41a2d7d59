"""Logistic regression on standardised, log-compressed features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from fraud_kedro.algorithms.base import LabelledMatrix, Parameters
from fraud_kedro.algorithms.graph import GraphBuilder
from fraud_kedro.algorithms.parameters import FIT_WEIGHTS, complete, fit_weights, require_both_classes

if TYPE_CHECKING:
    import optuna


def compress(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the logarithm on both sides of zero: ``sign(x) log(1 + |x|)``.

    The standard scores of card transactions have tails of dozens of standard
    deviations, which no straight line fits. No input overflows after it.

    Parameters
    ----------
    scores : ndarray, float64

    Returns
    -------
    ndarray of the same shape, float64
    """
    return np.asarray(np.sign(scores) * np.log1p(np.abs(scores)), dtype=np.float64)


class _LogisticRegression:
    name = "logistic_regression"
    defaults: ClassVar[Parameters] = {"C": 0.1, "class_weight": "none", "fit_weights": "none"}

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        return {
            "C": trial.suggest_float("C", 0.01, 3.0, log=True),
            "class_weight": trial.suggest_categorical("class_weight", ["none", "balanced"]),
            "fit_weights": trial.suggest_categorical("fit_weights", FIT_WEIGHTS),
        }

    def fit(
        self,
        data: LabelledMatrix,
        parameters: Parameters,
        *,
        seed: int,
        n_jobs: int,
        stopping: LabelledMatrix | None = None,
    ) -> Pipeline:
        settings = complete(self.name, self.defaults, parameters)
        require_both_classes(self.name, data)
        weights = fit_weights(data, settings["fit_weights"])
        pipeline = Pipeline(
            [
                ("scaler", StandardScaler()),
                ("compress", FunctionTransformer(compress)),
                ("compressed_scaler", StandardScaler()),
                (
                    "classifier",
                    LogisticRegression(
                        C=settings["C"],
                        class_weight=None if settings["class_weight"] == "none" else settings["class_weight"],
                        solver="newton-cholesky",
                        max_iter=200,
                    ),
                ),
            ]
        )
        return pipeline.fit(
            data.features.astype(np.float64),
            data.labels,
            scaler__sample_weight=weights,
            compressed_scaler__sample_weight=weights,
            classifier__sample_weight=weights,
        )

    def fixed_parameters(self, estimator: Pipeline, parameters: Parameters) -> dict[str, Any]:
        return complete(self.name, self.defaults, parameters)

    def log_odds(self, estimator: Pipeline, features: NDArray[np.float32]) -> NDArray[np.float64]:
        # The check for finite numbers adds them up, which overflows on the largest ones.
        with config_context(assume_finite=True):
            return np.asarray(estimator.decision_function(features.astype(np.float64)), dtype=np.float64)

    def trees(self, estimator: Pipeline) -> None:
        return None

    def add_to_graph(self, estimator: Pipeline, graph: GraphBuilder, features: str) -> str:
        steps = estimator.named_steps
        scaler, compressed, classifier = steps["scaler"], steps["compressed_scaler"], steps["classifier"]
        slopes = classifier.coef_[0] / compressed.scale_
        intercept = classifier.intercept_[0] - slopes @ compressed.mean_
        # In float64 throughout: a float32 scaler overflows on the largest inputs.
        exact = graph.node("Cast", [features], to=_DOUBLE)
        centred = graph.node("Sub", [exact, graph.constant(scaler.mean_)])
        standard = graph.node("Div", [centred, graph.constant(scaler.scale_)])
        grown = graph.node("Add", [graph.node("Abs", [standard]), graph.constant(np.ones(1))])
        terms = graph.node("Mul", [graph.node("Sign", [standard]), graph.node("Log", [grown])])
        product = graph.node("MatMul", [terms, graph.constant(slopes.reshape(-1, 1))])
        score = graph.node("Add", [product, graph.constant(np.array([intercept]))])
        return graph.node("Cast", [score], to=_FLOAT)


_FLOAT, _DOUBLE = 1, 11  # onnx.TensorProto's numbers

ALGORITHM = _LogisticRegression()
