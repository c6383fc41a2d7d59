"""Random forest of scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.ensemble import RandomForestClassifier

from fraud_kedro.algorithms.base import LabelledMatrix, Parameters
from fraud_kedro.algorithms.graph import GraphBuilder
from fraud_kedro.algorithms.parameters import FIT_WEIGHTS, complete, fit_weights, require_both_classes
from fraud_kedro.algorithms.trees import Tree, TreeEnsemble, floor_to_float32

if TYPE_CHECKING:
    import optuna

# Added to both classes' shares: trees that agree have finite log-odds, and no ranking is lost to a clip.
SMOOTHING = 1e-4


# An exact split sorts its rows: a forest of every row of a large table takes minutes, and each tree
# sees few of the rare frauds' neighbours either way.
LEGITIMATE_ROWS = 40_000
ROWS_PER_TREE = 15_000
# Enough to tell one point of the search space from another; the final fit has the trees of `defaults`.
SEARCH_TREES = 80


class _RandomForest:
    name = "random_forest"
    defaults: ClassVar[Parameters] = {
        "n_estimators": 200,
        "max_depth": 14,
        "min_samples_leaf": 1,
        "max_features": 0.4,
        "max_samples": 0.5,
        "class_weight": "balanced",
        "fit_weights": "none",
    }

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        return {
            "n_estimators": SEARCH_TREES,
            "max_depth": trial.suggest_int("max_depth", 8, 18),
            "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 5),
            "max_features": trial.suggest_float("max_features", 0.15, 0.6, log=True),
            "max_samples": trial.suggest_float("max_samples", 0.3, 0.8),
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
    ) -> RandomForestClassifier:
        settings = complete(self.name, self.defaults, parameters)
        require_both_classes(self.name, data)
        data = _with_fewer_legitimate(data, seed)
        forest = RandomForestClassifier(
            n_estimators=settings["n_estimators"],
            max_depth=settings["max_depth"],
            min_samples_leaf=settings["min_samples_leaf"],
            max_features=settings["max_features"],
            max_samples=min(settings["max_samples"], ROWS_PER_TREE / len(data)),
            class_weight=None if settings["class_weight"] == "none" else settings["class_weight"],
            random_state=seed,
            n_jobs=n_jobs,
        )
        forest.fit(data.features, data.labels, sample_weight=fit_weights(data, settings["fit_weights"]))
        # Threads add their trees' shares in the order in which they end: the last bits of a score would be
        # chance, and with them a trial's value.
        return forest.set_params(n_jobs=1)

    def fixed_parameters(self, estimator: RandomForestClassifier, parameters: Parameters) -> dict[str, Any]:
        settings = complete(self.name, self.defaults, parameters)
        return {**settings, "n_estimators": self.defaults["n_estimators"]}

    def log_odds(
        self, estimator: RandomForestClassifier, features: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        # The check for finite numbers adds them up, which overflows on the largest ones.
        with config_context(assume_finite=True):
            legitimate, fraud = np.asarray(estimator.predict_proba(features), dtype=np.float64).T
        return np.asarray(np.log((fraud + SMOOTHING) / (legitimate + SMOOTHING)), dtype=np.float64)

    def trees(self, estimator: RandomForestClassifier) -> TreeEnsemble:
        """Return the forest; its scores are the smoothed shares of legitimate rows and of frauds.

        Both, because in float32 nothing is left of a small share that was
        subtracted from one.
        """
        trees = []
        for member in estimator.estimators_:
            grown = member.tree_
            leaf = grown.children_left < 0
            trees.append(
                Tree(
                    feature=np.where(leaf, -1, grown.feature),
                    threshold=floor_to_float32(grown.threshold),
                    left=np.where(leaf, 0, grown.children_left),
                    right=np.where(leaf, 0, grown.children_right),
                    value=grown.value[:, 0, :] / len(estimator.estimators_),
                )
            )
        return TreeEnsemble(trees, base=(SMOOTHING, SMOOTHING), inclusive=True)

    def add_to_graph(self, estimator: RandomForestClassifier, graph: GraphBuilder, features: str) -> str:
        shares = graph.node("Log", [graph.trees(self.trees(estimator), features)])
        return graph.node("MatMul", [shares, graph.constant(np.array([[-1.0], [1.0]], dtype=np.float32))])


def _with_fewer_legitimate(data: LabelledMatrix, seed: int) -> LabelledMatrix:
    """All frauds and at most `LEGITIMATE_ROWS` others; calibration puts the rate right."""
    legitimate = np.flatnonzero(data.labels == 0)
    if len(legitimate) <= LEGITIMATE_ROWS:
        return data
    drawn = np.random.default_rng(seed).choice(legitimate, LEGITIMATE_ROWS, replace=False)
    return data.take(np.sort(np.concatenate([np.flatnonzero(data.labels == 1), drawn])))


ALGORITHM = _RandomForest()
