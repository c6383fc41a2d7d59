"""The quick way end to end: simulated rows to answers over a socket."""

from __future__ import annotations

import pickle
import sqlite3
import subprocess
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest

from fraud_kedro.champion.bundle import read_bundle
from fraud_kedro.pipelines.model_input import labelled_matrix

pytestmark = pytest.mark.slow

TRAINING_LIBRARIES = ("sklearn", "lib_lightgbm", "libxgboost", "optuna", "kedro")


@pytest.fixture(scope="module")
def address(quick):
    commands, _ = quick
    with commands.serve() as served:
        yield served


def requests_of(frame: pl.DataFrame, features: tuple[str, ...]) -> list[dict[str, float]]:
    return frame.select(features).to_dicts()


def test_the_run_ends_with_every_candidate_and_a_champion(quick):
    commands, printed = quick

    for algorithm in ("ensemble", "lightgbm", "logistic_regression", "random_forest", "xgboost"):
        assert f"{algorithm} " in printed
    assert "is the champion: the first version" in printed
    assert "make serve" in printed
    champion = read_bundle(commands.root / "06_models" / "champion")
    assert champion.metadata.data.source.kind == "simulated"
    assert champion.registration is not None
    assert champion.registration.version == 5


def test_a_second_export_goes_on_from_what_was_written(quick):
    commands, _ = quick

    printed = commands.train("--env", "quick", "--pipeline=export").stdout

    assert "+0.0000" in printed
    assert read_bundle(commands.root / "06_models" / "champion").registration.version == 10


def test_the_graph_scores_as_the_native_model_on_every_test_row(quick, address):
    commands, _ = quick
    root = commands.root
    bundle = read_bundle(root / "06_models" / "champion")
    with (root / "06_models" / bundle.metadata.algorithm / "model.pkl").open("rb") as file:
        native = pickle.load(file)
    test = pl.read_parquet(root / "03_primary" / "test.parquet")
    expected = native.probability(labelled_matrix(test, native.schema).features)

    answered: list[float] = []
    for part in test.iter_slices(3000):
        body = {"transactions": requests_of(part, native.schema.features)}
        answer = httpx.post(f"{address}/predict/batch", json=body, timeout=60)
        assert answer.status_code == 200
        answered += [prediction["probability"] for prediction in answer.json()["predictions"]]

    assert np.abs(np.array(answered) - expected).max() <= 1e-5


def test_a_prediction_is_logged_when_it_is_answered(quick, address):
    commands, _ = quick
    bundle = read_bundle(commands.root / "06_models" / "champion")
    test = pl.read_parquet(commands.root / "03_primary" / "test.parquet")
    (body,) = requests_of(test.head(1), bundle.metadata.schema_.features)

    answer = httpx.post(f"{address}/predict", json={"transaction_id": "t-1", **body}).json()

    with sqlite3.connect(commands.root / "prediction_log.db") as log:
        row = log.execute(
            "SELECT probability, decision, model_version FROM predictions WHERE transaction_id = 't-1'"
        ).fetchone()
    assert row == (answer["probability"], answer["decision"], answer["model_version"])
    assert answer["model_version"].startswith(f"fraud_detection_{bundle.metadata.algorithm}_v")


def test_health_says_that_the_model_is_of_simulated_data(address):
    health = httpx.get(f"{address}/health").json()

    assert health["trained_on"]["kind"] == "simulated"
    assert health["model_source"] == "registry"


def test_the_scoring_processes_have_loaded_no_training_library(quick, address):
    httpx.get(f"{address}/health")
    port = address.rsplit(":", 1)[1]
    (parent,) = (pid for pid in _pids() if f"--port\0{port}\0" in _command_line(pid))
    family = [parent, *(pid for pid in _pids() if _parent(pid) == parent)]

    assert len(family) > 1
    for pid in family:
        mapped = Path(f"/proc/{pid}/maps").read_text()
        assert "onnxruntime" in mapped or pid == parent
        assert not [name for name in TRAINING_LIBRARIES if f"/{name}" in mapped]


def _pids() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # It has ended since it was listed.
        return ""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def test_the_local_bundle_is_served_when_the_registry_is_away(quick):
    commands, _ = quick
    store = commands.root / "mlflow" / "mlflow.db"
    hidden = store.with_suffix(".away")
    store.rename(hidden)
    try:
        with commands.serve() as address:
            health = httpx.get(f"{address}/health").json()
    finally:
        hidden.rename(store)

    assert health["model_source"] == "local bundle"
    assert health["model_version"].startswith("fraud_detection_")


@pytest.mark.parametrize("pipeline", ["tuning", "training", "export"])
def test_a_pipeline_says_what_to_run_first(commands_in, tmp_path, pipeline):
    done = commands_in(tmp_path).kedro("run", "--env", "quick", f"--pipeline={pipeline}")

    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "run `kedro run --pipeline=data_processing` first" in line
    assert str(tmp_path) in line


@pytest.mark.parametrize(
    "command",
    [
        ("info",),
        ("registry", "list"),
        ("catalog", "describe-datasets"),
        ("champion", "show", "--env", "quick"),
    ],
)
def test_commands_print_nothing_but_their_own_output(quick, command):
    commands, _ = quick

    done = commands.kedro(*command)

    assert done.returncode == 0
    assert done.stderr == ""
    assert "arning" not in done.stdout


def test_kedro_viz_builds(quick, tmp_path):
    commands, _ = quick
    environment = {**commands.environment, "KEDRO_ENV": "quick"}

    done = subprocess.run(
        ["kedro", "viz", "build"], cwd=Path.cwd(), env=environment, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert "circular" not in done.stdout + done.stderr
