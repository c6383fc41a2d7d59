from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from evidently.legacy.calculations.stattests import ks_stat_test, wasserstein_stat_test
from evidently.legacy.core import ColumnType
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from fraud_kedro.monitoring.drift_tests import (
    distance,
    holm,
    rate_p_value,
    risen_p_value,
    shares_p_value,
    stability_index,
    total_variation,
)

P_VALUES = arrays.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1))
COUNTS = arrays.arrays(np.float64, 8, elements=st.integers(1, 1000))


@pytest.mark.parametrize(("before", "now"), [(400, 900), (3000, 500)])
def test_distances_are_evidentlys(before, now):
    generator = np.random.default_rng(before)
    one, other = generator.normal(size=before), generator.normal(0.2, 2, now)
    found = distance(one, other)
    theirs = wasserstein_stat_test(pd.Series(one), pd.Series(other), ColumnType.Numerical, 0.1)
    assert found.wasserstein == pytest.approx(theirs.drift_score)
    exact = ks_stat_test(pd.Series(one), pd.Series(other), ColumnType.Numerical, 0.05)
    assert found.p_value == pytest.approx(exact.drift_score, rel=0.2)
    assert found.shift == pytest.approx((other.mean() - one.mean()) / one.std())


@settings(deadline=None)
@given(P_VALUES)
def test_holm_is_never_stricter_than_bonferroni_and_never_below_the_value(p_values):
    adjusted = holm(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= np.minimum(p_values * len(p_values), 1) + 1e-12).all()
    # The order stays.
    assert (np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0).all()


def test_holm_keeps_the_rate_of_a_family():
    p_values = np.random.default_rng(0).random((2000, 10))
    assert np.mean([(holm(row) <= 0.05).any() for row in p_values]) == pytest.approx(0.05, abs=0.015)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 50), st.integers(0, 50), st.integers(100, 10_000), st.integers(100, 10_000))
def test_a_rate_is_compared_as_poisson_rates_are(before, now, of_before, of_now):
    found = rate_p_value(before, of_before, now, of_now)
    assert 0 < found <= 1 + 1e-9
    if before + now:
        share = of_now / (of_before + of_now)
        assert found == pytest.approx(stats.binomtest(now, before + now, share).pvalue)
    assert rate_p_value(now, of_now, before, of_before) == pytest.approx(found, rel=1e-6)


def test_the_same_rate_is_found_to_differ_no_more_often_than_it_says():
    generator = np.random.default_rng(1)
    pairs = zip(generator.poisson(100, 600), generator.poisson(17, 600), strict=True)
    found = np.array([rate_p_value(before, 60_000, int(now), 10_000) for before, now in pairs])
    assert (found <= 0.05).mean() <= 0.06


def test_more_is_found_no_more_often_than_it_says_and_more_often_than_by_the_two_sided_test():
    generator = np.random.default_rng(2)
    before, same, twice = (generator.poisson(mean, 2000) for mean in (85, 14.5, 29))
    none = np.array([risen_p_value(b, 57_000, int(n), 10_000) for b, n in zip(before, same, strict=True)])
    risen = np.array([risen_p_value(b, 57_000, int(n), 10_000) for b, n in zip(before, twice, strict=True)])
    exact = np.array([rate_p_value(b, 57_000, int(n), 10_000) for b, n in zip(before, twice, strict=True)])
    assert 0.015 < (none <= 0.03).mean() <= 0.035
    assert (risen <= 0.03).mean() > max(0.8, (exact <= 0.03).mean() + 0.05)


@pytest.mark.parametrize(("before", "now"), [(0, 0), (85, 0), (0, 3), (85, 29)])
def test_chances_of_more_and_of_fewer_add_up_to_one(before, now):
    more = risen_p_value(before, 57_000, now, 10_000)
    fewer = risen_p_value(now, 10_000, before, 57_000)
    assert more + fewer == pytest.approx(1)


@settings(deadline=None)
@given(COUNTS, COUNTS)
def test_sizes_are_zero_for_the_same_shares_and_larger_otherwise(before, now):
    assert total_variation(before, before * 3) == pytest.approx(0, abs=1e-12)
    assert stability_index(before, before * 3) == pytest.approx(0, abs=1e-12)
    assert 0 <= total_variation(before, now) == pytest.approx(total_variation(now, before))
    assert 0 <= stability_index(before, now) == pytest.approx(stability_index(now, before))


def test_bins_with_hardly_any_counts_are_joined():
    before, now = np.array([1000.0, 1, 0, 0, 2]), np.array([1000.0, 0, 1, 1, 0])
    assert shares_p_value(before, now) == 1.0
    assert shares_p_value(np.array([500.0, 500]), np.array([600.0, 400])) == pytest.approx(
        stats.chi2_contingency([[500, 500], [600, 400]], correction=False).pvalue
    )
