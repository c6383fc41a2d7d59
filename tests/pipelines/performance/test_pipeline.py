from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.runner import SequentialRunner

from fraud_kedro.cli import expected_message
from fraud_kedro.datasets.bundle import BundleDraft
from fraud_kedro.datasets.prediction_log import PredictionLogDataset
from fraud_kedro.datasets.stored_labels import StoredLabelsDataset
from fraud_kedro.errors import DataError
from fraud_kedro.locations import log_url
from fraud_kedro.monitoring.retraining import RetrainingRule
from fraud_kedro.monitoring.settled import LabelOptions
from fraud_kedro.pipelines.performance.pipeline import create_labels_pipeline, create_pipeline
from fraud_kedro.pipelines.training.options import TrainingOptions
from fraud_kedro.prediction_log import PredictionRecord, open_for_writing

NAME = "fraud_detection_logistic_regression_v1"


@pytest.fixture
def draft(make_bundle, tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    return BundleDraft(bundle.metadata, bundle.model, b"", "", bundle.registration)


@pytest.fixture(autouse=True)
def _no_other_log(monkeypatch):
    monkeypatch.delenv("FRAUD_LOG_URL", raising=False)


@pytest.fixture
def root(tmp_path):
    """With a log of 40 transactions of 50 days ago, every second one flagged."""
    writer = open_for_writing(log_url(tmp_path))
    arrived = datetime.now(UTC) - timedelta(days=50)
    writer.write(
        [
            PredictionRecord(
                f"t{n}", "champion", arrived, None, NAME, 0.6 if n % 2 else 0.1, n % 2,
                "review" if n % 2 else "approve", "expected_cost", "a" * 32, None,
                json.dumps({"Amount": 10.0}),
            )
            for n in range(40)
        ]
    )  # fmt: skip
    writer.close()
    return tmp_path


def labels_table(rows):
    return pl.LazyFrame(rows, schema=["transaction_id", "label", "labelled_at"], orient="row")


def import_labels(root, table):
    catalog = DataCatalog(
        {
            "late_labels": MemoryDataset(table),
            "stored_labels": StoredLabelsDataset(root=str(root)),
            "label_report": MemoryDataset(),
        }
    )
    SequentialRunner().run(create_labels_pipeline(), catalog)
    return catalog.load("label_report")


def measure(root, draft):
    catalog = DataCatalog(
        {
            "prediction_log": PredictionLogDataset(root=str(root)),
            "reigning_champion": MemoryDataset(draft),
            "params:labels": MemoryDataset(LabelOptions()),
            "params:retraining.rule": MemoryDataset(RetrainingRule()),
            "params:training": MemoryDataset(TrainingOptions(thresholds={"kind": "expected_cost"})),
            "performance": MemoryDataset(),
        }
    )
    pipeline = create_pipeline()
    SequentialRunner().run(pipeline.from_inputs("reigning_champion"), catalog)
    return catalog.load("performance")


def test_a_table_of_labels_settles_what_the_versions_did(root, draft):
    table = labels_table(
        [(f"t{n}", "1", "2026-01-01") for n in range(1, 24, 2)] + [("gone", "1", "2026-01-01")]
    )
    report = import_labels(root, table)
    assert report == {
        "transactions": 13, "frauds": 13, "corrected": 0, "unknown": 1, "unknown_ids": ["gone"],
    }  # fmt: skip
    performance = measure(root, draft)
    version = performance.of_version(NAME)
    assert (version.frauds, version.settled, performance.labels_without_prediction) == (12, 40, 1)
    assert version.figures.recall.value == 1.0
    assert version.figures.precision.value == pytest.approx(12 / 20)


def test_a_table_given_again_changes_nothing_and_a_correction_counts(root, caplog):
    first = labels_table([("t0", "1", "2026-01-01"), ("t1", "0", "2026-01-01")])
    import_labels(root, first)
    assert import_labels(root, first)["frauds"] == 1
    later = labels_table([("t0", "0", "2026-02-01"), ("t0", "1", "2026-01-15"), ("t1", "0", None)])
    report = import_labels(root, later)
    assert (report["frauds"], report["corrected"]) == (0, 1)
    history = StoredLabelsDataset(root=str(root)).load()
    assert history.filter(pl.col("transaction_id") == "t0").height == 3


def test_a_table_with_a_fault_is_taken_not_even_in_part(root):
    with pytest.raises(DataError, match="label should be 0 or 1"):
        import_labels(root, labels_table([("t0", "1", None), ("t1", "maybe", None)]))
    assert StoredLabelsDataset(root=str(root)).load().is_empty()


def test_labels_may_come_before_there_is_a_log(tmp_path):
    assert import_labels(tmp_path / "new", labels_table([("early", "1", None)]))["unknown"] == 1


def test_without_a_log_there_is_one_line(tmp_path, draft):
    with pytest.raises(DatasetError) as caught:
        measure(tmp_path / "absent", draft)
    assert expected_message(caught.value).startswith("No prediction log at ")
