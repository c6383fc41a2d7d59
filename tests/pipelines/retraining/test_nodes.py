from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.runner import SequentialRunner

from fraud_kedro.champion.bundle import DataSource
from fraud_kedro.datasets.bundle import BundleDraft
from fraud_kedro.datasets.monitoring_files import LastVerdictDataset, RetrainingHistoryDataset
from fraud_kedro.evaluation.thresholds import Costs
from fraud_kedro.monitoring.drift_verdict import DriftVerdict, WindowRecord
from fraud_kedro.monitoring.performance_report import Performance
from fraud_kedro.monitoring.retraining import RetrainingRule
from fraud_kedro.monitoring.retraining_rows import NextTableOptions
from fraud_kedro.monitoring.settled import LabelOptions
from fraud_kedro.pipelines.export.options import Promotion
from fraud_kedro.pipelines.retraining.nodes import build_next_table, remember_retraining
from fraud_kedro.pipelines.retraining.pipeline import create_decision_pipeline
from fraud_kedro.prediction_log import PredictionRecord, open_for_reading, open_for_writing
from fraud_kedro.schema import TransactionSchema

NOW = datetime.now(UTC)
CHAMPION = "fraud_detection_logistic_regression_v4"
VERDICT = DriftVerdict(
    id="a-run", created=NOW, verdict="drift", drift_detected=True, reason="V4 has moved",
    model_version=CHAMPION, reference_rows=1000, false_alarm_budget=0.05,
    window=WindowRecord(
        since=NOW - timedelta(days=30), until=NOW, rows=9, compared=9, without_features=0, other_schema=0,
        sampled=9, scored_by_champion=9, hours_covered=700.0, model_versions={CHAMPION: 9},
    ),
).model_dump_json()  # fmt: skip


def decide(folder, draft):
    empty = Performance(
        as_of=NOW, since=NOW, until=NOW, by="day", rows=0, is_all=True, labels=LabelOptions(), prices=Costs(),
        labels_without_prediction=0, from_the_future=0, versions=(), periods=(),
    )  # fmt: skip
    rule = RetrainingRule.model_validate({"age": {"max_days": None}})
    catalog = DataCatalog(
        {
            "performance": MemoryDataset(empty),
            "last_drift_verdict": LastVerdictDataset(file=str(folder / "verdict.json")),
            "reigning_champion": MemoryDataset(draft),
            "retraining_history": RetrainingHistoryDataset(folder=str(folder)),
            "remembered_decision": RetrainingHistoryDataset(folder=str(folder)),
            "params:retraining.rule": MemoryDataset(rule),
            "retraining_decision": MemoryDataset(),
        }
    )
    pipeline = create_decision_pipeline().only_nodes("retraining_decision.decide_retraining")
    SequentialRunner().run(pipeline, catalog)
    return catalog.load("retraining_decision"), catalog.load("retraining_history")


@pytest.fixture
def draft(make_bundle, tmp_path):
    bundle = make_bundle(tmp_path / "bundle", version=4)
    return BundleDraft(bundle.metadata, bundle.model, b"", "", bundle.registration)


def test_a_decision_is_remembered_with_its_reason(tmp_path, draft):
    decision, history = decide(tmp_path, draft)
    assert not decision.retrain
    assert decision.unknown["drift"] == "nobody has looked for drift"
    (tmp_path / "verdict.json").write_text(VERDICT)
    decision, history = decide(tmp_path, draft)
    assert (decision.retrain, decision.champion) == (True, CHAMPION)
    assert [entry.retrain for entry in history] == [False, True]
    assert history[1].reason == "the data have drifted (V4 has moved)."


def test_what_became_of_a_retraining_holds_the_next_one_back(tmp_path, draft):
    (tmp_path / "verdict.json").write_text(VERDICT)
    refused = Promotion(
        outcome="challenger", algorithm="lightgbm", version=5, reigning_version=4, reason="worse"
    )
    RetrainingHistoryDataset(folder=str(tmp_path)).save(remember_retraining(refused))
    decision, history = decide(tmp_path, draft)
    assert not decision.retrain
    assert "ended as challenger (worse)" in decision.held_back
    assert (history[0].outcome, history[0].version) == ("challenger", 5)
    assert history[1].held_back == decision.held_back


def test_what_is_only_read_refuses_to_be_saved(tmp_path):
    with pytest.raises(DatasetError):
        LastVerdictDataset(file=str(tmp_path / "a")).save(pl.DataFrame())


def test_the_next_table_says_that_the_log_is_in_it(tmp_path, make_bundle):
    url = f"sqlite:///{tmp_path / 'log.db'}"
    writer = open_for_writing(url)
    features = {"Time": 9.0, "V1": 1.0, "Amount": 2.0}
    writer.write(
        [
            PredictionRecord(
                "a", "champion", NOW - timedelta(days=40), None, "m_v1", 0.1, 0, "approve", "p", "a" * 32,
                None, json.dumps(features),
            )
        ]
    )  # fmt: skip
    writer.close()
    schema = TransactionSchema(
        time={"column": "Time"}, amount="Amount", label="Class", features=["V1", "Amount"]
    )
    source = DataSource(kind="real", name="creditcard", location="creditcard.csv")
    original = pl.LazyFrame({"Time": [0.0], "V1": [0.5], "Amount": [1.0], "Class": [0]})
    reader = open_for_reading(url)
    rows, record, found = build_next_table(
        original, reader, source, schema, LabelOptions(), NextTableOptions()
    )
    reader.close()
    assert (rows.collect().height, record.logged) == (2, 1)
    assert (found.kind, found.name) == ("real", "creditcard")
    assert found.location == "creditcard.csv and the prediction log"
