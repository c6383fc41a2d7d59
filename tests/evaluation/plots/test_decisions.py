from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fraud_kedro.champion.bundle import Thresholds
from fraud_kedro.evaluation.plots.decisions import decision_figure
from fraud_kedro.evaluation.thresholds import Costs, decision_costs

CUTS = Thresholds(flag=0.1, decline=0.6, policy="expected_cost")
COUNTS = {
    "approve": {"legitimate": 900.0, "fraud": 2.0},
    "review": {"legitimate": 90.0, "fraud": 3.0},
    "decline": {"legitimate": 10.0, "fraud": 5.0},
}


def test_the_curves_show_the_mean_cost_at_every_threshold(many_rows):
    held_out, test = many_rows(1), many_rows(2)
    curve, _ = decision_figure("a", held_out, test, CUTS, Costs(), COUNTS).axes
    lines = {line.get_label(): line for line in curve.lines}
    for rows, name in ((held_out, "validation"), (test, "test")):
        flags, costs = lines[name].get_data()
        for index in (0, 200, 350, len(flags) - 2):
            cuts = Thresholds(flag=flags[index], decline=max(0.6, flags[index]), policy="")
            each = decision_costs(rows, cuts, Costs())
            assert costs[index] == pytest.approx(np.average(each, weights=rows.weights))
    dotted = [line.get_ydata()[0] for line in curve.lines if line.get_linestyle() == ":"]
    nothing = [np.average(rows.amounts * rows.labels, weights=rows.weights) for rows in (held_out, test)]
    assert dotted == pytest.approx(nothing)
    assert [text.get_text() for text in curve.texts] == ["flag", "decline"]


def test_the_matrix_shows_counts_and_the_share_of_their_class(many_rows):
    _, matrix = decision_figure("a", many_rows(1), many_rows(2), CUTS, Costs(), COUNTS).axes
    assert [text.get_text() for text in matrix.texts] == [
        "900\n90.00%",
        "90\n9.00%",
        "10\n1.00%",
        "2\n20.00%",
        "3\n30.00%",
        "5\n50.00%",
    ]
    assert [tick.get_text() for tick in matrix.get_yticklabels()] == ["legitimate", "fraud"]


def test_what_costs_nothing_can_be_drawn(many_rows, tmp_path):
    rows = replace(many_rows(), amounts=np.zeros(4000))
    free = Costs(review_cost=0.0, false_decline_cost=0.0)
    figure = decision_figure("a", rows, rows, CUTS, free, COUNTS)
    figure.savefig(tmp_path / "a.png")
    assert figure.axes[0].get_yscale() == "linear"
