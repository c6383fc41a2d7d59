"""How well the candidates rank, by repeated cross-validation, beside plain models.

``python benchmarks/quality.py [--table PATH] [--folds N] [--repeats N] [--json PATH]``

Every row is scored by models that have not seen it, once in each repeat; all
figures are weighted where the table has `sample_weight`. The candidates have the
parameters that each study tries first; the ensemble is the mean of their log-odds.
Plain models are what one writes first: library defaults, 300 trees, no weights.

With few frauds two kinds of luck are to be told apart. `over repeats` is the
standard error from fits and folds: it falls with more repeats. `over rows` is the
95 % interval from drawing the rows anew: it stays, and says how far the figure can
be trusted for other rows of the same kind. Last, average precision is given
without the few legitimate rows whose absence raises it most: where the table is a
sample, one such row stands for dozens, and decides the figure alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import xgboost
import yaml
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, get_algorithm
from fraud_kedro.evaluation.bootstrap import bootstrap, interval
from fraud_kedro.evaluation.measures import measure, ranking
from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.pipelines.model_input import labelled_matrix
from fraud_kedro.schema import TransactionSchema
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.simulator import simulate

SIMULATED_ROWS = 20_000
HEAVY_ROWS = 3
_SEED = 1
_PARAMETERS = Path(__file__).parents[1] / "conf" / "base" / "parameters_data_processing.yml"
_FIGURES = {
    "average_precision": "average precision",
    "roc_auc": "AUC",
    "recall_at_1_percent_fpr": "recall at 1 % FPR",
    "recall_at_0.1_percent_fpr": "at 0.1 %",
}
Score = Callable[[LabelledMatrix, NDArray[np.float32], int], NDArray[np.float64]]


def candidate(name: str) -> Score:
    """One of the project's algorithms with its default parameters."""
    algorithm = get_algorithm(name)

    def score(fit: LabelledMatrix, features: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
        estimator = algorithm.fit(fit, algorithm.defaults, seed=seed, n_jobs=1)
        return algorithm.log_odds(estimator, features)

    return score


def plain(make: Callable[[int], Any]) -> Score:
    """A classifier as it comes."""

    def score(fit: LabelledMatrix, features: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
        classifier = make(seed).fit(fit.features, fit.labels)
        return np.asarray(classifier.predict_proba(features)[:, 1], dtype=np.float64)

    return score


PLAIN: Mapping[str, Score] = {
    "plain logistic regression": plain(
        lambda _: make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
    ),
    "plain random forest": plain(lambda seed: RandomForestClassifier(300, random_state=seed)),
    "plain lightgbm": plain(
        lambda seed: lightgbm.LGBMClassifier(n_estimators=300, random_state=seed, n_jobs=1, verbosity=-1)
    ),
    "plain xgboost": plain(lambda seed: xgboost.XGBClassifier(n_estimators=300, random_state=seed, n_jobs=1)),
}


def read(table: Path | None) -> LabelledMatrix:
    """The table's rows without duplicates, or simulated ones."""
    frame = (
        pl.concat(simulate(SimulationOptions(rows=SIMULATED_ROWS, fraud_rate=0.02, seed=_SEED)))
        if table is None
        else pl.read_csv(table)
        if table.suffix == ".csv"
        else pl.read_parquet(table)
    )
    parameters = yaml.safe_load(_PARAMETERS.read_text(encoding="utf-8"))
    schema = TransactionSchema.model_validate(parameters["schema"]).resolve(frame.columns)
    return labelled_matrix(frame.unique(maintain_order=True), schema)


def out_of_fold(
    scores: Mapping[str, Score], data: LabelledMatrix, folds: int, repeats: int
) -> dict[str, NDArray[np.float64]]:
    """Score every row by models that have not seen it.

    Returns
    -------
    dict of str to ndarray of shape (repeats, n_transactions)
    """
    found = {name: np.zeros((repeats, len(data))) for name in scores}
    for repeat in range(repeats):
        splits = StratifiedKFold(folds, shuffle=True, random_state=_SEED + repeat)
        for fold, (fit, judge) in enumerate(splits.split(data.features, data.labels)):
            seen = data.take(fit)
            for name, score in scores.items():
                found[name][repeat, judge] = score(seen, data.features[judge], _SEED + repeat * folds + fold)
            _tell(f"repeat {repeat + 1}/{repeats}, fold {fold + 1}/{folds}")
    return found


def judge(scores: NDArray[np.float64], data: LabelledMatrix) -> dict[str, dict[str, float]]:
    """Each figure's mean over the repeats, its standard error over them, and its interval over rows.

    Parameters
    ----------
    scores : ndarray of shape (repeats, n_transactions)
    """
    rows = [ScoredRows(data.labels, each, data.weights) for each in scores]
    values = {name: [measure(each, [ranking(each)])[name] for each in rows] for name in _FIGURES}
    drawn = bootstrap(rows[0], [ranking(rows[0])], repetitions=1000, seed=_SEED)
    judged = {}
    for name, each in values.items():
        low, high = interval(drawn[name]) or (np.nan, np.nan)
        judged[name] = {
            "mean": float(np.mean(each)),
            "over_repeats": float(np.std(each) / np.sqrt(len(each))),
            "low": low,
            "high": high,
        }
    without = [_without_heavy(each) for each in rows]
    judged["average_precision_without_heavy_rows"] = {"mean": float(np.mean(without))}
    return judged


def _without_heavy(rows: ScoredRows) -> float:
    """Average precision without the highest-scored legitimate rows."""
    legitimate = np.flatnonzero(rows.labels == 0)
    heavy = legitimate[np.argsort(-rows.scores[legitimate])[:HEAVY_ROWS]]
    left = rows.take(np.setdiff1d(np.arange(len(rows.labels)), heavy))
    return measure(left, [ranking(left)])["average_precision"]


def markdown(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Write the results as a table."""
    titles = [*_FIGURES.values(), f"average precision without {HEAVY_ROWS} rows"]
    lines = ["| model | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for model, judged in results.items():
        cells = [
            f"{judged[name]['mean']:.3f} ± {judged[name]['over_repeats']:.3f} "
            f"({judged[name]['low']:.3f} to {judged[name]['high']:.3f})"
            for name in _FIGURES
        ]
        cells.append(f"{judged['average_precision_without_heavy_rows']['mean']:.3f}")
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr)


def main() -> None:
    """Cross-validate every candidate and every plain model, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--table", type=Path, help="CSV or Parquet with Time, V*, Amount, Class; else simulated"
    )
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for every figure")
    chosen = parser.parse_args()
    data = read(chosen.table)
    frauds = int(data.labels.sum())
    _tell(f"{len(data):,} rows, {frauds} frauds, standing for {data.weights.sum():,.0f} transactions")
    candidates = {name: candidate(name) for name in ALGORITHM_NAMES}
    scores = out_of_fold({**PLAIN, **candidates}, data, chosen.folds, chosen.repeats)
    scores["ensemble"] = np.mean([scores[name] for name in candidates], axis=0)
    results = {name: judge(each, data) for name, each in scores.items()}
    print(markdown(results))
    if chosen.json:
        report = {"rows": len(data), "frauds": frauds, "folds": chosen.folds, "repeats": chosen.repeats}
        chosen.json.write_text(json.dumps({**report, "results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
