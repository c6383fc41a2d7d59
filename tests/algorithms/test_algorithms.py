"""What holds for every algorithm, and what only one of them needs."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import optuna
import pytest
from sklearn.metrics import roc_auc_score

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.parameters import STOPPING_FRAUDS
from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, get_algorithm
from fraud_kedro.errors import TrainingError

BOOSTERS = ("lightgbm", "xgboost")
QUICK = {
    "lightgbm": {"num_boost_round": 40},
    "xgboost": {"num_boost_round": 40},
    "random_forest": {"n_estimators": 20},
    "logistic_regression": {},
}

every_algorithm = pytest.mark.parametrize("name", ALGORITHM_NAMES)
every_booster = pytest.mark.parametrize("name", BOOSTERS)


def scores(name, data, rows, seed=3, **parameters):
    algorithm = get_algorithm(name)
    estimator = algorithm.fit(data, {**QUICK[name], **parameters}, seed=seed, n_jobs=1)
    return algorithm.log_odds(estimator, rows.features)


@every_algorithm
def test_scores_rank_frauds_above_legitimate_transactions(name, train, held_out):
    log_odds = scores(name, train, held_out)

    assert log_odds.dtype == np.float64
    assert log_odds.shape == (len(held_out),)
    assert np.isfinite(log_odds).all()
    assert roc_auc_score(held_out.labels, log_odds) > 0.85


@every_algorithm
def test_the_same_seed_gives_the_same_scores(name, train, held_out):
    np.testing.assert_array_equal(scores(name, train, held_out), scores(name, train, held_out))


@every_algorithm
def test_a_pickled_estimator_scores_as_before(name, train, held_out):
    algorithm = get_algorithm(name)
    estimator = algorithm.fit(train, QUICK[name], seed=1, n_jobs=1)

    copy = pickle.loads(pickle.dumps(estimator))

    before, after = (algorithm.log_odds(e, held_out.features) for e in (estimator, copy))
    np.testing.assert_array_equal(before, after)


@every_algorithm
def test_scores_stay_finite_at_the_largest_numbers(name, train):
    largest = np.finfo(np.float32).max
    rows = np.full((4, train.features.shape[1]), largest, dtype=np.float32)
    rows[1] = -largest
    rows[2, ::2] = -largest
    rows[3] = np.finfo(np.float32).smallest_subnormal
    algorithm = get_algorithm(name)
    estimator = algorithm.fit(train, QUICK[name], seed=1, n_jobs=1)

    assert np.isfinite(algorithm.log_odds(estimator, rows)).all()


@every_algorithm
def test_every_point_of_the_search_space_can_be_fitted(name, train):
    algorithm = get_algorithm(name)
    for seed in range(3):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        drawn = algorithm.suggest(study.ask())

        assert set(drawn) <= set(algorithm.defaults)
        estimator = algorithm.fit(train, {**drawn, **QUICK[name]}, seed=1, n_jobs=1)
        assert algorithm.fixed_parameters(estimator, drawn).keys() == algorithm.defaults.keys()


@every_algorithm
def test_the_defaults_lie_in_the_search_space(name):
    # So that a study can start from them.
    algorithm = get_algorithm(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(dict(algorithm.defaults))
    trial = study.ask()
    drawn = algorithm.suggest(trial)

    assert {key: drawn[key] for key in trial.params} == {key: algorithm.defaults[key] for key in trial.params}
    assert all(
        trial.distributions[key]._contains(trial.distributions[key].to_internal_repr(drawn[key]))
        for key in trial.params
    )


@every_algorithm
def test_an_unknown_parameter_lists_those_that_exist(name, train):
    with pytest.raises(TrainingError, match=r"no parameter 'depth_of_thought'.*fit_weights"):
        get_algorithm(name).fit(train, {"depth_of_thought": 3}, seed=1, n_jobs=1)


@every_algorithm
def test_rows_of_one_class_are_refused(name, train):
    legitimate = train.take(np.flatnonzero(train.labels == 0))

    with pytest.raises(TrainingError, match="needs both classes"):
        get_algorithm(name).fit(legitimate, {}, seed=1, n_jobs=1)


@every_algorithm
def test_frauds_without_weight_count_as_none(name, train):
    weightless = replace(train, weights=np.where(train.labels == 1, 0.0, 1.0))

    with pytest.raises(TrainingError, match="0 frauds"):
        get_algorithm(name).fit(weightless, {}, seed=1, n_jobs=1)


@every_algorithm
def test_an_unknown_kind_of_weights_lists_those_that_exist(name, train):
    with pytest.raises(TrainingError, match="sample, sqrt, none"):
        get_algorithm(name).fit(train, {"fit_weights": "cube"}, seed=1, n_jobs=1)


@every_algorithm
@pytest.mark.parametrize("kind", ["none", "sqrt", "sample"])
def test_rows_given_before_with_other_weights_give_the_same_fit_as_fresh_rows(name, train, held_out, kind):
    used = train.take(np.arange(len(train)))
    for other in ("sample", "sqrt", "none"):
        scores(name, used, held_out, fit_weights=other)
    fresh = train.take(np.arange(len(train)))

    np.testing.assert_array_equal(
        scores(name, used, held_out, fit_weights=kind), scores(name, fresh, held_out, fit_weights=kind)
    )


@every_algorithm
def test_weights_change_the_fit_unless_it_is_told_to_leave_them_out(name, train, held_out):
    # Weights that differ inside a class too: balanced classes cancel those that do not.
    uneven = replace(train, weights=np.where(train.features[:, 1] > 0, 9.0, 1.0))
    plain = replace(train, weights=np.ones(len(train)))

    def fitted(data, kind):
        return scores(name, data, held_out, fit_weights=kind)

    np.testing.assert_array_equal(fitted(uneven, "none"), fitted(plain, "none"))
    assert not np.array_equal(fitted(uneven, "sample"), fitted(plain, "sample"))


@every_booster
def test_few_frauds_do_not_choose_the_number_of_rounds(name, train, held_out):
    algorithm = get_algorithm(name)

    estimator = algorithm.fit(train, QUICK[name], seed=1, n_jobs=1, stopping=held_out)

    assert algorithm.fixed_parameters(estimator, QUICK[name])["num_boost_round"] == 40


def many_frauds(seed: int) -> LabelledMatrix:
    rng = np.random.default_rng(seed)
    labels = (rng.random(4000) < 0.25).astype(np.int8)
    features = rng.normal(size=(4000, 3)) + 0.5 * labels[:, None]
    return LabelledMatrix(features.astype(np.float32), labels, np.ones(4000))


@every_booster
def test_enough_frauds_stop_a_fit_that_no_longer_gets_better(name):
    algorithm = get_algorithm(name)
    train, stopping = many_frauds(1), many_frauds(2)
    assert stopping.labels.sum() > STOPPING_FRAUDS
    parameters = {"num_boost_round": 500, "patience": 20}

    stopped = algorithm.fit(train, parameters, seed=1, n_jobs=1, stopping=stopping)

    fixed = algorithm.fixed_parameters(stopped, parameters)
    assert fixed["num_boost_round"] < 300
    again = algorithm.fit(train, fixed, seed=1, n_jobs=1)
    np.testing.assert_allclose(
        algorithm.log_odds(stopped, stopping.features),
        algorithm.log_odds(again, stopping.features),
        atol=1e-9,
    )


@every_booster
def test_rows_to_stop_on_can_serve_several_fits(name):
    # The bins of one training part say nothing about another's.
    algorithm = get_algorithm(name)
    first, second, stopping = many_frauds(3), many_frauds(4), many_frauds(5)
    parameters = {"num_boost_round": 60, "patience": 60}

    def stopped(train, rows):
        estimator = algorithm.fit(train, parameters, seed=1, n_jobs=1, stopping=rows)
        return algorithm.log_odds(estimator, first.features)

    stopped(first, stopping)
    shared = stopped(second, stopping)

    fresh = stopped(second, stopping.take(np.arange(len(stopping))))
    np.testing.assert_array_equal(shared, fresh)


def test_a_search_grows_small_forests_and_finds_parameters_of_a_whole_one():
    algorithm = get_algorithm("random_forest")
    suggested = algorithm.suggest(optuna.create_study().ask())
    assert suggested["n_estimators"] < algorithm.defaults["n_estimators"]
    found = algorithm.fixed_parameters(None, suggested)
    assert found == {**suggested, "n_estimators": algorithm.defaults["n_estimators"]}


def test_a_forest_scores_the_same_to_the_last_bit_whatever_threads_it_was_fitted_with(train):
    algorithm = get_algorithm("random_forest")
    one, two = (
        algorithm.fit(train, {**algorithm.defaults, **QUICK["random_forest"]}, seed=1, n_jobs=threads)
        for threads in (1, 2)
    )
    expected = algorithm.log_odds(one, train.features)
    for _ in range(5):
        np.testing.assert_array_equal(algorithm.log_odds(two, train.features), expected)
