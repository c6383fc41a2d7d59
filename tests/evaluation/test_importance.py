from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.evaluation import importance
from fraud_kedro.evaluation.importance import class_sample, permutation_importance


@given(
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 1.0, 5.0])), min_size=1, max_size=60),
    st.integers(1, 80),
)
def test_a_sample_stands_for_all_rows_class_by_class(rows, wanted):
    labels = np.array([label for label, _ in rows], dtype=np.int8)
    weights = np.array([weight for _, weight in rows])
    chosen, weighed = class_sample(labels, weights, wanted, 1)
    assert len(chosen) == min(wanted, len(rows)) == len(set(chosen.tolist()))
    assert (np.diff(chosen) > 0).all()
    for label in (0, 1):
        drawn = weighed[labels[chosen] == label].sum()
        if drawn > 0:
            assert drawn == pytest.approx(weights[labels == label].sum())


def test_half_of_a_sample_are_frauds_where_there_are_so_many():
    labels = np.repeat([0, 1], [900, 100]).astype(np.int8)
    for wanted, frauds in ((40, 20), (400, 100), (980, 100)):
        chosen, _ = class_sample(labels, np.ones(1000), wanted, 0)
        assert labels[chosen].sum() == frauds


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(2000, 4)).astype(np.float32)
    labels = (features[:, 0] + 0.5 * features[:, 1] > 2).astype(np.int8)
    return LabelledMatrix(features, labels, generator.choice([1.0, 4.0], 2000))


def score(features):
    return features[:, 0].astype(np.float64) + 0.5 * features[:, 1]


def test_a_feature_matters_as_much_as_the_score_leans_on_it(data):
    first, second, *others = permutation_importance(score, data, repeats=3, seed=0).mean(axis=0)
    assert first > second > 0.1
    assert others == [0.0, 0.0]


def test_a_constant_score_depends_on_nothing(data):
    falls = permutation_importance(lambda rows: np.zeros(len(rows)), data, repeats=1, seed=0)
    assert falls.tolist() == [[0.0] * 4]


def test_the_falls_are_the_same_in_small_calls(data, monkeypatch):
    at_once = permutation_importance(score, data, repeats=2, seed=5)
    monkeypatch.setattr(importance, "CELLS", data.features.size * 2)
    lengths = []

    def noted(rows):
        lengths.append(len(rows))
        return score(rows)

    np.testing.assert_array_equal(permutation_importance(noted, data, repeats=2, seed=5), at_once)
    assert max(lengths) == 4000


def test_rows_of_weight_zero_lend_no_values(data):
    silent = LabelledMatrix(
        np.vstack([data.features, np.full((500, 4), 1e6, dtype=np.float32)]),
        np.append(data.labels, np.zeros(500, dtype=np.int8)),
        np.append(data.weights, np.zeros(500)),
    )
    seen = []

    def noted(rows):
        seen.append(rows[:2000].max())
        return score(rows)

    permutation_importance(noted, silent, repeats=1, seed=0)
    assert max(seen) < 1e6
