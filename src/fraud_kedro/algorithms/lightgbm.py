"""Gradient-boosted trees of LightGBM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import lightgbm
import numpy as np
from numpy.typing import NDArray

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
from fraud_kedro.algorithms.trees import Tree, TreeEnsemble, floor_to_float32
from fraud_kedro.errors import TrainingError

if TYPE_CHECKING:
    import optuna

MAX_BIN = 255
# LightGBM reads every value this close to zero as zero before it compares (kZeroThreshold in its meta.h).
ZERO_RADIUS = np.float32(1e-35)


class _LightGBM:
    name = "lightgbm"
    defaults: ClassVar[Parameters] = {
        "num_boost_round": 400,
        "patience": 100,
        "learning_rate": 0.05,
        "num_leaves": 12,
        "min_data_in_leaf": 20,
        "min_sum_hessian_in_leaf": 0.3,
        "lambda_l2": 0.3,
        "feature_fraction": 0.6,
        "bagging_fraction": 0.8,
        "fit_weights": "none",
    }

    def __init__(self) -> None:
        self._binned = BinnedRows(_bin_rows)

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        return {
            "num_boost_round": trial.suggest_int("num_boost_round", 300, 600, step=50),
            "learning_rate": trial.suggest_float("learning_rate", 0.04, 0.08, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 6, 36, log=True),
            "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 40, log=True),
            "min_sum_hessian_in_leaf": trial.suggest_float("min_sum_hessian_in_leaf", 0.01, 0.6, log=True),
            "lambda_l2": trial.suggest_float("lambda_l2", 0.05, 1.0, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.5, 1.0),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.65, 1.0),
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
    ) -> lightgbm.Booster:
        settings = complete(self.name, self.defaults, parameters)
        require_both_classes(self.name, data)
        train = self._binned.own(data)
        # `set_weight` leaves a binned data set's earlier weights in place when the new ones are all one.
        train.set_field("weight", fit_weights(data, settings["fit_weights"]).astype(np.float32))
        callbacks: list[Any] = []
        valid: list[lightgbm.Dataset] = []
        if can_stop_early(stopping):
            valid = [self._binned.like(data, stopping)]
            callbacks = [lightgbm.early_stopping(settings["patience"], verbose=False)]
        library = {
            "objective": "binary",
            # A rare class that starts at its own rate has almost no hessian: its first leaves explode.
            "boost_from_average": False,
            "metric": "average_precision",
            "bagging_freq": 1,
            "num_threads": useful_threads(len(data), n_jobs),
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "feature_pre_filter": False,
            "max_bin": MAX_BIN,
            "verbosity": -1,
            **{k: v for k, v in settings.items() if k not in {"num_boost_round", "patience", "fit_weights"}},
        }
        try:
            return lightgbm.train(
                library,
                train,
                num_boost_round=settings["num_boost_round"],
                valid_sets=valid,
                callbacks=callbacks,
            )
        except lightgbm.basic.LightGBMError as error:
            raise TrainingError(f"LightGBM refuses these parameters: {error}") from error

    def fixed_parameters(self, estimator: lightgbm.Booster, parameters: Parameters) -> dict[str, Any]:
        return {**complete(self.name, self.defaults, parameters), "num_boost_round": _rounds(estimator)}

    def log_odds(self, estimator: lightgbm.Booster, features: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(
            estimator.predict(features, raw_score=True, num_iteration=_rounds(estimator)), dtype=np.float64
        )

    def trees(self, estimator: lightgbm.Booster) -> TreeEnsemble:
        """Return the booster's trees; the first one holds the starting score."""
        dump = estimator.dump_model(num_iteration=_rounds(estimator))
        return TreeEnsemble(
            [_tree(t["tree_structure"]) for t in dump["tree_info"]], base=(0.0,), inclusive=True
        )

    def add_to_graph(self, estimator: lightgbm.Booster, graph: GraphBuilder, features: str) -> str:
        return graph.trees(self.trees(estimator), features)


def _bin_rows(rows: LabelledMatrix, reference: lightgbm.Dataset | None) -> lightgbm.Dataset:
    return lightgbm.Dataset(
        rows.features,
        label=rows.labels,
        weight=rows.weights,
        reference=reference,
        params={"max_bin": MAX_BIN, "feature_pre_filter": False, "verbosity": -1},
        free_raw_data=False,
    ).construct()


def _rounds(estimator: lightgbm.Booster) -> int:
    return estimator.best_iteration if estimator.best_iteration > 0 else estimator.current_iteration()


def _tree(root: dict[str, Any]) -> Tree:
    nodes = [root]
    feature, threshold, left, right, value = [], [], [], [], []
    for node in nodes:  # grows while it is walked: breadth first
        if "split_feature" not in node:
            feature.append(-1)
            threshold.append(0.0)
            left.append(0)
            right.append(0)
            value.append(node["leaf_value"])
            continue
        if node["decision_type"] != "<=" or node["missing_type"] not in {"None", "NaN"}:
            raise TrainingError(
                f"A LightGBM split with decision {node['decision_type']!r} and missing values "
                f"{node['missing_type']!r} has no ONNX twin. Train without categories and zero_as_missing."
            )
        feature.append(node["split_feature"])
        threshold.append(node["threshold"])
        left.append(len(nodes))
        right.append(len(nodes) + 1)
        value.append(0.0)
        nodes += [node["left_child"], node["right_child"]]
    return Tree(
        feature=np.array(feature, dtype=np.int64),
        threshold=_around_zero(floor_to_float32(np.array(threshold, dtype=np.float64))),
        left=np.array(left, dtype=np.int64),
        right=np.array(right, dtype=np.int64),
        value=np.array(value, dtype=np.float64).reshape(-1, 1),
    )


def _around_zero(threshold: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move thresholds inside the radius to its ends, so that all of it falls on zero's side."""
    below_zero = (threshold >= -ZERO_RADIUS) & (threshold < 0)
    above_zero = (threshold >= 0) & (threshold < ZERO_RADIUS)
    below = np.nextafter(-ZERO_RADIUS, np.float32(-np.inf))
    return np.where(below_zero, below, np.where(above_zero, ZERO_RADIUS, threshold))


ALGORITHM = _LightGBM()
