from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_kedro.simulation.drift import FraudRate, Shift
from fraud_kedro.simulation.options import SimulationError, SimulationOptions
from fraud_kedro.simulation.statistics import ulb_statistics


def test_the_defaults_are_the_real_table() -> None:
    options = SimulationOptions()
    assert (options.rows, options.fraud_count(ulb_statistics())) == (284_807, 492)
    assert options.duplicate_counts(ulb_statistics()) == (1_062, 19)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 0}, r"rows: .*greater than or equal to 1 \(got 0\)"),
        ({"rows": "many"}, r"rows: .*valid integer \(got 'many'\)"),
        ({"rows": 1e5}, r"rows: .*valid integer \(got 100000.0\)"),
        ({"rows": True}, "rows: .*valid integer"),
        ({"fraud_rate": 1.2}, r"fraud_rate: .*less than or equal to 1 \(got 1.2\)"),
        ({"fraud_rate": float("nan")}, "fraud_rate"),
        ({"fraud_rate": 0.1, "frauds": 5}, "`fraud_rate` or `frauds`, not both"),
        ({"rows": 10, "frauds": 11}, "11 frauds do not fit into 10 rows"),
        ({"rows": 10, "duplicates": 9}, "9 duplicates are too many: .* at most 5 of these 10 rows"),
        ({"seed": -1}, "seed: .*greater than or equal to 0"),
        ({"colour": 1}, "colour: Extra inputs are not permitted"),
        ({"drift": 5}, r"drift.0: A drift is a mapping with exactly one of .*\(got 5\)"),
        ({"drift": {"column": "V9"}}, "exactly one of `shift`, `scale`"),
        ({"drift": {"column": "V9", "shift": 1, "scale": 2}}, "exactly one of"),
        ({"drift": {"shift": 1}}, r"drift.0.shift.column: Field required"),
        ({"drift": {"column": "V99", "shift": 1}}, "no column 'V99' to change. It should be one of: V1, "),
        ({"drift": {"column": "Time", "shift": 1}}, "no column 'Time' to change"),
        ({"drift": {"column": "V1", "scale": 0}}, "greater than 0"),
        ({"drift": {"column": "V1", "shift": float("inf")}}, "finite"),
        ({"drift": {"fraud_rate": 1.5}}, "less than or equal to 1"),
        ({"drift": {"new_pattern": 0.5, "from": 172_792}}, "`from` is 172792, but the table ends before"),
        ({"drift": {"new_pattern": 0.5, "form": 10}}, "form: Extra inputs are not permitted"),
        ({"drift": {"column": "V99", "zeroed": 0.1}}, "no column 'V99' to change"),
        ({"drift": {"column": "V7", "zeroed": 1.1}}, "zeroed: .*less than or equal to 1"),
        ({"drift": {"zeroed": 0.1}}, "drift.0.zeroed.column: Field required"),
        ({"drift": {"hours": [22, 23]}}, "drift.0.hours.share: Field required"),
        ({"drift": {"hours": [24], "share": 0.5}}, "hours.0: .*less than 24"),
        ({"drift": {"hours": [1, 1], "share": 0.5}}, "an hour should be named once"),
        ({"drift": {"hours": [], "share": 0.5}}, "at least 1 item"),
        ({"drift": {"hours": list(range(24)), "share": 0.5}}, "at most 23 items"),
        ({"drift": {"hours": [1], "share": 0.5, "column": "V7"}}, "column: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_allowed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        SimulationOptions.parse(**arguments)


def test_every_wrong_argument_is_reported_at_once() -> None:
    with pytest.raises(SimulationError, match=r"rows: .*; seed: .*"):
        SimulationOptions.parse(rows=-1, seed="x")


def test_drift_may_be_one_mapping_or_a_list() -> None:
    shift = {"column": "V14", "shift": 1, "from": 86_400}
    assert SimulationOptions.parse(drift=shift).drift == (Shift(column="V14", shift=1.0, start=86_400),)
    both = SimulationOptions.parse(drift=[shift, {"fraud_rate": 0.01}]).drift
    assert both[1] == FraudRate(fraud_rate=0.01, start=0)


@given(rows=st.integers(1, 10**9), rate=st.floats(0, 1))
def test_default_duplicates_never_exceed_half_of_a_class(rows: int, rate: float) -> None:
    options = SimulationOptions(rows=rows, fraud_rate=rate)
    frauds = options.fraud_count(ulb_statistics())
    repeated_legitimate, repeated_frauds = options.duplicate_counts(ulb_statistics())
    assert 0 <= repeated_frauds <= frauds / 2
    assert 0 <= repeated_legitimate <= (rows - frauds) / 2


@given(data=st.data(), rows=st.integers(2, 10**6), rate=st.floats(0, 1))
def test_as_many_duplicates_are_planned_as_were_asked_for(
    data: st.DataObject, rows: int, rate: float
) -> None:
    frauds = round(rows * rate)
    possible = frauds // 2 + (rows - frauds) // 2
    duplicates = data.draw(st.integers(0, possible))
    options = SimulationOptions.parse(rows=rows, fraud_rate=rate, duplicates=duplicates)
    assert sum(options.duplicate_counts(ulb_statistics())) == duplicates
