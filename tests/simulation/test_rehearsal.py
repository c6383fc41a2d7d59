from __future__ import annotations

import io
import subprocess
import sys

import pytest

from fraud_kedro.simulation.delivery import DeliveryError
from fraud_kedro.simulation.rehearsal import (
    Rehearsal,
    RehearsalError,
    Script,
    Stream,
    main,
    transactions_of,
)
from fraud_kedro.simulation.timeline import Step, Timeline, draw, summary

SCRIPT = Script(step_seconds=0.0, rows=300, frauds=30)


def step(number, caught, version="m_v1"):
    return Step(number, float(number), 300, 10, caught, version)


class FakeService:
    """Flags every transaction of a model's age, and remembers what it is sent."""

    def __init__(self, fails_at=None):
        self.sent, self.labels, self.fails_at = [], [], fails_at

    def answers(self, transactions):
        if len(self.sent) == self.fails_at:
            raise DeliveryError("gone.")
        self.sent.append([row["transaction_id"] for row in transactions])
        return [
            {"transaction_id": row["transaction_id"], "prediction": 1, "model_version": "m_v1"}
            for row in transactions
        ]

    def report(self, labels):
        self.labels.append(labels)


def test_a_step_has_its_frauds_and_lies_behind_the_one_before():
    transactions, labels = transactions_of(SCRIPT, 4, drifted=False)
    later, _ = transactions_of(SCRIPT, 5, drifted=False)
    assert (len(transactions), len(labels), {*labels.values()}) == (300, 30, {1})
    assert labels.keys() < {row["transaction_id"] for row in transactions}
    assert max(row["Time"] for row in transactions) < min(row["Time"] for row in later)
    # Behind the table of the first training, at the same hours.
    assert transactions[0]["Time"] >= 172_800
    assert "Class" not in transactions[0]


def test_the_new_pattern_changes_frauds_alone():
    quiet, labels = transactions_of(SCRIPT, 4, drifted=False)
    drifted, same = transactions_of(SCRIPT, 4, drifted=True)
    assert labels == same
    changed = {a["transaction_id"] for a, b in zip(quiet, drifted, strict=True) if a != b}
    assert changed <= labels.keys()
    assert len(changed) > 15


def test_labels_follow_a_step_later_and_recall_is_of_the_frauds():
    service, timeline = FakeService(), Timeline()
    stream = Stream(SCRIPT, service, timeline)
    stream.start()
    stream.wait_for(2)
    stream.drift()
    stream.stop()
    assert len({name for sent in service.sent for name in sent}) == 300 * len(service.sent)
    for sent, labels in zip(service.sent, service.labels, strict=False):
        assert labels.keys() < {*sent}
    assert len(service.labels) == len(service.sent) - 1
    assert [found.recall for found in timeline.steps[:3]] == [1.0, 1.0, 1.0]


def test_a_stream_that_breaks_off_says_why():
    stream = Stream(SCRIPT, FakeService(fails_at=1), Timeline())
    stream.start()
    with pytest.raises(DeliveryError, match="gone"):
        stream.wait_for(5)
    stream.stop()


def test_the_summary_is_of_the_times_between_what_happened(tmp_path):
    timeline = Timeline([step(0, 9), step(1, 9), step(2, 2), step(3, 1), step(4, 8, "m_v2")])
    timeline.events = [(1.5, "new pattern"), (2.5, "alarm"), (3.5, "swap")]
    assert summary(timeline) == {"before": 0.9, "drifted": 0.15, "regained": 0.8}
    draw(timeline, tmp_path / "new" / "timeline.png")
    assert (tmp_path / "new" / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_days_of_the_rules_are_seconds_of_the_stream():
    params = dict(pair.split("=") for pair in Script(step_seconds=8.64).params.split(","))
    assert float(params["labels.maturity_days"]) == pytest.approx(3e-4)
    assert float(params["retraining.rule.performance.days"]) == pytest.approx(1e-3)


def test_a_program_that_fails_ends_the_rehearsal_with_its_last_word(tmp_path, monkeypatch):
    (tmp_path / "python").write_text(f"#!{sys.executable}\nimport sys\nsys.exit('first\\nError: no room.')\n")
    (tmp_path / "python").chmod(0o755)
    rehearsal = Rehearsal(tmp_path, SCRIPT, io.StringIO())
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(RehearsalError, match=r"kedro run ended with 1: Error: no room\."):
        rehearsal.play()


def test_it_never_touches_the_callers_root(tmp_path, monkeypatch):
    monkeypatch.setenv("FRAUD_LOG_URL", "sqlite:///mine.db")
    seen = []

    def run(command, env, **_):
        seen.append(env)
        return subprocess.CompletedProcess(command, 1, "", "stop")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(RehearsalError):
        Rehearsal(tmp_path, SCRIPT, io.StringIO()).play()
    assert seen[0]["FRAUD_ROOT"] == str(tmp_path)
    assert "FRAUD_LOG_URL" not in seen[0]


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "log.db").touch()
    with pytest.raises(RehearsalError, match="is not empty"):
        main(["--keep", str(tmp_path)])
