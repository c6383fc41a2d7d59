"""The same seed, data and lock give the same search, champion and graphs, bit for bit."""

from __future__ import annotations

import json

import polars as pl
import pytest

from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, CANDIDATE_NAMES

pytestmark = pytest.mark.slow

GRAPHS = [f"{name}_{kind}" for name in CANDIDATE_NAMES for kind in ("graph", "evaluation_graph")]


@pytest.fixture(scope="module")
def roots(quick, commands_in, tmp_path_factory):
    """Two roots of the quick way; in the second, what graphs and champion are made by."""
    commands, _ = quick
    again = commands_in(tmp_path_factory.mktemp("again"))
    again.train("--env", "quick", f"--to-outputs={','.join(['comparison', *GRAPHS])}")
    return commands.root, again.root


@pytest.mark.parametrize("name", CANDIDATE_NAMES)
def test_graphs_have_the_same_bytes(roots, name):
    for file in ("model.onnx", "evaluation.onnx"):
        first, second = ((root / "06_models" / name / file).read_bytes() for root in roots)
        assert first == second


def test_trials_are_the_same_but_for_their_time(roots):
    for name in ALGORITHM_NAMES:
        first, second = (
            pl.read_csv(root / "08_reporting" / name / "trials.csv").drop("seconds") for root in roots
        )
        assert first.equals(second)
        assert len(first) > 1


def test_champion_thresholds_and_figures_with_their_intervals_are_the_same(roots):
    first, second = ((root / "08_reporting" / "comparison.json").read_bytes() for root in roots)
    assert json.loads(first)["champion"] in CANDIDATE_NAMES
    assert first == second
