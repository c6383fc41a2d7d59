"""The model that every contender serves: 300 LightGBM trees on simulated transactions."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.model import FraudModel, to_onnx
from fraud_kedro.algorithms.registry import get_algorithm
from fraud_kedro.champion.bundle import (
    Bundle,
    BundleMetadata,
    DataRecord,
    DataSource,
    Histogram,
    Registration,
    SelfTest,
    Thresholds,
)
from fraud_kedro.champion.bundle_writer import write_bundle
from fraud_kedro.evaluation.calibration import PlattCalibration
from fraud_kedro.locations import champion_folder
from fraud_kedro.schema import ResolvedSchema
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.simulator import column_types, simulate

FITTED_ROWS = 100_000
REFERENCE_ROWS = 5_000
TREES = 300
SEED = 1
# Few transactions should differ from others in how they are answered.
_THRESHOLDS = Thresholds(flag=0.1, decline=0.6, policy="expected_cost")


@dataclass(frozen=True)
class ServedModel:
    """What is served, and rows to ask about.

    Attributes
    ----------
    model : FraudModel
        As the libraries know it.
    bundle : Bundle
    rows : ndarray of shape (n_transactions, n_features), float64
        Raw features.
    """

    model: FraudModel
    bundle: Bundle
    rows: NDArray[np.float64]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns of `rows`."""
        return self.bundle.metadata.schema_.features

    def transactions(self, number: int) -> list[dict[str, float]]:
        """The first rows by name."""
        return [dict(zip(self.features, row, strict=True)) for row in self.rows[:number].tolist()]


def make_model(root: Path, rows: int) -> ServedModel:
    """Fit the model and write its bundle below a root.

    Parameters
    ----------
    root : Path
    rows : int
        How many to draw for asking.
    """
    table = pl.concat(list(simulate(SimulationOptions(rows=FITTED_ROWS, seed=SEED))))
    features = tuple(name for name in column_types() if name != "Class")
    schema = ResolvedSchema(
        time="Time",
        time_use="hour_of_day",
        time_origin=datetime(2013, 9, 1, tzinfo=UTC),
        amount="Amount",
        label="Class",
        features=features,
    )
    raw = table.select(features).to_numpy().astype(np.float64)
    labels = table["Class"].to_numpy().astype(np.int8)
    data = LabelledMatrix(schema.model_matrix(raw), labels, np.ones(len(labels)))
    booster = get_algorithm("lightgbm").fit(data, {"num_boost_round": TREES}, seed=SEED, n_jobs=2)
    model = FraudModel("lightgbm", booster, PlattCalibration(slope=0.9, intercept=-0.1), schema)
    test = raw[:32]
    reference = io.BytesIO()
    known = slice(REFERENCE_ROWS)
    scores = model.probability(schema.model_matrix(raw[known]))
    table.select(features)[known].with_columns(probability=scores).write_parquet(reference)
    bundle = write_bundle(
        champion_folder(root),
        BundleMetadata(
            algorithm="lightgbm",
            created=datetime.now(UTC),
            schema=schema,
            thresholds=_THRESHOLDS,
            metrics={},
            data=DataRecord(
                source=DataSource(kind="simulated", name="card transactions", location=f"drawn, seed {SEED}"),
                fingerprint="0" * 64,
                test_fingerprint="0" * 64,
                rows=len(raw),
                frauds=int(labels.sum()),
                weighted_rows=len(raw),
                weighted_frauds=float(labels.sum()),
                time_from=float(raw[:, 0].min()),
                time_to=float(raw[:, 0].max()),
                test_time_from=float(raw[:, 0].max()),
                split="temporal",
                refit="train",
            ),
            score_histogram=Histogram(edges=(0, 0.5, 1), shares=(0.9, 0.1)),
            flag_rate=0.1,
            self_test=SelfTest(
                rows=tuple(map(tuple, test.tolist())),
                probabilities=tuple(model.probability(schema.model_matrix(test)).tolist()),
            ),
            background=tuple(map(tuple, data.features[:32].tolist())),
            parameters={"num_boost_round": TREES},
            versions={"onnx": version("onnx")},
            seed=SEED,
        ),
        model=to_onnx(model).SerializeToString(deterministic=True),
        reference=reference.getvalue(),
        card="# Model of benchmarks/serving.py\n",
        registration=Registration(version=1, run_id="benchmark"),
    )
    asked = pl.concat(list(simulate(SimulationOptions(rows=rows, seed=SEED + 1)))).select(features)
    return ServedModel(model, bundle, asked.to_numpy().astype(np.float64))
