from __future__ import annotations

import pytest

from fraud_kedro.pipelines.training.drawing import draw
from fraud_kedro.pipelines.training.explaining import explain


@pytest.fixture(scope="module")
def figures(parts, candidate):
    contributions, importance = explain(candidate.evaluation_model, parts.test, candidate.training, 0)
    return draw(
        candidate.evaluation,
        candidate.validation_scores,
        candidate.test_scores,
        contributions,
        importance,
        parts.schema,
    )


def test_a_candidate_has_four_figures_that_name_it(figures, tmp_path):
    assert len(figures) == 4
    for number, figure in enumerate(figures):
        assert figure.get_suptitle().startswith("logistic_regression")
        figure.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")


def test_the_explanation_shows_contributions_beside_the_values_of_their_own_feature(figures, parts):
    _, mean, summary = figures[3].axes
    shown = [tick.get_text() for tick in summary.get_yticklabels()]
    assert shown == [tick.get_text() for tick in mean.get_yticklabels()]
    assert set(shown) <= set(parts.schema.features)


def test_the_decisions_are_those_of_the_evaluation(figures, candidate):
    told = figures[2].axes[1].texts[0].get_text().splitlines()[0].replace(",", "")
    assert float(told) == candidate.evaluation.decisions["approve"]["legitimate"]
