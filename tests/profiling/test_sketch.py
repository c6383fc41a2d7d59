from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from fraud_kedro.profiling.sketch import MOST_VALUES, RELATIVE_ERROR, Sketch, pick_centre, separation

LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
arrays = st.lists(finite, min_size=1, max_size=120).map(np.array)
centres = st.sampled_from([0.0, 3.25, -1e6])


def order_statistics(values, levels=LEVELS):
    return np.sort(values)[np.maximum(np.ceil(np.array(levels) * len(values)).astype(int), 1) - 1]


def close(estimates, values, centre):
    true = order_statistics(values)
    # The differences to the centre are rounded, too.
    allowed = RELATIVE_ERROR * np.abs(true - centre) + 1e-12 * abs(centre) + 1e-307
    return bool((np.abs(np.array(estimates) - true) <= allowed).all())


@given(arrays, centres)
def test_quantiles_are_as_close_as_promised(values, centre):
    sketch = Sketch.of(values, centre, count_values=False)
    assert close(sketch.quantiles(LEVELS), values, centre)


def test_an_outlier_costs_the_other_values_no_precision():
    values = np.append(np.random.default_rng(0).lognormal(size=10_000), [-9_999.0, 1e300])
    assert close(Sketch.of(values).quantiles(LEVELS), values, 0.0)


def test_epoch_seconds_keep_their_minutes():
    values = 1.7e9 + np.random.default_rng(0).uniform(0, 86_400, 50_000)
    estimates = Sketch.of(values, pick_centre(values)).quantiles(LEVELS)
    assert np.abs(np.array(estimates) - order_statistics(values)).max() < 60


@given(arrays, arrays, centres)
def test_merging_gives_the_sketch_of_all_values(one, other, centre):
    merged = Sketch.of(one, centre).merge(Sketch.of(other, centre))
    whole = Sketch.of(np.concatenate([one, other]), centre)
    assert (merged.count, merged.zeros, merged.low, merged.high) == (
        whole.count,
        whole.zeros,
        whole.low,
        whole.high,
    )
    assert merged.values == whole.values
    assert merged.quantiles(LEVELS) == whole.quantiles(LEVELS)
    largest = max(abs(whole.low), abs(whole.high))
    assert merged.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-12 * largest)
    assert merged.std == pytest.approx(whole.std, rel=1e-6, abs=1e-9 * largest)


@given(arrays)
def test_moments_are_those_of_numpy_unless_its_squares_overflow(values):
    sketch = Sketch.of(values)
    assert sketch.mean == values.mean()
    assert math.isfinite(sketch.std)
    largest = np.abs(values).max()
    if largest > 1e-290 and values.size > 1:
        assert sketch.std / largest == pytest.approx((values / largest).std(ddof=1), rel=1e-6, abs=1e-9)


@given(arrays, st.lists(finite, min_size=1, max_size=10, unique=True).map(sorted))
def test_every_value_is_in_one_interval(values, edges):
    for count_values in (True, False):
        counts = Sketch.of(values, count_values=count_values).counts_between(np.array(edges))
        assert counts.size == len(edges) + 1
        assert counts.sum() == values.size


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60), st.lists(st.integers(-5, 5), min_size=1))
def test_few_values_are_counted_exactly(one, other):
    values = np.array([*one, *other], dtype=float)
    sketch = Sketch.of(np.array(one, dtype=float)).merge(Sketch.of(np.array(other, dtype=float)))
    assert sketch.values == {value: list(values).count(value) for value in set(values)}
    assert sketch.quantiles(LEVELS) == tuple(order_statistics(values))
    edges = np.arange(-5.0, 6.0)
    expected = np.histogram(values, np.append(edges, np.inf))[0]
    assert sketch.counts_between(edges).tolist() == [0, *expected]


def test_more_values_than_are_kept_are_no_longer_counted_one_by_one():
    kept = Sketch.of(np.arange(float(MOST_VALUES)))
    assert len(kept.values) == MOST_VALUES
    assert kept.merge(Sketch.of(np.array([-1.0]))).values is None
    assert Sketch.of(np.arange(MOST_VALUES + 1.0)).values is None


def test_negative_zero_is_zero():
    sketch = Sketch.of(np.array([0.0, -0.0, 1.0]))
    assert sketch.zeros == 2
    assert sketch.values == {0.0: 2, 1.0: 1}


def test_values_that_are_not_finite_are_left_out():
    assert Sketch.of(np.array([1.0, np.nan, np.inf, -np.inf, 3.0])).count == 2
    empty = Sketch.of(np.array([np.nan]))
    assert empty.count == 0
    some = Sketch.of(np.array([1.0]))
    assert empty.merge(some) is some
    assert some.merge(empty) is some


def test_sketches_around_different_centres_do_not_merge():
    with pytest.raises(ValueError, match="do not merge"):
        Sketch.of(np.array([1.0]), 0.0).merge(Sketch.of(np.array([1.0]), 1.0))


@pytest.mark.parametrize(
    ("values", "centre"),
    [
        ([0.0, 5.0], 0.0),
        ([-3.0, 1.0], 0.0),
        ([2.0, 9.0], 0.0),
        ([100.0, 110.0], 105.0),
        ([], 0.0),
        ([7.0], 7.0),
    ],
)
def test_the_centre_is_zero_unless_zero_is_far(values, centre):
    assert pick_centre(np.array([*values, np.nan])) == centre


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.integers(1, 200), st.booleans())
def test_separation_is_that_of_scipy_and_scikit_learn(seed, shift, rows, rounded):
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=300), rng.normal(shift, size=rows)
    if rounded:
        one, other = one.round(), other.round()
    auc, ks = separation(Sketch.of(one), Sketch.of(other))
    labels = np.repeat([0, 1], [one.size, other.size])
    tolerance = 1e-9 if rounded else 0.01
    assert auc == pytest.approx(roc_auc_score(labels, np.concatenate([one, other])), abs=tolerance)
    assert ks == pytest.approx(ks_2samp(one, other).statistic, abs=2 * tolerance)


def test_separation_needs_no_luck_where_both_classes_are_the_same():
    assert separation(Sketch.of(np.full(5, 3.0)), Sketch.of(np.full(9, 3.0))) == (0.5, 0.0)
