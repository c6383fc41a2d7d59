"""`benchmarks/tuning.py`: a small table in full, and how its figures are read."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from benchmarks import tuning
from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, get_algorithm
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.simulator import simulate

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "tuning.py"


def _result(program: str, seconds: float, *steps: tuple[float, float]) -> dict[str, Any]:
    return {
        "program": program,
        "seconds": seconds,
        "steps": [
            {"seconds": at, "own_value": 0.5, "what": "lightgbm", "fit_seconds": 1.0, "judged": judged}
            for at, judged in steps
        ],
    }


@pytest.mark.slow
def test_a_small_table_is_searched_by_all_programs(tmp_path: Path) -> None:
    table, file = tmp_path / "table.parquet", tmp_path / "new" / "figures.json"
    frame = pl.concat(simulate(SimulationOptions(rows=800, fraud_rate=0.2, seed=1)))
    frame.write_parquet(table)
    command = [
        sys.executable,
        PROGRAM,
        "--table",
        table,
        "--seconds",
        "0.5",
        "--threads",
        "1",
        "--json",
        file,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    (repetition,) = report["repetitions"]
    searched, judged = repetition["parts"]["search"], repetition["parts"]["judged"]
    assert searched["rows"] + judged["rows"] == frame.unique().height
    assert judged["frauds"] / (searched["frauds"] + judged["frauds"]) == pytest.approx(0.3, abs=0.01)
    ours, plain, automl = repetition["results"]
    for found in (ours, plain):
        own = [step["own_value"] for step in found["steps"]]
        assert own == sorted(own)
        assert all(0.3 < step["judged"] <= 1 for step in found["steps"])
        low, high = found["interval"]
        assert low <= found["steps"][-1]["judged"] <= high
    if importlib.util.find_spec("flaml") is None:
        assert automl == {"program": "baseline: FLAML", "failure": "not installed (pip install flaml)"}
    difference, low, high = repetition["comparison"]["baseline: cross_val_score"]["at_the_end"]
    assert difference == pytest.approx(ours["steps"][-1]["judged"] - plain["steps"][-1]["judged"])
    assert low <= high
    assert "| 1 | this project |" in done.stdout
    assert "baseline: cross_val_score" in file.with_suffix(".html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ALGORITHM_NAMES)
def test_every_algorithm_has_an_estimator_that_fits(name: str) -> None:
    import optuna

    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    parameters = get_algorithm(name).suggest(trial)
    del parameters["fit_weights"]
    estimator, prefix = tuning.scikit_learn_estimator(name, parameters, 1, 1)
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(80, 3)), np.arange(80) % 2
    estimator.fit(features, labels, **{f"{prefix}sample_weight": np.ones(80)})
    assert estimator.predict_proba(features).shape == (80, 2)


def test_only_what_the_program_itself_holds_for_better_is_judged() -> None:
    found = [tuning.Found(at, value, "x", lambda rows: rows) for at, value in enumerate((0.3, 0.2, 0.5, 0.5))]
    assert [one.seconds for one in tuning.better_and_better(found)] == [0, 2]


def test_the_best_after_some_time_is_what_had_been_found_by_then() -> None:
    result = _result("this project", 30, (5, 0.6), (10, 0.5), (20, 0.8))
    assert [tuning.step_at(result, seconds) for seconds in (4, 5, 19, 100)] == [None, 0, 1, 2]
    assert tuning.seconds_to(result, 0.7) == 20
    assert tuning.seconds_to(result, 0.9) is None


def test_shares_of_time_are_of_the_other_programs_time() -> None:
    labels = np.array([1, 1, 0, 0, 0, 0], dtype=np.int8)
    judged = LabelledMatrix(np.zeros((6, 1), dtype=np.float32), labels, np.ones(6))
    perfect, poor = np.array([6, 5, 4, 3, 2, 1.0]), np.array([6, 1, 5, 4, 3, 2.0])
    ours = _result("this project", 30, (5, 0.5), (12, 1.0)) | {"scores": np.array([poor, perfect])}
    plain = _result("baseline: cross_val_score", 60, (50, 1.0)) | {"scores": np.array([perfect])}
    absent = {"program": "baseline: FLAML", "failure": "not installed"}
    comparison = tuning.compare([ours, plain, absent], judged)
    assert list(comparison) == ["baseline: cross_val_score"]
    against = comparison["baseline: cross_val_score"]
    assert against["share_of_its_time_to_its_final_value"] == pytest.approx(12 / 60)
    assert against["at_the_end"] == [0, 0, 0]
    assert against["after_a_tenth_of_its_time"][0] < 0


def test_a_program_that_is_not_installed_is_one_line() -> None:
    absent = {"program": "baseline: FLAML", "failure": "not installed (pip install flaml)"}
    text = tuning.markdown([{"results": [absent], "comparison": {}}])
    assert "| 1 | baseline: FLAML | not installed (pip install flaml) |" in text
