from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from fraud_kedro.evaluation.plots.style import panels, share_axis


@pytest.mark.parametrize("long_labels", [False, True])
def test_panels_have_titles_and_leave_no_figure_open(long_labels):
    figure, axes = panels("whole", ("one", "two"), long_labels=long_labels)
    assert [each.get_title() for each in axes] == ["one", "two"]
    assert figure.get_suptitle() == "whole"
    assert plt.get_fignums() == []


def test_shares_lie_on_powers_of_ten():
    _, (axes,) = panels("whole", ("one",))
    share_axis(axes, "share")
    assert (axes.get_xscale(), axes.get_xlim(), axes.get_xlabel()) == ("log", (1e-5, 1.0), "share")
    assert axes.get_xticks(minor=True).size == 0
