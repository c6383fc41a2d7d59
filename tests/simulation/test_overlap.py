from __future__ import annotations

import numpy as np
import pytest

from fraud_kedro.simulation.overlap import class_mixture, separation
from fraud_kedro.simulation.statistics import ulb_statistics

STATISTICS = ulb_statistics()


@pytest.mark.parametrize("of_fraud", [False, True])
def test_typical_transactions_make_up_for_the_unusual_ones(of_fraud: bool) -> None:
    own = STATISTICS.fraud if of_fraud else STATISTICS.legitimate
    components = class_mixture(STATISTICS, of_fraud=of_fraud).components
    assert sum(c.share for c in components) == pytest.approx(1)
    np.testing.assert_allclose(sum(c.share * c.mean for c in components), 0, atol=1e-12)
    covariance = sum(c.share * (c.covariance + np.outer(c.mean, c.mean)) for c in components)
    np.testing.assert_allclose(np.diag(covariance), 1, atol=1e-9)
    # Off the diagonal the projection on positive definite matrices costs a little.
    assert np.abs(covariance - own.correlation).mean() < 0.01


@pytest.mark.parametrize("of_fraud", [False, True])
def test_the_distribution_function_rises_from_0_to_1(of_fraud: bool) -> None:
    ranks = class_mixture(STATISTICS, of_fraud=of_fraud).distribution(np.linspace(-40, 40, 2_001))
    assert ranks.shape == (29, 2_001)
    assert np.all(np.diff(ranks, axis=1) >= 0)
    np.testing.assert_allclose(ranks[:, [0, -1]], np.broadcast_to([0, 1], (29, 2)), atol=1e-5)


def test_the_columns_known_to_tell_frauds_apart_separate_most() -> None:
    order = [STATISTICS.columns[i] for i in np.argsort(separation(STATISTICS))]
    assert {"V14", "V12", "V4"} <= set(order[-6:])
    assert {"V13", "V15", "V22"} <= set(order[:6])
