from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.runner import SequentialRunner

from fraud_kedro.datasets.bundle import BundleDraft
from fraud_kedro.datasets.log_reader import LogReaderDataset
from fraud_kedro.datasets.monitoring_files import LastVerdictDataset, RetrainingHistoryDataset
from fraud_kedro.evaluation.thresholds import Costs
from fraud_kedro.monitoring.performance_report import Performance
from fraud_kedro.monitoring.retraining import RetrainingRule
from fraud_kedro.monitoring.settled import LabelOptions
from fraud_kedro.pipelines.export.options import Promotion
from fraud_kedro.pipelines.retraining.nodes import remember_retraining
from fraud_kedro.pipelines.retraining.pipeline import create_decision_pipeline

NOW = datetime.now(UTC)
VERDICT = (
    '{"verdict": "drift", "drift_detected": true, "reason": "V4 has moved", "rows": 9, "model_versions": [], '
    f'"until": "{NOW.isoformat()}"}}'
)


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
    assert (decision.retrain, decision.champion) == (True, "fraud_detection_logistic_regression_v4")
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
    for dataset in (LastVerdictDataset(file=str(tmp_path / "a")), LogReaderDataset(url="sqlite:///a.db")):
        with pytest.raises(DatasetError):
            dataset.save(pl.DataFrame())
