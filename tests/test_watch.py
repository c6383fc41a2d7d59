from __future__ import annotations

import fcntl
import json
import sys
from datetime import UTC, datetime

import pytest

from fraud_kedro import watch as watching
from fraud_kedro.errors import DataError, PredictionLogError
from fraud_kedro.monitoring.retraining import Decision
from fraud_kedro.monitoring.retraining_history import HistoryEntry, append_history, read_history
from fraud_kedro.watch import Project, Turn, WatchError, main, take_turn, watch

PYTHON = sys.executable
NOW = datetime(2026, 6, 30, tzinfo=UTC)
WANTED = Decision(
    decided_at=NOW, retrain=True, reason="it drifts.", champion="m", triggers={"drift": "it drifts"}
)
CONTENT = Decision(decided_at=NOW, retrain=False, reason="nothing asks.", champion="m")
HELD = WANTED.model_copy(update={"retrain": False, "held_back": "enough"})


class FakeSession:
    """A session whose catalog has a history's folder and a decision."""

    def __init__(self, folder, decision, fails=()):
        self.folder, self.decision, self.fails, self.ran = folder, decision, fails, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def load_context(self):
        return self

    @property
    def catalog(self):
        return self

    def __getitem__(self, name):
        assert name == "remembered_decision"
        return self

    def _describe(self):
        return {"file": str(self.folder / "history.jsonl")}

    def load(self, name):
        assert name == "retraining_decision"
        return self.decision

    def run(self, pipeline_names, runner):
        self.ran += pipeline_names
        if pipeline_names[0] in self.fails:
            raise DataError("no rows.")


@pytest.fixture
def play(monkeypatch, tmp_path):
    """Take a turn with a decision, and a program in the place of `kedro run`."""
    told = []

    def turn(decision, program="", fails=()):
        session = FakeSession(tmp_path, decision, fails)
        monkeypatch.setattr(watching, "_session", lambda project: session)
        monkeypatch.setattr(watching, "announce", lambda url, event: told.append(event))
        script = tmp_path / "program"
        script.write_text(f"#!{PYTHON}\nimport sys\n{program}\n")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        found = take_turn(Project("quick", "seed=1"))
        return found, session.ran, told

    return turn


def entry(outcome):
    return HistoryEntry(at=NOW, kind="retraining", reason="better", outcome=outcome, version=7)


def test_nothing_is_retrained_and_nobody_told_without_a_reason(play, tmp_path):
    turn, ran, told = play(CONTENT, program="raise SystemExit('started')")
    assert (turn.outcome, ran, told) == (None, ["monitoring", "retraining_decision"], [])
    assert turn.told == "retrain: no, nothing asks."


def test_what_a_retraining_came_to_is_told(play, tmp_path):
    line = entry("promoted").model_dump_json()
    arguments = tmp_path / "arguments"
    program = (
        f"open({str(arguments)!r}, 'w').write(repr(sys.argv[1:]))\n"
        f"open({str(tmp_path / 'history.jsonl')!r}, 'a').write({line!r} + chr(10))"
    )
    turn, _, told = play(WANTED, program=program)
    assert turn.outcome == entry("promoted")
    assert turn.told == "retrain: yes, it drifts. -> promoted version 7: better"
    assert arguments.read_text() == repr(
        ["-m", "kedro", "run", "--pipeline", "retraining", "--env", "quick", "--params", "seed=1"]
    )
    [event] = told
    assert json.loads(json.dumps(event))["outcome"]["version"] == 7


def test_a_retraining_that_fails_is_written_down_with_its_reason(play, tmp_path):
    turn, _, _ = play(WANTED, program="sys.exit('noise\\nError: too few rows. (traceback: --verbose)')")
    assert (turn.outcome.outcome, turn.outcome.reason) == ("failed", "too few rows. (traceback: --verbose)")
    assert read_history(tmp_path / "history.jsonl") == (turn.outcome,)
    turn, _, _ = play(WANTED, program="sys.exit(9)")
    assert turn.outcome.reason == "exit code 9"


