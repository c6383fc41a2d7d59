"""`benchmarks/quality.py`: a small table in full."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import quality
from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.registry import CANDIDATE_NAMES
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.simulator import simulate


@pytest.mark.slow
def test_a_small_table_is_judged_by_every_candidate_and_every_plain_model(tmp_path: Path) -> None:
    table, file = tmp_path / "table.csv", tmp_path / "figures.json"
    frame = pl.concat(simulate(SimulationOptions(rows=600, fraud_rate=0.2, seed=1)))
    frame.with_columns(sample_weight=1.5).write_csv(table)
    command = [sys.executable, quality.__file__, "--table", table, "--folds", "2", "--repeats", "1"]
    done = subprocess.run([*command, "--json", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert report["rows"] == frame.unique().height
    assert set(report["results"]) == {*quality.PLAIN, *CANDIDATE_NAMES}
    for model, judged in report["results"].items():
        for figure in ("average_precision", "roc_auc"):
            assert judged[figure]["low"] <= judged[figure]["mean"] <= judged[figure]["high"], model
            assert 0.5 < judged[figure]["mean"] <= 1
        assert model in done.stdout


def test_every_row_is_scored_by_models_that_have_not_seen_it() -> None:
    data = LabelledMatrix(
        np.arange(60, dtype=np.float32).reshape(-1, 1),
        np.tile([0, 0, 1], 20).astype(np.int8),
        np.ones(60),
    )

    def unseen(fit: LabelledMatrix, features: np.ndarray, _seed: int) -> np.ndarray:
        return np.array([float(row not in fit.features) for row in features])

    found = quality.out_of_fold({"unseen": unseen}, data, folds=3, repeats=2)
    assert found["unseen"].shape == (2, 60)
    assert found["unseen"].all()


def test_the_heaviest_rows_are_the_legitimate_ones_on_top() -> None:
    labels = np.array([0] * 10 + [1] * 5, dtype=np.int8)
    scores = np.concatenate([np.linspace(0, 0.5, 7), [2.0, 3.0, 4.0], np.ones(5)])
    data = LabelledMatrix(np.zeros((15, 1), np.float32), labels, np.ones(15))
    judged = quality.judge(scores[None], data)
    assert judged["average_precision_without_heavy_rows"]["mean"] == pytest.approx(1.0)
    assert judged["average_precision"]["mean"] < 0.7
