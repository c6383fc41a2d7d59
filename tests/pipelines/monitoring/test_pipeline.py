from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from fraud_kedro.champion.bundle import read_bundle
from fraud_kedro.datasets.drift_report import DriftReportDataset
from fraud_kedro.datasets.prediction_log import PredictionLogDataset
from fraud_kedro.datasets.pydantic_json import PydanticJsonDataset
from fraud_kedro.monitoring.drift_options import DriftOptions
from fraud_kedro.monitoring.settled import LabelOptions
from fraud_kedro.pipelines.monitoring.pipeline import create_pipeline
from fraud_kedro.prediction_log import PredictionRecord, open_for_writing


@pytest.fixture
def catalog(make_drift_bundle, draw_rows, tmp_path, monkeypatch):
    monkeypatch.delenv("FRAUD_LOG_URL", raising=False)
    bundle = make_drift_bundle(tmp_path / "champion", rows=1000)
    names, now = bundle.metadata.schema_.features, datetime.now(UTC)
    writer = open_for_writing(f"sqlite:///{tmp_path / 'prediction_log.db'}")
    rows = draw_rows(600)
    rows[:, 3:6] -= 1.0
    writer.write(
        [
            PredictionRecord(
                f"t{number}", "champion", now - timedelta(minutes=1), None, "other", 0.1, 0, "approve", "p",
                "a" * 32, None, json.dumps(dict(zip(names, row.tolist(), strict=True))),
            )
            for number, row in enumerate(rows)
        ]
    )  # fmt: skip
    writer.close()
    return DataCatalog(
        {
            "champion_bundle": MemoryDataset(read_bundle(bundle.folder), copy_mode="assign"),
            "prediction_log": PredictionLogDataset(root=str(tmp_path)),
            "params:monitoring": MemoryDataset(DriftOptions()),
            "params:labels": MemoryDataset(LabelOptions()),
            "params:seed": MemoryDataset(1),
            "drift_verdict": PydanticJsonDataset(
                filepath=str(tmp_path / "drift.json"),
                model="fraud_kedro.monitoring.drift_verdict.DriftVerdict",
            ),
            "drift_report": DriftReportDataset(filepath=str(tmp_path / "reports" / "drift.html")),
        }
    )


def test_the_pipeline_judges_the_log_and_keeps_the_report(catalog, tmp_path):
    SequentialRunner().run(create_pipeline(), catalog)
    verdict = catalog.load("drift_verdict")
    assert verdict.drift_detected
    assert {column.column for column in verdict.columns if column.is_drifted} == {"V3", "V4", "V5"}
    assert {column.direction for column in verdict.columns if column.is_drifted} == {"lower"}
    assert verdict.reason in catalog.load("drift_report")
    kept = json.loads((tmp_path / "reports" / f"drift_{verdict.id}.json").read_text())
    assert kept == verdict.model_dump(mode="json")


def test_what_the_configuration_says_is_what_the_service_judges_by(request):
    file = request.config.rootpath / "conf" / "base" / "parameters_monitoring.yml"
    assert DriftOptions.model_validate(yaml.safe_load(file.read_text())["monitoring"]) == DriftOptions()


@pytest.mark.parametrize(
    "wrong",
    [{"days": 0}, {"least_rows": 5}, {"effects": {"alerts": 1}}, {"false_alarms": {"hours": 2}}, {"day": 3}],
)
def test_options_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DriftOptions.model_validate(wrong)
