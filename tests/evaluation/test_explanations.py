from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import shap
import xgboost
from hypothesis import given
from hypothesis import strategies as st

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.model import EnsembleModel, FraudModel
from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, get_algorithm
from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation import explanations
from fraud_kedro.evaluation.calibration import BetaCalibration, IdentityCalibration, PlattCalibration
from fraud_kedro.evaluation.explanations import Explanation, explain
from fraud_kedro.schema import ResolvedSchema

FEATURES = ("Time", "V1", "V2", "V3", "Amount")
QUICK = {
    "lightgbm": {"num_boost_round": 20},
    "xgboost": {"num_boost_round": 20},
    "random_forest": {"n_estimators": 10},
    "logistic_regression": {},
}
every_algorithm = pytest.mark.parametrize("name", ALGORITHM_NAMES)


def draw(size, seed):
    generator = np.random.default_rng(seed)
    labels = (np.arange(size) % 8 == 0).astype(np.int8)
    features = generator.normal(size=(size, 5))
    features[:, 1] += 2 * labels
    features[:, 2] -= labels
    # Nothing to be learnt from a constant.
    features[:, 3] = 1.5
    features[:, 0] = generator.uniform(0, 86_400, size)
    return LabelledMatrix(features.astype(np.float32), labels, np.ones(size))


@pytest.fixture(scope="module")
def models():
    schema = ResolvedSchema(
        time="Time", time_use="hour_of_day", amount="Amount", label="Class", features=FEATURES
    )
    return {
        name: FraudModel(
            name,
            get_algorithm(name).fit(draw(1000, 1), QUICK[name], seed=0, n_jobs=1),
            IdentityCalibration(),
            schema,
        )
        for name in ALGORITHM_NAMES
    }


@pytest.fixture(scope="module")
def rows():
    return draw(60, 2).features


def sums(explanation):
    return explanation.base + explanation.contributions.sum(axis=1)


@every_algorithm
@pytest.mark.parametrize(
    "calibration",
    [
        IdentityCalibration(),
        PlattCalibration(slope=0.6, intercept=-2.0),
        BetaCalibration(lower_slope=0.8, upper_slope=1.2, intercept=-1.0),
    ],
    ids=lambda calibration: calibration.method,
)
def test_contributions_add_up_to_the_calibrated_log_odds(models, rows, name, calibration):
    model = replace(models[name], calibration=calibration)
    explanation = explain(model, rows)
    np.testing.assert_allclose(explanation.scores, model.log_odds(rows))
    np.testing.assert_allclose(sums(explanation), explanation.scores, atol=1e-4)


@every_algorithm
def test_what_cannot_be_learnt_from_contributes_nothing(models, rows, name):
    contributions = explain(models[name], rows).contributions
    np.testing.assert_allclose(contributions[:, 3], 0.0, atol=1e-9)
    sizes = np.abs(contributions).mean(axis=0)
    assert np.argmax(sizes) == 1
    assert sizes[1] > 0.3


@every_algorithm
def test_time_is_explained_as_the_model_reads_it(models, rows, name):
    later = rows.copy()
    later[:, 0] += 10 * 86_400
    np.testing.assert_allclose(
        explain(models[name], later).contributions, explain(models[name], rows).contributions, atol=0.05
    )


def test_boosted_contributions_are_those_the_libraries_compute_themselves(models, rows):
    booster = models["lightgbm"].estimator
    booster = getattr(booster, "booster_", booster)
    np.testing.assert_allclose(
        explain(models["lightgbm"], rows).contributions,
        booster.predict(rows, pred_contrib=True)[:, :-1],
        atol=1e-8,
    )
    booster = models["xgboost"].estimator
    booster = booster.get_booster() if hasattr(booster, "get_booster") else booster
    expected = booster.predict(xgboost.DMatrix(rows), pred_contribs=True)
    found = explain(models["xgboost"], rows)
    np.testing.assert_allclose(found.contributions, expected[:, :-1], atol=1e-4)
    assert found.base == pytest.approx(expected[0, -1], abs=1e-4)


