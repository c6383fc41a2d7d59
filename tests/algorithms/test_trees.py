from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fraud_kedro.algorithms.trees import Tree, TreeEnsemble, floor_to_float32

float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Near a float32 and anywhere: the first is where rounding matters.
thresholds = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.builds(lambda x, step: x * (1 + step), float32s, st.floats(-1e-7, 1e-7)),
)


@given(thresholds, float32s)
def test_a_rounded_threshold_sends_any_float32_to_the_same_side(threshold, value):
    (rounded,) = floor_to_float32(np.array([threshold]))

    assert (value <= threshold) == bool(np.float32(value) <= rounded)


@given(thresholds)
def test_a_rounded_threshold_sends_its_neighbours_to_the_same_side(threshold):
    (rounded,) = floor_to_float32(np.array([threshold]))
    with np.errstate(over="ignore"):
        nearest = np.float32(threshold)

    for value in (
        nearest,
        np.nextafter(nearest, np.float32(-np.inf)),
        np.nextafter(nearest, np.float32(np.inf)),
    ):
        if np.isfinite(value):
            assert (float(value) <= threshold) == bool(value <= rounded)


def leaf(value: float) -> Tree:
    none, zero = np.array([-1]), np.array([0])
    return Tree(none, np.zeros(1, dtype=np.float32), zero, zero, np.array([[value]]))


def stump(feature: int, threshold: float) -> Tree:
    return Tree(
        np.array([feature, -1, -1]),
        np.array([threshold, 0, 0], dtype=np.float32),
        np.array([1, 0, 0]),
        np.array([2, 0, 0]),
        np.array([[0.0], [-1.0], [1.0]]),
    )


def test_trees_that_are_a_single_leaf_move_into_the_base():
    ensemble = TreeEnsemble([leaf(0.25), stump(0, 1.0), leaf(0.5)], base=(1.0,), inclusive=True)

    folded = ensemble.without_constants()

    assert len(folded.trees) == 1
    assert folded.base == (1.75,)


def test_split_points_are_sorted_distinct_and_by_feature():
    ensemble = TreeEnsemble([stump(2, 3.0), stump(2, 1.0), stump(2, 3.0), stump(0, 7.0)], (0.0,), True)

    points = ensemble.split_points()

    assert {feature: values.tolist() for feature, values in points.items()} == {0: [7.0], 2: [1.0, 3.0]}
