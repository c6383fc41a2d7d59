from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_kedro.simulation.label_delay import ConstantDelay, ExponentialDelay, parse_label_delay
from fraud_kedro.simulation.options import SimulationError


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("7d", ConstantDelay(seconds=604_800)),
        ("1.5h", ConstantDelay(seconds=5_400)),
        ("0s", ConstantDelay(seconds=0)),
        ("exponential:90m:2d", ExponentialDelay(mean=5_400, cap=172_800)),
    ],
)
def test_delays_are_read_as_people_write_them(text: str, delay: object) -> None:
    assert parse_label_delay(text) == delay


@pytest.mark.parametrize(
    "text", ["", "7", "7w", "-1d", "exponential:7d", "normal:1d:2d", "1d:2d", "nand", "1e3s"]
)
def test_what_is_no_delay_is_refused_with_examples(text: str) -> None:
    with pytest.raises(SimulationError, match=r"should be a duration such as 7d, .* or exponential:MEAN:CAP"):
        parse_label_delay(text)


@pytest.mark.parametrize("text", ["4000d", "exponential:1d:4000d"])
def test_a_delay_beyond_ten_years_is_refused(text: str) -> None:
    with pytest.raises(SimulationError, match="3,650 days at most"):
        parse_label_delay(text)


@pytest.mark.parametrize("text", ["exponential:0d:7d", "exponential:1d:0s"])
def test_an_exponential_delay_needs_a_mean_and_a_cap(text: str) -> None:
    with pytest.raises(SimulationError, match="mean and a cap above 0"):
        parse_label_delay(text)


@given(mean=st.floats(1, 1e6), cap=st.floats(1, 1e6), seed=st.integers(0, 2**32))
def test_no_delay_is_negative_or_beyond_the_cap(mean: float, cap: float, seed: int) -> None:
    delays = ExponentialDelay(mean=mean, cap=cap).draw(100, np.random.default_rng(seed))
    assert delays.shape == (100,)
    assert 0 <= delays.min() <= delays.max() <= cap


def test_delays_have_the_mean_and_pile_up_at_the_cap() -> None:
    delays = ExponentialDelay(mean=10.0, cap=20.0).draw(100_000, np.random.default_rng(0))
    assert (delays == 20).mean() == pytest.approx(np.exp(-2), rel=0.05)
    assert delays.mean() == pytest.approx(10 * (1 - np.exp(-2)), rel=0.02)
