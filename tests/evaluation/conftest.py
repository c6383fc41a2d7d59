"""Scored rows, drawn by hypothesis and at the size of a small test part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from fraud_kedro.evaluation.metrics import ScoredRows


@st.composite
def _scored_rows(draw, weights=(0.5, 1.0, 2.0, 7.0)):
    size = draw(st.integers(2, 30))

    def lists(values):
        return np.array(draw(st.lists(st.sampled_from(values), min_size=size, max_size=size)))

    labels = lists([0, 1]).astype(np.int8)
    labels[:2] = 1, 0
    return ScoredRows(
        labels,
        lists(np.linspace(0.01, 0.99, 9)),
        lists(weights).astype(np.float64),
        lists([0.0, 1.0, 2.5, 40.0]),
        lists([0.0, 3600.0, 90_000.0, 200_000.0]),
    )


@pytest.fixture(scope="session")
def scored_rows():
    """A strategy: rows of both classes, with ties."""
    return _scored_rows


@pytest.fixture(scope="session")
def many_rows():
    """A function that draws rows of rare frauds, with weights, amounts and three days of seconds."""

    def make(seed=0, size=4000, rate=0.02, separation=3.0):
        generator = np.random.default_rng(seed)
        labels = (np.arange(size) % round(1 / rate) == 0).astype(np.int8)
        log_odds = generator.normal(size=size) + separation * labels - 4
        return ScoredRows(
            labels,
            1 / (1 + np.exp(-log_odds)),
            generator.choice([1.0, 3.0], size),
            generator.exponential(50, size),
            np.sort(generator.uniform(0, 3 * 86_400, size)),
        )

    return make