def test_a_forests_contributions_keep_the_proportions_they_have_in_probability(models, rows):
    found = explain(models["random_forest"], rows).contributions
    raw = shap.TreeExplainer(models["random_forest"].estimator).shap_values(rows)[..., 1]
    total = raw.sum(axis=1, keepdims=True)
    clear = np.abs(total[:, 0]) > 1e-6
    np.testing.assert_allclose(
        (found / found.sum(axis=1, keepdims=True))[clear], (raw / total)[clear], rtol=1e-6, atol=1e-9
    )


def test_linear_contributions_are_0_on_average_and_move_with_their_feature_alone(models):
    model, features = models["logistic_regression"], draw(1000, 1).features
    np.testing.assert_allclose(explain(model, features).contributions.mean(axis=0), 0.0, atol=1e-6)
    pair = np.vstack([features[:1], features[:1]])
    pair[1, 1] += 1.0
    change = np.diff(explain(model, pair).contributions, axis=0)[0]
    assert change[1] == pytest.approx(np.diff(model.log_odds(pair))[0])
    assert change[[0, 2, 3, 4]].tolist() == [0.0] * 4


def test_an_ensembles_contributions_are_the_mean_of_its_members(models, rows):
    members = tuple(models.values())
    explanation = explain(EnsembleModel(members, IdentityCalibration()), rows)
    each = [explain(member, rows).contributions for member in members]
    np.testing.assert_allclose(explanation.contributions, np.mean(each, axis=0), atol=1e-4)
    calibrated = EnsembleModel(members, PlattCalibration(slope=2.0, intercept=1.0))
    np.testing.assert_allclose(sums(explain(calibrated, rows)), calibrated.log_odds(rows), atol=1e-4)


@pytest.mark.parametrize("name", ["random_forest", "logistic_regression"])
def test_a_model_that_has_learnt_nothing_explains_every_score_by_its_base(models, name):
    generator = np.random.default_rng(0)
    data = LabelledMatrix(
        np.ones((200, 5), dtype=np.float32), (generator.random(200) < 0.2).astype(np.int8), np.ones(200)
    )
    estimator = get_algorithm(name).fit(data, QUICK[name], seed=0, n_jobs=1)
    explanation = explain(replace(models[name], estimator=estimator), data.features[:5])
    np.testing.assert_allclose(explanation.contributions, 0.0, atol=1e-9)
    np.testing.assert_allclose(explanation.scores, explanation.base)


def test_an_algorithm_without_trees_or_coefficients_is_explained_by_permutations(models, rows, monkeypatch):
    class Additive:
        def log_odds(self, _, features):
            return 2.0 * features[:, 1].astype(np.float64) - features[:, 2]

        def trees(self, _):
            return None

    monkeypatch.setattr(explanations, "get_algorithm", lambda _: Additive())
    monkeypatch.setattr("fraud_kedro.algorithms.model.get_algorithm", lambda _: Additive())
    model = replace(models["xgboost"], estimator=SimpleNamespace())
    explanation = explain(model, rows)
    np.testing.assert_allclose(sums(explanation), model.log_odds(rows), atol=1e-4)
    spread = explanation.contributions[:, 1] - 2.0 * rows[:, 1]
    np.testing.assert_allclose(spread, spread[0], atol=1e-4)
    np.testing.assert_allclose(explanation.contributions[:, [0, 3, 4]], 0.0, atol=1e-6)


def test_another_kind_of_model_is_refused_in_one_line(rows):
    with pytest.raises(TrainingError, match="type SimpleNamespace cannot be explained"):
        explain(SimpleNamespace(), rows)


@given(
    st.lists(st.lists(st.floats(-3, 3), min_size=3, max_size=3), min_size=1, max_size=5),
    st.floats(-5, 5),
    st.floats(0.1, 3),
)
def test_rescaling_keeps_signs_and_proportions_and_adds_up(contributions, base, slope):
    values = np.array(contributions)
    scores = base + values.sum(axis=1)
    before = Explanation(base, values, scores)

    def link(x):
        return slope * x + np.tanh(x)

    after = before.rescaled(link, link(scores))
    assert after.base == pytest.approx(link(base))
    np.testing.assert_allclose(sums(after), after.scores, atol=1e-6 + 1e-3 * 1e-4)
    assert (after.contributions * values >= 0).all()