def test_an_entry_of_a_clock_that_was_ahead_is_not_taken_for_the_outcome(play, tmp_path):
    ahead = entry("promoted").model_copy(update={"at": datetime(2999, 1, 1, tzinfo=UTC)})
    append_history(tmp_path / "history.jsonl", ahead)
    turn, _, _ = play(WANTED, program="sys.exit(9)")
    assert turn.outcome.outcome == "failed"
    assert read_history(tmp_path / "history.jsonl") == (ahead, turn.outcome)


def test_a_retraining_holds_the_lock_by_itself(play, tmp_path):
    program = (
        "import os\n"
        f"held = os.stat({str(tmp_path / '.lock')!r}).st_ino\n"
        "has = [n for n in os.listdir('/proc/self/fd') if n.isdigit() and int(n) > 2\n"
        "       and os.path.exists(f'/proc/self/fd/{n}') and os.stat(f'/proc/self/fd/{n}').st_ino == held]\n"
        "sys.exit('Error: it has the lock' if has else 9)"
    )
    turn, _, _ = play(WANTED, program=program)
    assert turn.outcome.reason == "it has the lock"


def test_what_the_guard_holds_back_is_told_and_not_done(play):
    turn, _, told = play(HELD, program="raise SystemExit('started')")
    assert turn.outcome is None
    assert told[0]["decision"]["held_back"] == "enough"


def test_drift_is_looked_for_first_and_its_failure_stops_nothing(play, caplog):
    turn, ran, _ = play(CONTENT, fails=["monitoring"])
    assert ran == ["monitoring", "retraining_decision"]
    assert "Drift was not looked for: no rows." in caplog.text
    assert not turn.decision.retrain


def test_each_pipeline_has_an_mlflow_run_of_its_own(play, monkeypatch):
    open_runs, seen = [], []
    monkeypatch.setattr("mlflow.active_run", lambda: open_runs[-1] if open_runs else None)
    monkeypatch.setattr("mlflow.end_run", open_runs.pop)

    def run(self, pipeline_names, runner):
        seen.append((pipeline_names[0], [*open_runs]))
        # As kedro-mlflow does: once for each node.
        open_runs.extend(pipeline_names * 3)
        if pipeline_names[0] in self.fails:
            raise DataError("no rows.")

    monkeypatch.setattr(FakeSession, "run", run)
    play(CONTENT, fails=["monitoring"])
    assert seen == [("monitoring", []), ("retraining_decision", [])]
    assert not open_runs


def test_two_do_not_watch_one_root(play, tmp_path):
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(WatchError, match="Another process watches this root"):
            play(CONTENT)
    assert play(CONTENT)[0].decision == CONTENT


def test_a_loop_goes_on_after_an_expected_error_and_once_does_not(monkeypatch, capsys):
    turns = iter([PredictionLogError("No log."), Turn(CONTENT), KeyboardInterrupt()])

    def take(project):
        found = next(turns)
        if isinstance(found, BaseException):
            raise found
        return found

    monkeypatch.setattr(watching, "take_turn", take)
    with pytest.raises(KeyboardInterrupt):
        watch(Project(), every=0.01)
    said = capsys.readouterr()
    assert said.err.endswith("Error: No log.\n")
    assert said.out.endswith("retrain: no, nothing asks.\n")
    turns = iter([PredictionLogError("No log.")])
    with pytest.raises(PredictionLogError):
        watch(Project(), every=None)


def test_a_defect_ends_the_loop(monkeypatch):
    def broken(project):
        raise ZeroDivisionError

    monkeypatch.setattr(watching, "take_turn", broken)
    with pytest.raises(ZeroDivisionError):
        watch(Project(), every=0.01)


def test_outside_a_project_the_command_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--once"]) == 1
    said = capsys.readouterr().err
    assert "is not in a Kedro project" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("1.5d", 129_600)])
def test_a_duration_is_read(text, seconds):
    assert watching._seconds(text) == seconds


@pytest.mark.parametrize("arguments", [["--every", "0h"], ["--every", "soon"], ["--once", "--every", "1h"]])
def test_other_durations_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert "--every" in capsys.readouterr().err


def test_params_are_read_as_kedro_does():
    assert watching._runtime_params("labels.maturity_days=0.5,seed=3") == {
        "labels": {"maturity_days": 0.5}, "seed": 3,
    }  # fmt: skip
    assert watching._runtime_params("") == {}
    with pytest.raises(WatchError, match="must contain a key and a value"):
        watching._runtime_params("seed")
