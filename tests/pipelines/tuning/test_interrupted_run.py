"""A search that is stopped from outside, as its users stop it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
PROJECT = Path(__file__).parents[3]
LONG = "lightgbm.budget.trials=10000"

pytestmark = pytest.mark.slow


def kedro(root, *arguments: str) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FRAUD_", "MLFLOW_"))}
    return subprocess.Popen(
        [BIN / "kedro", "run", "--env", "quick", *arguments],
        cwd=PROJECT,
        env={**kept, "FRAUD_ROOT": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def tuning(root, *params: str) -> subprocess.Popen[str]:
    return kedro(root, "--pipeline=tuning", "--tags=lightgbm", f"--params={','.join(params)}")


def tuning_with_its_data(root, *params: str) -> subprocess.Popen[str]:
    return kedro(root, "--to-nodes=tuning.lightgbm.tune", f"--params={','.join(params)}")


def read_until(process: subprocess.Popen[str], text: str) -> None:
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"{text!r} was never said")


def query(database: Path, sql: str) -> Sequence[tuple]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def trial_states(root) -> list[str]:
    rows = query(root / "05_model_input" / "studies.db", "SELECT state FROM trials ORDER BY number")
    return [state for (state,) in rows]


def living_processes_of(group: int) -> list[str]:
    """A dead process stays listed as a zombie where nothing reaps orphans."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True)
    processes = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    return [" ".join(rest) for of, *rest in processes if of == str(group) and not rest[0].startswith("Z")]


def test_ctrl_c_and_a_kill_lose_no_finished_trial_and_the_same_command_goes_on(tmp_path):
    """One story, because each command takes seconds to start."""
    process = tuning_with_its_data(tmp_path, LONG, "tuning.n_jobs=2")
    read_until(process, "lightgbm trial 3/10000")
    os.killpg(process.pid, signal.SIGINT)
    said = process.stdout.read()
    assert process.wait(timeout=60) == 1
    last = said.strip().splitlines()[-1]
    assert last.startswith("Error: Interrupted. lightgbm has ")
    assert "run the same command again to go on from here" in last
    assert "Traceback" not in said
    # They were told to end, and may take a moment more than the command.
    deadline = time.monotonic() + 10
    while (left := living_processes_of(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    after_ctrl_c = trial_states(tmp_path)
    assert "RUNNING" not in after_ctrl_c
    store = next(tmp_path.rglob("mlflow.db"))
    assert query(store, "SELECT count(*) FROM runs WHERE status = 'RUNNING'") == [(0,)]

    finished = len([state for state in after_ctrl_c if state != "FAIL"])
    process = tuning(tmp_path, LONG)
    read_until(process, f"lightgbm trial {finished + 1}/10000")
    # In the middle of the next one.
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    after_kill = trial_states(tmp_path)
    assert after_kill[: len(after_ctrl_c)] == after_ctrl_c

    finished = len([state for state in after_kill if state not in ("FAIL", "RUNNING")])
    process = tuning(tmp_path, f"lightgbm.budget.trials={finished + 1}")
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert f"lightgbm trial {finished + 1}/{finished + 1}" in said
    assert said.count("lightgbm trial ") == 1
    assert (tmp_path / "08_reporting" / "lightgbm" / "tuning_history.json").is_file()
