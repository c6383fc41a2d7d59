from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fraud_kedro.profiling.wording import bin_label, moment, number, share


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (22.0, "22"),
        (-1.23456, "−1.235"),
        (19_486.75, "19,487"),
        (0.00123, "0.00123"),
        (1e-5, "1e−05"),
        (1e300, "1e+300"),
        (9_999.9, "10,000"),
    ],
)
def test_numbers_have_four_significant_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.0, "0 %"), (1.0, "100 %"), (0.9996, "99.96 %"), (0.001727, "0.173 %")]
)
def test_shares_are_in_per_cent(value, text):
    assert share(value) == text


@pytest.mark.parametrize(
    ("seconds", "origin", "text"),
    [
        (0.0, None, "day 0 00:00"),
        (172_792.0, None, "day 1 23:59"),
        (-60.0, None, "day −1 23:59"),
        (1e300, None, "second 1e+300"),
        (86_400.0, datetime(2013, 9, 1), "2013-09-02 00:00"),
        (60.0, datetime(2013, 9, 1, tzinfo=UTC), "2013-09-01 00:01"),
        (1e12, datetime(2013, 9, 1), "second 1e+12"),
        (-1e300, datetime(2013, 9, 1), "second −1e+300"),
    ],
)
def test_moments_are_dates_where_second_zero_is_known(seconds, origin, text):
    assert moment(seconds, origin) == text


def test_bins_are_named_by_what_they_hold(make_table, profiled):
    profile = profiled(make_table())
    few = next(c for c in profile.columns if c.name == "f_few")
    assert [bin_label(few, index) for index in (1, 2, 3)] == ["−1", "0", "1"]
    paid = next(c for c in profile.columns if c.name == "paid")
    assert bin_label(paid, 0).startswith("below ")
    assert bin_label(paid, len(paid.edges)).startswith("from ")
    assert " to " in bin_label(paid, 5)
