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


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted")
    done = kedro(folder, "--pipeline=data_processing").wait()
    assert done == 0
    return folder


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


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_ctrl_c_ends_a_run_with_one_line_and_the_next_run_goes_on(root, n_jobs):
    seed = f"seed={n_jobs}"
    process = tuning(root, LONG, f"tuning.n_jobs={n_jobs}", seed)
    read_until(process, "lightgbm trial 3/10000")
    os.killpg(process.pid, signal.SIGINT)
    said = process.stdout.read()
    assert process.wait(timeout=60) == 1
    last = said.strip().splitlines()[-1]
    assert last.startswith("Error: Interrupted. lightgbm has ")
    assert "run the same command again to go on from here" in last
    assert "Traceback" not in said
    assert "RUNNING" not in trial_states(root)
    assert living_processes_of(process.pid) == []

    store = next(root.rglob("mlflow.db"))
    assert query(store, "SELECT count(*) FROM runs WHERE status = 'RUNNING'") == [(0,)]
    again = tuning(root, "lightgbm.budget.trials=4", f"tuning.n_jobs={n_jobs}", seed)
    said = again.communicate()[0]
    assert again.returncode == 0, said
    assert "lightgbm trial 3/4" not in said
    assert (root / "08_reporting" / "lightgbm" / "tuning_history.json").is_file()


def test_what_ran_when_the_process_was_killed_is_not_counted(root):
    process = tuning(root, LONG, "seed=9")
    read_until(process, "lightgbm trial 2/10000")
    # In the middle of the next one.
    time.sleep(0.3)
    before = len(trial_states(root))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    again = tuning(root, "lightgbm.budget.trials=4", "seed=9")
    said = again.communicate()[0]
    assert again.returncode == 0, said
    assert "lightgbm trial 4/4" in said
    assert len(trial_states(root)) >= before + 1
