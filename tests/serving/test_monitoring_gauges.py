from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from fraud_kedro.serving import metrics
from fraud_kedro.serving.monitoring_gauges import MonitoringGauges

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules.yml"
GAUGES = (metrics.DRIFT, metrics.DRIFT_TIME, metrics.PERFORMANCE_TIME, metrics.RECALL, metrics.RECALL_HIGH)


def value(gauge):
    [sample] = [sample for metric in gauge.collect() for sample in metric.samples]
    return sample.value


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "08_reporting" / "monitoring"
    folder.mkdir(parents=True)
    return folder


def performance(recall):
    return {
        "as_of": "2026-06-01T00:00:00Z",
        "versions": [
            {"model_version": "older", "figures": {"recall": {"value": 0.1, "high": 0.2}}},
            {"model_version": "served", "figures": recall and {"recall": recall}},
        ],
    }


def test_the_newest_files_are_shown_and_followed(tmp_path, files, make_bundle):
    metadata = make_bundle(tmp_path / "bundle").metadata
    gauges = MonitoringGauges(tmp_path)
    (files / "drift.json").write_text(
        json.dumps(
            {"verdict": "drift", "model_version": "served", "window": {"until": "2026-06-02T00:00:00Z"}}
        )
    )
    (files / "performance.json").write_text(json.dumps(performance({"value": 0.5, "low": 0.4, "high": 0.6})))
    gauges.refresh("served", metadata)
    assert [value(gauge) for gauge in GAUGES] == [2, 1_780_358_400, 1_780_272_000, 0.5, 0.6]
    assert value(metrics.FLAG_RATE) == metadata.flag_rate
    assert value(metrics.MODEL_CREATED) == metadata.created.timestamp()
    (files / "drift.json").write_text(
        json.dumps({"verdict": "ok", "model_version": "served", "window": {"until": "2026-06-03T00:00:00Z"}})
    )
    (files / "performance.json").write_text(json.dumps(performance(None)))
    gauges.refresh("served", metadata)
    assert (value(metrics.DRIFT), value(metrics.DRIFT_TIME)) == (0, 1_780_444_800)
    assert math.isnan(value(metrics.RECALL))


def test_the_limit_of_recall_is_the_lower_end_on_test_rows(tmp_path, make_bundle):
    metadata = make_bundle(tmp_path / "bundle").metadata
    MonitoringGauges(tmp_path).refresh("served", metadata)
    assert math.isnan(value(metrics.RECALL_LIMIT))
    metric = metadata.metrics["average_precision"]
    MonitoringGauges(tmp_path).refresh("served", metadata.model_copy(update={"metrics": {"recall": metric}}))
    assert (value(metrics.RECALL_LIMIT), value(metrics.RECALL_EXPECTED)) == (0.7, metric.value)


def test_drift_from_an_earlier_champion_is_none_of_the_one_that_serves(tmp_path, files):
    (files / "drift.json").write_text(json.dumps({"verdict": "drift", "model_version": "older"}))
    gauges = MonitoringGauges(tmp_path)
    gauges.refresh("older", None)
    assert value(metrics.DRIFT) == 2
    gauges.refresh("served", None)
    assert math.isnan(value(metrics.DRIFT))


@pytest.mark.parametrize(
    "content", [None, "", "[]", '{"versions": 3, "verdict": [], "window": {"until": 5}}', "{broken"]
)
def test_what_is_not_known_is_no_number(tmp_path, files, content):
    if content is not None:
        for name in ("drift.json", "performance.json"):
            (files / name).write_text(content)
    MonitoringGauges(tmp_path).refresh("served", None)
    assert all(math.isnan(value(gauge)) for gauge in (*GAUGES, metrics.FLAG_RATE, metrics.MODEL_CREATED))


def expressions():
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["expr"] for rule in group["rules"]]


