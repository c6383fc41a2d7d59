"""How well models learn the frauds of a table: the same code on real and on simulated rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np
import polars as pl
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, get_algorithm
from fraud_kedro.schema import SECONDS_PER_DAY
from fraud_kedro.simulation.statistics import ulb_statistics

Score = Callable[[LabelledMatrix, NDArray[np.float32]], NDArray[np.float64]]
# AUC and average precision, both weighted.
Figures = tuple[float, float]

WEIGHT_COLUMN = "sample_weight"
_FOLDS = 5


def labelled_matrix(table: pl.DataFrame) -> LabelledMatrix:
    """Turn a table into features (time as second of the day), labels and weights.

    Rows weigh what the column ``sample_weight`` says; without it, so that each
    class stands for the distinct rows of the full real table.
    """
    statistics = ulb_statistics()
    time = pl.col(statistics.time_column) % SECONDS_PER_DAY
    labels = table[statistics.label_column].to_numpy().astype(np.int8)
    if WEIGHT_COLUMN in table.columns:
        weights = table[WEIGHT_COLUMN].to_numpy().astype(np.float64)
    else:
        frauds = statistics.distinct_frauds / labels.sum()
        legitimate = (statistics.distinct_rows - statistics.distinct_frauds) / (labels == 0).sum()
        weights = np.where(labels == 1, frauds, legitimate)
    features = table.select(time, *statistics.columns).to_numpy().astype(np.float32)
    return LabelledMatrix(features, labels, weights)


def models(seed: int, n_jobs: int) -> Mapping[str, Score]:
    """Collect what is compared: plain models of each library, and the project's at their defaults.

    The plain ones are fitted without weights, the project's with them.
    """
    plain = {
        "logistic regression, balanced": lambda: make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2_000)
        ),
        "random forest": lambda: RandomForestClassifier(
            200, min_samples_leaf=2, n_jobs=n_jobs, random_state=seed
        ),
        "LightGBM": lambda: LGBMClassifier(
            n_estimators=200,
            learning_rate=0.05,
            num_leaves=15,
            reg_lambda=1.0,
            subsample=0.8,
            subsample_freq=1,
            colsample_bytree=0.8,
            n_jobs=n_jobs,
            random_state=seed,
            verbose=-1,
        ),
        "XGBoost": lambda: XGBClassifier(
            n_estimators=200,
            learning_rate=0.05,
            max_depth=4,
            subsample=0.8,
            colsample_bytree=0.8,
            n_jobs=n_jobs,
            random_state=seed,
        ),
    }

    def of_library(make: Callable[[], object]) -> Score:
        def score(train: LabelledMatrix, features: NDArray[np.float32]) -> NDArray[np.float64]:
            # In float32 logistic regression stops short of its optimum.
            model = make().fit(train.features.astype(np.float64), train.labels)  # type: ignore[attr-defined]
            return np.asarray(model.predict_proba(features.astype(np.float64))[:, 1], dtype=np.float64)

        return score

    def of_project(name: str) -> Score:
        def score(train: LabelledMatrix, features: NDArray[np.float32]) -> NDArray[np.float64]:
            algorithm = get_algorithm(name)
            return algorithm.log_odds(algorithm.fit(train, {}, seed=seed, n_jobs=n_jobs), features)

        return score

    return {
        **{name: of_library(make) for name, make in plain.items()},
        **{f"`{name}`": of_project(name) for name in ALGORITHM_NAMES},
    }


def cross_validate(
    table: pl.DataFrame, names: Collection[str], *, repeats: int, seed: int, n_jobs: int
) -> dict[str, Figures]:
    """Cross-validate models on a table.

    Parameters
    ----------
    table : polars.DataFrame
        As `labelled_matrix` takes it.
    names : collection of str
        Which of `models`.
    repeats : int
        Repetitions of a stratified 5-fold cross-validation.

    Returns
    -------
    dict of str to (float, float)
        Weighted AUC and average precision by model, means over folds.
    """
    data = labelled_matrix(table)
    scores = {name: score for name, score in models(seed, n_jobs).items() if name in names}
    found: dict[str, list[Figures]] = {name: [] for name in scores}
    for train, test in _folds(data, repeats, seed):
        for name, score in scores.items():
            found[name].append(_figures(test, score(train, test.features)))
    return {name: tuple(np.mean(figures, axis=0).tolist()) for name, figures in found.items()}


def hold_out(table: pl.DataFrame, names: Collection[str], *, seed: int, n_jobs: int) -> dict[str, Figures]:
    """Score models on a random 20 % of a full table, each row counted once.

    Returns
    -------
    dict of str to (float, float)
        AUC and average precision by model.
    """
    data = labelled_matrix(table.with_columns(pl.lit(1.0).alias(WEIGHT_COLUMN)))
    rows = np.arange(len(data))
    train, test = train_test_split(rows, test_size=0.2, stratify=data.labels, random_state=seed)
    return {
        name: _figures(data.take(test), score(data.take(train), data.features[test]))
        for name, score in models(seed, n_jobs).items()
        if name in names
    }


def _folds(data: LabelledMatrix, repeats: int, seed: int) -> Iterator[tuple[LabelledMatrix, LabelledMatrix]]:
    splitter = RepeatedStratifiedKFold(n_splits=_FOLDS, n_repeats=repeats, random_state=seed)
    for train, test in splitter.split(data.features, data.labels):
        yield data.take(train), data.take(test)


def _figures(test: LabelledMatrix, scores: NDArray[np.float64]) -> Figures:
    return (
        float(roc_auc_score(test.labels, scores, sample_weight=test.weights)),
        float(average_precision_score(test.labels, scores, sample_weight=test.weights)),
    )
