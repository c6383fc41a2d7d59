from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_kedro.monitoring.logged_features import feature_matrix

NUMBERS = st.floats(-1e30, 1e30) | st.integers(-(10**12), 10**12)


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({"a": NUMBERS, "b b": NUMBERS}, optional={"c": NUMBERS}), max_size=20))
def test_what_was_written_is_read(rows):
    matrix = feature_matrix([json.dumps(row, separators=(",", ":")) for row in rows], ("b b", "a"))
    assert matrix.shape == (len(rows), 2)
    np.testing.assert_array_equal(matrix, [(float(row["b b"]), float(row["a"])) for row in rows] or matrix)


@settings(deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("ab"),
            NUMBERS | st.none() | st.booleans() | st.text("x1", max_size=3) | st.just([1.0]),
        )
    )
)
def test_what_is_no_number_is_nan_and_spoils_no_other_row(rows):
    matrix = feature_matrix([json.dumps(row) for row in rows], ("a", "b"))
    for found, row in zip(matrix, rows, strict=True):
        for value, name in zip(found, "ab", strict=True):
            given_value = row.get(name)
            is_number = isinstance(given_value, int | float) and not isinstance(given_value, bool)
            assert np.isnan(value) != is_number
            assert not is_number or value == given_value


def test_what_is_no_object_is_nan():
    matrix = feature_matrix(['{"a":1}', "[1]", "3", '{"a":1e999}', '{"a":' + "9" * 400 + "}"], ("a",))
    np.testing.assert_array_equal(matrix[:, 0], [1, np.nan, np.nan, np.nan, np.nan])
