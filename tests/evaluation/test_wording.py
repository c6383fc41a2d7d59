from __future__ import annotations

import pytest

from fraud_kedro.champion.bundle import Metric
from fraud_kedro.evaluation.wording import figure_title, interval_text, metric_text


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("roc_auc", "AUC-ROC"),
        ("precision_at_250_per_day", "Precision of 250 alerts a day"),
        ("of_my_own", "of_my_own"),
    ],
)
def test_a_figure_has_a_title_or_keeps_its_name(name, title):
    assert figure_title(name) == title


def test_a_figure_is_shown_with_its_interval_where_it_has_one():
    assert metric_text(Metric(value=0.87654, low=0.5, high=1.0)) == "0.8765 (0.5 to 1)"
    assert metric_text(Metric(value=0.5)) == "0.5"
    assert metric_text(None) == ""
    assert interval_text(-0.01, 0.02, "+") == "-0.01 to +0.02"
    assert interval_text(None, None) == ""
