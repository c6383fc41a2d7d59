from __future__ import annotations

import numpy as np
import pytest

from fraud_kedro.evaluation.plots.explanation import explanation_figure

NAMES = [f"a_rather_long_name_{number}" for number in range(20)]


@pytest.fixture
def figure():
    generator = np.random.default_rng(0)
    contributions = generator.normal(size=(50, 20)) * np.arange(20)
    falls = np.vstack([np.arange(20)[::-1] / 100, np.arange(20)[::-1] / 50])
    return explanation_figure(
        "a", NAMES, falls, generator.normal(size=(50, 20)), contributions, np.linspace(1, 2, 50)
    )


def labels(axes):
    return [tick.get_text() for tick in axes.get_yticklabels()]


def test_the_leading_features_are_shown_the_first_on_top(figure):
    permuted, mean, summary = figure.axes
    assert labels(permuted) == NAMES[14::-1]
    assert labels(mean)[-1] == labels(summary)[-1] == NAMES[19]
    assert labels(mean) == labels(summary)
    assert len(labels(mean)) == 15


def test_bars_are_the_weighted_mean_size_of_contributions(figure):
    generator = np.random.default_rng(0)
    sizes = np.abs(generator.normal(size=(50, 20)) * np.arange(20))
    expected = np.average(sizes, axis=0, weights=np.linspace(1, 2, 50))
    widths = [bar.get_width() for bar in figure.axes[1].patches]
    assert widths == pytest.approx(sorted(expected)[-15:])


def test_the_summary_has_a_dot_for_every_row_and_feature(figure):
    (dots,) = (each for each in figure.axes[2].collections if len(each.get_offsets()) > 1)
    places = dots.get_offsets()
    assert len(places) == 50 * 15
    assert np.abs(places[:, 1] - np.round(places[:, 1])).max() <= 0.3


def test_few_features_that_do_nothing_can_be_drawn(tmp_path):
    nothing = np.zeros((4, 2))
    explanation_figure("a", ["x", "y"], nothing[:1], nothing, nothing, np.ones(4)).savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
