from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score

from fraud_kedro.monitoring.__main__ import main
from fraud_kedro.monitoring.comparison import compare_versions
from fraud_kedro.prediction_log import (
    Label,
    PredictionRecord,
    open_for_reading,
    open_for_writing,
    write_labels,
)

NOW = datetime.now(UTC)
ROWS = 1200


def scored(name, scores, role="champion", start=0):
    return [
        PredictionRecord(
            f"t-{start + number:05}", role, NOW - timedelta(seconds=start + number), None, name, float(score),
            int(score >= 0.5), "decline" if score >= 0.8 else "review" if score >= 0.5 else "approve",
            "expected_cost", "a" * 32, None, "{}",
        )
        for number, score in enumerate(scores)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def drawn():
    """Labels, the champion's scores of them, and better ones."""
    generator = np.random.default_rng(3)
    labels = generator.random(ROWS) < 0.1
    noise = generator.normal(size=ROWS)
    champion, shadow = (1 / (1 + np.exp(-(shift * (labels - 0.5) + noise))) for shift in (2.0, 5.0))
    return labels.astype(int), champion, shadow


@pytest.fixture(scope="module")
def log_url(tmp_path_factory, drawn):
    """A log of a champion, a shadow on half of its transactions, and a challenger; 1000 are labelled."""
    labels, champion, shadow = drawn
    url = f"sqlite:///{tmp_path_factory.mktemp('compared') / 'log.db'}"
    writer = open_for_writing(url)
    writer.write(scored("m_v1", champion))
    writer.write(scored("m_v2", shadow[:600], role="shadow"))
    writer.write(scored("m_v3", [0.9] * 30, role="challenger", start=5_000))
    given = [Label(f"t-{number:05}", int(labels[number]), None) for number in range(1000)]
    write_labels(writer.engine, given, received_at=NOW)
    writer.close()
    return url


@pytest.fixture(scope="module")
def compared(log_url):
    reader = open_for_reading(log_url)
    found = compare_versions(reader, since=NOW - timedelta(days=1), most_rows=10_000, repetitions=200)
    reader.close()
    return found


def version(found, name):
    return next(each for each in found["versions"] if each["model_version"] == name)


def test_volume_and_decisions_are_counted_by_version_and_role(compared, drawn):
    assert [(each["model_version"], each["role"]) for each in compared["versions"]] == [
        ("m_v1", "champion"),
        ("m_v2", "shadow"),
        ("m_v3", "challenger"),
    ]
    champion = version(compared, "m_v1")
    assert champion["predictions"] == ROWS == sum(champion["decisions"].values())
    assert champion["mean_score"] == pytest.approx(drawn[1].mean())
    assert champion["flagged_share"] == pytest.approx((drawn[1] >= 0.5).mean())
    assert (champion["labelled"], champion["frauds"]) == (1000, drawn[0][:1000].sum())
    assert (compared["rows"], compared["is_all"]) == (1830, True)


def test_figures_are_scikit_learns_within_their_intervals(compared, drawn):
    labels, scores = drawn[0][:1000], drawn[1][:1000]
    figures = version(compared, "m_v1")["figures"]
    expected = {
        "recall": recall_score(labels, scores >= 0.5),
        "precision": precision_score(labels, scores >= 0.5),
        "average_precision": average_precision_score(labels, scores),
    }
    for name, value in expected.items():
        assert figures[name]["value"] == pytest.approx(value)
        assert figures[name]["low"] < value < figures[name]["high"]


def test_too_few_labels_are_said_with_the_number_needed(compared):
    challenger = version(compared, "m_v3")
    assert challenger["figures"] is None
    assert challenger["figures_problem"] == (
        "Too few labels: 20 frauds and 20 legitimate transactions are needed, 0 and 0 have come."
    )


def test_shadow_and_champion_are_paired_where_both_scored(compared, drawn):
    labels, champion, shadow = (values[:600] for values in drawn)
    [pair] = compared["pairs"]
    assert (pair["shadow"], pair["champion"], pair["transactions"]) == ("m_v2", "m_v1", 600)
    assert pair["mean_score_difference"] == pytest.approx((shadow - champion).mean())
    difference = pair["differences"]["average_precision"]
    expected = average_precision_score(labels, shadow) - average_precision_score(labels, champion)
    assert difference["value"] == pytest.approx(expected)
    assert 0 < difference["low"] < expected < difference["high"]
    alone = version(compared, "m_v1")["figures"]["average_precision"]
    # Of the same transactions, so that the luck of the draw cancels out.
    assert difference["high"] - difference["low"] < 2 * (alone["high"] - alone["low"])


def test_no_more_rows_are_read_than_allowed_and_the_newest_are(log_url):
    reader = open_for_reading(log_url)
    found = compare_versions(reader, since=NOW - timedelta(days=1), most_rows=100, repetitions=10)
    empty = compare_versions(reader, since=NOW + timedelta(days=1), most_rows=100, repetitions=10)
    reader.close()
    assert (found["rows"], found["is_all"]) == (100, False)
    assert version(found, "m_v1")["predictions"] == version(found, "m_v2")["predictions"] == 50
    assert (empty["rows"], empty["versions"], empty["pairs"]) == (0, [], [])


def test_the_command_prints_json(log_url, monkeypatch, capsys):
    monkeypatch.setenv("FRAUD_LOG_URL", log_url)
    assert main(["comparison", "--days", "1", "--repetitions", "20"]) == 0
    assert len(json.loads(capsys.readouterr().out)["versions"]) == 3


def test_without_a_log_the_command_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FRAUD_LOG_URL", f"sqlite:///{tmp_path / 'absent.db'}")
    assert main(["comparison"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Error: No prediction log at ")
    assert said.err.count("\n") == 1


def test_without_its_libraries_the_command_says_what_to_install(log_url):
    blocked = (
        "import runpy, sys; sys.modules['sklearn'] = None; sys.argv = ['monitoring', 'comparison']; "
        "runpy.run_module('fraud_kedro.monitoring', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, text=True, check=False,
        env={"FRAUD_LOG_URL": log_url, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().endswith("Install the extra `monitoring`.")