def unknown_metrics(expression: str) -> set[str]:
    exposed = {
        name
        for line in metrics.exposition().decode().splitlines()
        if line.startswith("# TYPE ")
        for name in [line.split()[2]]
    }
    # The page names a counter without the suffix in some formats, with it in this one.
    asked = set(re.findall(r"\bfraud_\w+", expression))
    return {name for name in asked if name not in exposed and name.removesuffix("_total") not in exposed}


def test_every_rule_asks_for_metrics_that_there_are():
    assert len(expressions()) == 9
    for expression in expressions():
        assert unknown_metrics(expression) == set()
    assert unknown_metrics("rate(fraud_wishes_total[5m]) > 1") == {"fraud_wishes_total"}


ALARMS = """
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'fraud_drift_verdict{job="a"}', values: '2x200'}
      - {series: 'fraud_drift_verdict{job="b"}', values: '_x200'}
      - {series: 'fraud_performance_recall{job="a"}', values: '0.4x200'}
      - {series: 'fraud_performance_recall{job="b"}', values: '_x200'}
      - {series: 'fraud_performance_recall_high{job="a"}', values: '0.5x200'}
      - {series: 'fraud_performance_recall_expected{job="a"}', values: '0.8x200'}
      - {series: 'fraud_performance_recall_limit{job="a"}', values: '0.7x200'}
      # Of few frauds: it may be as good as expected.
      - {series: 'fraud_performance_recall{job="few"}', values: '0.4x200'}
      - {series: 'fraud_performance_recall_high{job="few"}', values: '0.9x200'}
      - {series: 'fraud_performance_recall_expected{job="few"}', values: '0.8x200'}
      - {series: 'fraud_performance_recall_limit{job="few"}', values: '0.7x200'}
      - {series: 'fraud_performance_recall_limit{job="b"}', values: '0.7x200'}
      - {series: 'fraud_log_waiting{job="a"}', values: '5000x200'}
      - {series: 'fraud_log_waiting{job="b"}', values: '5x200'}
      - {series: 'fraud_requests_total{job="a",route="/predict",status="503"}', values: '0+60x200'}
      - {series: 'fraud_requests_total{job="a",route="/predict",status="200"}', values: '0+60x200'}
      - {series: 'fraud_requests_total{job="b",route="/predict",status="200"}', values: '0+60x200'}
      - {series: 'fraud_model_flag_rate{job="a"}', values: '0.01x200'}
      - {series: 'fraud_model_flag_rate{job="b"}', values: '0.01x200'}
      - {series: 'fraud_predictions_total{job="a",decision="review"}', values: '0+600x200'}
      - {series: 'fraud_predictions_total{job="a",decision="approve"}', values: '0+600x200'}
      - {series: 'fraud_predictions_total{job="b",decision="review"}', values: '0+6x200'}
      - {series: 'fraud_predictions_total{job="b",decision="approve"}', values: '0+594x200'}
"""
FIRING = ("FraudDrift", "FraudRecallLow", "FraudLogLag", "FraudErrors", "FraudScoreShift")


def test_the_alarms_ring_where_they_should_and_nowhere_else(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is not installed, and CI must run this test.")
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus).")
    shutil.copy(RULES, tmp_path / "rules.yml")
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    rules = {rule["alert"]: rule for rule in group["rules"] if "alert" in rule}
    values = {"FraudRecallLow": "40%", "FraudErrors": "50%", "FraudScoreShift": "50%"}
    expected = []
    for name in FIRING:
        shown = {
            key: re.sub(r"\{\{.*?\}\}", values.get(name, ""), text)
            for key, text in rules[name]["annotations"].items()
        }
        alarm = {"exp_labels": {"job": "a", **rules[name]["labels"]}, "exp_annotations": shown}
        expected.append({"eval_time": "2h", "alertname": name, "exp_alerts": [alarm]})
    test = yaml.safe_load(ALARMS)
    test["tests"][0]["alert_rule_test"] = expected
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        [promtool, "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
