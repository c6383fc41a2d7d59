"""From a log with labels to the next champion, as `python -m fraud_kedro.watch --once` goes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from fraud_kedro.champion.bundle import read_bundle
from fraud_kedro.monitoring.retraining_history import read_history
from fraud_kedro.prediction_log import Label, PredictionRecord, open_for_writing, write_labels
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.simulator import simulate

pytestmark = pytest.mark.slow

# Small, so that it is the way that is tested, not its stations.
SMALL = {
    "retraining.table.original_rows": 4000,
    "export.drawn_rows": 500,
    "training.explanation.shap_rows": 10,
    "training.explanation.permutation_rows": 50,
    "training.bootstrap_repetitions": 20,
    **{
        f"{name}.budget.trials": 1 for name in ("lightgbm", "logistic_regression", "random_forest", "xgboost")
    },
}
ARRIVED = datetime.now(UTC) - timedelta(days=40)


def log_a_new_pattern(url: str, version: str) -> int:
    """A log of 12,000 approved transactions with 240 frauds of a new pattern; gives their number."""
    options = SimulationOptions.parse(
        rows=12_000, frauds=240, seed=77, duplicates=0, drift={"new_pattern": 1.0}
    )
    writer = open_for_writing(url)
    frauds = []
    for block in simulate(options):
        records = []
        for row in block.iter_rows(named=True):
            name = f"t{row['Time']:.0f}-{len(frauds)}-{len(records)}"
            if row.pop("Class"):
                frauds.append(Label(name, 1, ARRIVED + timedelta(days=7)))
            arrived = ARRIVED + timedelta(seconds=row["Time"])
            records.append(
                PredictionRecord(
                    name, "champion", arrived, None, version, 0.002, 0, "approve", "expected_cost", "a" * 32,
                    None, json.dumps(row),
                )
            )  # fmt: skip
        writer.write(records)
    write_labels(writer.engine, frauds, received_at=datetime.now(UTC))
    writer.close()
    return len(frauds)


def test_what_labels_say_leads_to_a_new_champion(quick, commands_in, tmp_path):
    original, _ = quick
    commands = commands_in(tmp_path / "root")
    shutil.copytree(original.root, commands.root)
    before = read_bundle(commands.root / "06_models" / "champion")
    version = f"fraud_detection_{before.metadata.algorithm}_v{before.registration.version}"
    frauds = log_a_new_pattern(f"sqlite:///{commands.root / 'prediction_log.db'}", version)

    params = ",".join(f"{name}={value}" for name, value in SMALL.items())
    done = subprocess.run(
        [sys.executable, "-m", "fraud_kedro.watch", "--once", "--env", "quick", "--params", params],
        env=commands.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "retrain: yes, " in done.stdout
    assert f"recall is 0.000 (0.000 to 0.000) on {frauds} frauds" in done.stdout
    decision, outcome = read_history(commands.root / "08_reporting" / "retraining" / "history.jsonl")
    assert (decision.retrain, decision.champion) == (True, version)
    assert outcome.outcome == "promoted", outcome.reason
    after = read_bundle(commands.root / "06_models" / "champion")
    assert after.registration.version == outcome.version > before.registration.version
    # The newest rows are the log's, and the test.
    assert after.metadata.data.test_time_from > before.metadata.data.time_to
    table = json.loads((commands.root / "08_reporting" / "retraining" / "next_table.json").read_text())
    assert (table["original"], table["logged"], table["frauds"], table["moved_days"]) == (
        4000,
        12_000,
        frauds,
        2,
    )
    shown = commands.kedro("champion", "show", "--env", "quick").stdout
    assert f"{outcome.version}" in shown
