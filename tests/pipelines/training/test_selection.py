from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from fraud_kedro.algorithms.model import FraudModel
from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, CANDIDATE_NAMES, ENSEMBLE
from fraud_kedro.champion.bundle import Thresholds
from fraud_kedro.errors import TrainingError
from fraud_kedro.evaluation.calibration import IdentityCalibration
from fraud_kedro.pipelines.training.nodes import combine
from fraud_kedro.pipelines.training.options import TrainingOptions
from fraud_kedro.pipelines.training.selection import choose_champion
from fraud_kedro.pipelines.tuning.options import TuningOptions

LABELS = np.repeat([0, 1], [2000, 100])
NOISE = {name: np.random.default_rng(n).normal(size=2100) for n, name in enumerate(CANDIDATE_NAMES)}


@pytest.fixture
def choose(parts, training):
    def choose(strengths, objective="average_precision", flags=None, amount=100.0, noise=None):
        schema = parts.schema
        validated = []
        for name in CANDIDATE_NAMES:
            log_odds = strengths[name] * LABELS + (noise or NOISE)[name] - 4
            validated += [
                pl.DataFrame(
                    {
                        schema.label: LABELS,
                        schema.amount: np.full(2100, amount),
                        schema.time: np.arange(2100.0),
                        "probability": expit(log_odds),
                    }
                ),
                Thresholds(flag=(flags or {}).get(name, 0.5), decline=1.0, policy="expected_cost"),
            ]
        tuning = TuningOptions(objective=objective, storage="sqlite://")
        return choose_champion(tuning, training, schema, 0, *validated)

    return choose


@pytest.fixture
def training():
    return TrainingOptions.model_validate(
        {"thresholds": {"kind": "expected_cost"}, "bootstrap_repetitions": 100}
    )


def test_a_candidate_that_is_clearly_better_than_the_ensemble_is_chosen(choose):
    choice = choose({name: 2.0 for name in CANDIDATE_NAMES} | {"lightgbm": 5.0})
    assert choice.champion == "lightgbm"
    assert choice.standings[0].algorithm == "lightgbm"
    assert "lightgbm has the best average_precision on validation rows" in choice.reason


def test_the_ensemble_is_chosen_where_it_is_the_best(choose):
    choice = choose({name: 2.0 for name in CANDIDATE_NAMES} | {ENSEMBLE: 5.0})
    assert choice.champion == ENSEMBLE
    assert choice.reason == "the ensemble has the best average_precision on validation rows"


def test_the_ensemble_is_chosen_where_the_best_is_ahead_by_chance(choose):
    noise = {**NOISE, ENSEMBLE: NOISE["lightgbm"] - 0.3 * NOISE[ENSEMBLE]}
    strengths = dict.fromkeys(CANDIDATE_NAMES, 0.0) | {"lightgbm": 3.0, ENSEMBLE: 3.0}
    choice = choose(strengths, noise=noise)
    best, second = choice.standings[:2]
    assert best.algorithm != ENSEMBLE
    assert choice.champion == second.algorithm == ENSEMBLE
    assert 0 < second.behind < second.standard_error
    assert choice.reason.startswith(f"the ensemble is as good as {best.algorithm}: behind by 0.")


def test_candidates_stand_in_the_order_of_the_objective(choose):
    choice = choose({name: float(n) for n, name in enumerate(CANDIDATE_NAMES)}, objective="roc_auc")
    values = [standing.value for standing in choice.standings]
    assert values == sorted(values, reverse=True)
    assert [s.behind for s in choice.standings] == pytest.approx([values[0] - value for value in values])


def test_by_cost_the_thresholds_decide(choose):
    # The ranking is the same for all; only xgboost's threshold catches the frauds.
    same = {name: 6.0 for name in CANDIDATE_NAMES}
    choice = choose(same, "expected_cost", flags={name: 1.0 for name in CANDIDATE_NAMES} | {"xgboost": 0.4})
    assert choice.champion == "xgboost"
    assert choice.standings[0].value > 0.5
    assert choice.standings[-1].value == 0.0


def test_by_cost_frauds_without_amounts_are_refused(choose):
    with pytest.raises(TrainingError, match=r"expected_cost is not defined.*have no amount"):
        choose({name: 2.0 for name in CANDIDATE_NAMES}, "expected_cost", amount=0.0)


def combined(parts, training, strengths):
    """The ensemble of members that know so much of the label, on rows of the validation part."""
    schema, frame = parts.schema, parts.validation
    labels = frame[schema.label].to_numpy()
    given = []
    for number, name in enumerate(ALGORITHM_NAMES):
        noise = np.random.default_rng(number).normal(size=len(labels))
        scores = frame.with_columns(pl.Series("probability", expit(strengths[name] * labels + noise - 4)))
        model = FraudModel(name, None, IdentityCalibration(), schema, {})
        given += [model, model, scores]
    return combine(TuningOptions(storage="sqlite://"), training, schema, 0, *given)


def test_members_as_good_as_each_other_are_all_in_the_ensemble(parts, training):
    evaluation_model, model, _ = combined(parts, training, dict.fromkeys(ALGORITHM_NAMES, 3.0))
    assert [member.algorithm for member in model.members] == list(ALGORITHM_NAMES)
    assert evaluation_model.members == model.members


def test_a_member_that_knows_nothing_is_left_out_of_the_ensemble(parts, training):
    strengths = dict.fromkeys(ALGORITHM_NAMES, 3.0) | {"random_forest": -3.0}
    _, model, scores = combined(parts, training, strengths)
    assert "random_forest" not in {member.algorithm for member in model.members}
    assert len(model.members) >= 2
    assert scores["probability"].is_between(0, 1).all()
