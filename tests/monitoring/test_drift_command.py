"""`python -m fraud_kedro.monitoring drift` and the page it makes."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fraud_kedro.monitoring.__main__ import main
from fraud_kedro.prediction_log import Label, PredictionRecord, open_for_writing, write_labels

CHAMPION = "fraud_detection_logistic_regression_v1"


@pytest.fixture
def root(make_drift_bundle, tmp_path, monkeypatch):
    make_drift_bundle(tmp_path / "06_models" / "champion", rows=1500)
    monkeypatch.setenv("FRAUD_ROOT", str(tmp_path))
    monkeypatch.delenv("FRAUD_LOG_URL", raising=False)
    return tmp_path


def fill(root, rows, *, features=None, shift=0.0, scores=None, days=0.0, frauds=()):
    now = datetime.now(UTC) - timedelta(days=days)
    names = features or ("Time", *(f"V{i}" for i in range(1, 29)), "Amount")
    rows = rows.copy()
    rows[:, 1:4] += shift
    writer = open_for_writing(f"sqlite:///{root / 'prediction_log.db'}")
    writer.write(
        [
            PredictionRecord(
                f"t{days}-{number}", "champion", now - timedelta(seconds=number + 1), None, CHAMPION,
                0.05 if scores is None else float(scores[number]), 0, "approve", "expected_cost", "a" * 32,
                None, json.dumps(dict(zip(names, row.tolist(), strict=False))),
            )
            for number, row in enumerate(rows)
        ]
    )  # fmt: skip
    write_labels(
        writer.engine,
        [Label(f"t{days}-{number}", 1, now) for number in frauds],
        received_at=datetime.now(UTC),
    )
    writer.close()


def drift(capsys, *options):
    code = main(["drift", *options])
    said = capsys.readouterr()
    return code, json.loads(said.out) if code == 0 else said.err


def test_drift_is_judged_drawn_and_kept(root, draw_rows, logistic_probability, capsys):
    rows = draw_rows(1000)
    reduced = rows.copy()
    reduced[:, 0] %= 86_400
    fill(root, rows, shift=1.0, scores=logistic_probability(reduced))
    code, verdict = drift(capsys, "--days=7", "--run-id=mine", "--version=1")
    assert (code, verdict["verdict"], verdict["drift_detected"]) == (0, "drift", True)
    assert {column["column"] for column in verdict["columns"] if column["is_drifted"]} == {"V1", "V2", "V3"}
    assert "V1 (higher by 0." in verdict["reason"]
    folder = root / "08_reporting" / "monitoring"
    assert json.loads((folder / "drift_mine.json").read_text()) == verdict
    page = (folder / "drift.html").read_text(encoding="utf-8")
    assert "<h1 style='margin:0;font-size:1.4em'>Drift: drift</h1>" in page
    assert verdict["reason"] in page
    # Nothing is asked of another host: neither by an element of the page nor, by its policy, by a script.
    assert not re.search(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=", page.split("<script>")[0])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1)
    assert "default-src &#x27;none&#x27;" in policy
    assert "http" not in policy
    # Evidently's own distances are those of the verdict.
    numbers = json.loads((folder / "drift_evidently.json").read_text())
    assert set(numbers) == {"columns"}
    theirs = {
        each["config"]["column"]: each["value"]
        for each in numbers["columns"]["metrics"]
        if each["metric_name"].startswith("ValueDrift")
    }
    ours = {column["column"]: column["distance"] for column in verdict["columns"]}
    assert set(theirs) == {*ours, "probability"}
    for name, value in ours.items():
        assert theirs[name] == pytest.approx(value)


def test_settled_labels_are_drawn_too(root, draw_rows, capsys):
    rows = draw_rows(600)
    scores = np.linspace(0.99, 0.01, 600)
    fill(root, rows, scores=scores, days=31, frauds=range(0, 60, 5))
    code, verdict = drift(capsys)
    # Nothing arrived in the last 30 days; what came before has its labels.
    assert (code, verdict["verdict"]) == (0, "insufficient_data")
    folder = root / "08_reporting" / "monitoring"
    numbers = json.loads((folder / "drift_evidently.json").read_text())
    assert set(numbers) == {"classification"}
    values = {
        each["metric_name"].partition("(")[0]: each["value"] for each in numbers["classification"]["metrics"]
    }
    labels = np.isin(np.arange(600), range(0, 60, 5))
    assert values["RocAuc"] == pytest.approx(roc_auc_score(labels, scores))
    page = (folder / "drift.html").read_text(encoding="utf-8")
    assert "600 transactions of this champion from " in page
    assert "have settled labels, 12 of them frauds" in page
    code, verdict = drift(capsys, "--maturity-days=60")
    assert "0 transactions of this champion" in (folder / "drift.html").read_text(encoding="utf-8")
    fill(root, rows)
    drift(capsys)
    assert set(json.loads((folder / "drift_evidently.json").read_text())) == {"columns", "classification"}


def test_an_empty_log_and_one_of_another_schema_are_insufficient(root, draw_rows, capsys):
    fill(root, draw_rows(0))
    _, verdict = drift(capsys)
    assert verdict["verdict"] == "insufficient_data"
    assert verdict["reason"] == "0 transactions arrived in the last 30 days; at least 500 are needed."
    fill(root, draw_rows(600), features=("amount", "city"))
    _, verdict = drift(capsys)
    assert verdict["verdict"] == "insufficient_data"
    assert verdict["reason"] == (
        "600 transactions arrived in the last 30 days, 0 of which can be compared; at least 500 are needed."
    )
    page = (root / "08_reporting" / "monitoring" / "drift.html").read_text(encoding="utf-8")
    assert "insufficient data" in page
    assert len((root / "08_reporting" / "monitoring" / "drift_history.jsonl").read_text().splitlines()) == 2


def test_what_is_missing_is_said_in_one_line(root, make_bundle, draw_rows, capsys):
    code, said = drift(capsys)
    assert code == 1
    assert said.startswith("Error: No prediction log at ")
    fill(root, draw_rows(10))
    # Its few rows have no scores.
    make_bundle(root / "06_models" / "champion")
    code, said = drift(capsys)
    assert code == 1
    assert "lacks probability: there is nothing to compare transactions with" in said
    assert said.count("\n") == 1


def test_the_served_version_is_fetched_where_the_local_copy_is_another(
    root, make_drift_bundle, real_registry, draw_rows, monkeypatch, capsys
):
    monkeypatch.setenv("FRAUD_MLFLOW_TRACKING_URI", real_registry.uri)
    for algorithm in ("lightgbm", "xgboost"):
        bundle = make_drift_bundle(root / algorithm, rows=600, algorithm=algorithm, version=None)
        number = real_registry.register(bundle)
    fill(root, draw_rows(10))
    code, verdict = drift(capsys, f"--version={number}")
    assert (code, verdict["model_version"]) == (0, f"fraud_detection_xgboost_v{number}")
    code, said = drift(capsys, "--version=9")
    assert code == 1
    assert "has no version 9" in said


@pytest.mark.parametrize(
    "option",
    [
        "performance --maturity-days=nan", "drift --maturity-days=1e9", "performance --review-cost=nan",
        "performance --rows=-1", "comparison --repetitions=-5", "drift --run-id=../../x",
        "drift --version=-3", "comparison --rows=many",
    ],
)  # fmt: skip
def test_an_option_that_means_nothing_is_refused_in_one_line(option, capsys):
    with pytest.raises(SystemExit):
        main(option.split())
    name = option.split()[1].partition("=")[0]
    assert f"error: argument {name}: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("days", ["0", "-1", "nan", "1e9"])
def test_a_window_of_no_length_is_refused(root, days, capsys):
    with pytest.raises(SystemExit):
        main(["drift", f"--days={days}"])
    assert "It should be above 0" in capsys.readouterr().err
