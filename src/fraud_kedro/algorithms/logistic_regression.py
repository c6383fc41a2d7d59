"""Logistic regression on standardised features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fraud_kedro.algorithms.base import LabelledMatrix, Parameters
from fraud_kedro.algorithms.graph import GraphBuilder
from fraud_kedro.algorithms.parameters import complete, fit_weights, require_both_classes

if TYPE_CHECKING:
    import optuna

# Far outside any probability that is told apart, and finite for finite features.
LOG_ODDS_BOUND = 50.0


class _LogisticRegression:
    name = "logistic_regression"
    defaults: ClassVar[Parameters] = {"C": 0.1, "class_weight": "none", "fit_weights": "sample"}

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        return {
            "C": trial.suggest_float("C", 1e-4, 10.0, log=True),
            "class_weight": trial.suggest_categorical("class_weight", ["none", "balanced"]),
            "fit_weights": trial.suggest_categorical("fit_weights", ["sample", "none"]),
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
            classifier__sample_weight=weights,
        )

    def fixed_parameters(self, estimator: Pipeline, parameters: Parameters) -> dict[str, Any]:
        return complete(self.name, self.defaults, parameters)

    def log_odds(self, estimator: Pipeline, features: NDArray[np.float32]) -> NDArray[np.float64]:
        # The check for finite numbers adds them up, which overflows on the largest ones.
        with config_context(assume_finite=True):
            score = np.asarray(estimator.decision_function(features.astype(np.float64)), dtype=np.float64)
        return np.clip(score, -LOG_ODDS_BOUND, LOG_ODDS_BOUND)

    def trees(self, estimator: Pipeline) -> None:
        return None

    def add_to_graph(self, estimator: Pipeline, graph: GraphBuilder, features: str) -> str:
        scaler, classifier = estimator.named_steps["scaler"], estimator.named_steps["classifier"]
        slopes = classifier.coef_[0] / scaler.scale_
        intercept = classifier.intercept_[0] - slopes @ scaler.mean_
        exact = graph.node("Cast", [features], to=_DOUBLE)
        product = graph.node("MatMul", [exact, graph.constant(slopes.reshape(-1, 1))])
        score = graph.node("Add", [product, graph.constant(np.array([intercept]))])
        bounds = [graph.constant(np.array(bound)) for bound in (-LOG_ODDS_BOUND, LOG_ODDS_BOUND)]
        return graph.node("Cast", [graph.node("Clip", [score, *bounds])], to=_FLOAT)


_FLOAT, _DOUBLE = 1, 11  # onnx.TensorProto's numbers

ALGORITHM = _LogisticRegression()
