"""A small simulated table and a candidate trained on it, made once by the real nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import mlflow
import polars as pl
import pytest

from fraud_kedro.algorithms.model import FraudModel
from fraud_kedro.champion.bundle import DataRecord, DataSource, Thresholds
from fraud_kedro.datasets.simulated_transactions import SimulatedTransactionsDataset
from fraud_kedro.pipelines.data_processing.duplicates import DuplicateOptions
from fraud_kedro.pipelines.data_processing.nodes import (
    prepare_transactions,
    record_data,
    split_transactions,
)
from fraud_kedro.pipelines.data_processing.splits import SplitOptions
from fraud_kedro.pipelines.training.judgement import evaluate
from fraud_kedro.pipelines.training.nodes import fit_on_train, refit, select_thresholds
from fraud_kedro.pipelines.training.options import Evaluation, TrainingOptions
from fraud_kedro.pipelines.tuning.options import BestParameters
from fraud_kedro.schema import ResolvedSchema, TransactionSchema
from fraud_kedro.validation.expectations import Expectations


@dataclass(frozen=True)
class Parts:
    """A table, split."""

    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame
    schema: ResolvedSchema
    record: DataRecord


@dataclass(frozen=True)
class Candidate:
    """What training makes of one algorithm."""

    best: BestParameters
    training: TrainingOptions
    selection_model: FraudModel
    validation_scores: pl.DataFrame
    thresholds: Thresholds
    evaluation_model: FraudModel
    model: FraudModel
    evaluation: Evaluation
    test_scores: pl.DataFrame
    bootstrap: pl.DataFrame


@pytest.fixture(scope="session")
def parts() -> Parts:
    source = SimulatedTransactionsDataset(rows=5000, fraud_rate=0.03, seed=3)
    schema = TransactionSchema.model_validate(
        {
            "time": {"column": "Time"},
            "amount": "Amount",
            "label": "Class",
            "features": ["Time", "V*", "Amount"],
        }
    )
    split = SplitOptions.model_validate({"kind": "temporal"})
    simulated = DataSource(kind="simulated", name="simulated", location="simulator")
    transactions, row_parts, resolved, counts = prepare_transactions(
        source.load(), schema, DuplicateOptions(), Expectations(), split, simulated, 0
    )
    made = (part.collect() for part in split_transactions(transactions, row_parts))
    return Parts(*made, resolved, record_data(transactions, row_parts, resolved, simulated, counts, split))


@pytest.fixture(scope="session")
def training_options() -> TrainingOptions:
    return TrainingOptions.model_validate(
        {
            "thresholds": {"kind": "expected_cost"},
            "bootstrap_repetitions": 20,
            "n_jobs": 1,
            "explanation": {"shap_rows": 40, "permutation_rows": 80},
        }
    )


@pytest.fixture(scope="session")
def best_parameters() -> BestParameters:
    return BestParameters(
        algorithm="logistic_regression",
        parameters={"C": 0.05, "class_weight": "none", "fit_weights": "sample"},
        objective="average_precision",
        value=0.5,
        fold_values=(0.4, 0.6),
        trials=2,
        seconds=1.0,
    )


@pytest.fixture(scope="session")
def candidate(parts: Parts, training_options: TrainingOptions, best_parameters: BestParameters) -> Candidate:
    training, best = training_options, best_parameters
    selection, scores = fit_on_train(parts.train, parts.validation, parts.schema, best, training, 0)
    thresholds = select_thresholds(scores, parts.schema, parts.record, training)
    twin, model = refit(parts.train, parts.validation, parts.test, selection, best, training, 0)
    judged = evaluate(twin, scores, parts.test, thresholds, parts.record, training, 0)
    return Candidate(best, training, selection, scores, thresholds, twin, model, *judged)


@pytest.fixture
def active_run(real_registry) -> Iterator[mlflow.ActiveRun]:
    """A run in a real store, which nodes find as they find kedro-mlflow's."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(real_registry.uri)
    try:
        with mlflow.start_run(experiment_id=real_registry.experiment) as run:
            yield run
    finally:
        mlflow.set_tracking_uri(before)
