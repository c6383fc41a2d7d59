"""Gradient-boosted trees of XGBoost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xgboost
from numpy.typing import NDArray
from scipy.special import logit

from fraud_kedro.algorithms.base import LabelledMatrix, Parameters
from fraud_kedro.algorithms.binning import BinnedRows
from fraud_kedro.algorithms.graph import GraphBuilder
from fraud_kedro.algorithms.parameters import (
    FIT_WEIGHTS,
    can_stop_early,
    complete,
    fit_weights,
    require_both_classes,
    useful_threads,
)
from fraud_kedro.algorithms.trees import Tree, TreeEnsemble

if TYPE_CHECKING:
    import optuna

MAX_BIN = 256


class _XGBoost:
    name = "xgboost"
    defaults: ClassVar[Parameters] = {
        "num_boost_round": 400,
        "patience": 100,
        "learning_rate": 0.07,
        "max_depth": 5,
        "min_child_weight": 0.6,
        "reg_lambda": 0.2,
        "gamma": 0.01,
        "colsample_bynode": 0.35,
        "subsample": 0.8,
        "fit_weights": "none",
    }

    def __init__(self) -> None:
        self._binned = BinnedRows(_bin_rows)

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        return {
            "num_boost_round": trial.suggest_int("num_boost_round", 300, 600, step=50),
            "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.15, log=True),
            "max_depth": trial.suggest_int("max_depth", 3, 8),
            "min_child_weight": trial.suggest_float("min_child_weight", 0.1, 0.8, log=True),
            "reg_lambda": trial.suggest_float("reg_lambda", 0.05, 1.0, log=True),
            "gamma": trial.suggest_float("gamma", 1e-3, 0.1, log=True),
            "colsample_bynode": trial.suggest_float("colsample_bynode", 0.3, 0.9),
            "subsample": trial.suggest_float("subsample", 0.7, 1.0),
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
    ) -> xgboost.Booster:
        settings = complete(self.name, self.defaults, parameters)
        require_both_classes(self.name, data)
        weights = fit_weights(data, settings["fit_weights"])
        train = self._binned.own(data)
        train.set_weight(weights)
        watched = []
        if can_stop_early(stopping):
            watched = [(self._binned.like(data, stopping), "stopping")]
        booster = xgboost.train(
            {
                "objective": "binary:logistic",
                "eval_metric": "aucpr",
                "tree_method": "hist",
                "max_bin": MAX_BIN,
                # A rare class that starts at its own rate has almost no hessian: its first leaves explode.
                "base_score": 0.5,
                "nthread": useful_threads(len(data), n_jobs),
                "seed": seed,
                "verbosity": 0,
                **{
                    k: v
                    for k, v in settings.items()
                    if k not in {"num_boost_round", "patience", "fit_weights"}
                },
            },
            train,
            num_boost_round=settings["num_boost_round"],
            evals=watched,
            early_stopping_rounds=settings["patience"] if watched else None,
            verbose_eval=False,
        )
        return booster[: booster.best_iteration + 1] if watched else booster

    def fixed_parameters(self, estimator: xgboost.Booster, parameters: Parameters) -> dict[str, Any]:
        rounds = estimator.num_boosted_rounds()
        return {**complete(self.name, self.defaults, parameters), "num_boost_round": rounds}

    def log_odds(self, estimator: xgboost.Booster, features: NDArray[np.float32]) -> NDArray[np.float64]:
        margin = estimator.inplace_predict(np.ascontiguousarray(features), predict_type="margin")
        return np.asarray(margin, dtype=np.float64)

    def trees(self, estimator: xgboost.Booster) -> TreeEnsemble:
        """Return the booster's trees, from its documented JSON."""
        learner = json.loads(estimator.save_raw(raw_format="json"))["learner"]
        (base_score,) = json.loads(learner["learner_model_param"]["base_score"])
        trees = learner["gradient_booster"]["model"]["trees"]
        return TreeEnsemble(
            [_tree(tree) for tree in trees], base=(float(logit(base_score)),), inclusive=False
        )

    def add_to_graph(self, estimator: xgboost.Booster, graph: GraphBuilder, features: str) -> str:
        return graph.trees(self.trees(estimator), features)


def _bin_rows(rows: LabelledMatrix, reference: xgboost.QuantileDMatrix | None) -> xgboost.QuantileDMatrix:
    matrix = xgboost.QuantileDMatrix(rows.features, label=rows.labels, max_bin=MAX_BIN, ref=reference)
    # Afterwards: weights would move the bins, and a fit without weights would still see them.
    matrix.set_weight(rows.weights)
    return matrix


def _tree(saved: dict[str, Any]) -> Tree:
    left = np.array(saved["left_children"], dtype=np.int64)
    leaf = left < 0
    # A leaf keeps its value where a split keeps its threshold.
    condition = np.array(saved["split_conditions"], dtype=np.float32)
    return Tree(
        feature=np.where(leaf, -1, np.array(saved["split_indices"], dtype=np.int64)),
        threshold=np.where(leaf, np.float32(0.0), condition),
        left=np.where(leaf, 0, left),
        right=np.where(leaf, 0, np.array(saved["right_children"], dtype=np.int64)),
        value=np.where(leaf, condition, 0.0).astype(np.float64).reshape(-1, 1),
    )


ALGORITHM = _XGBoost()
