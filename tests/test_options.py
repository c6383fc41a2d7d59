from __future__ import annotations

import pytest
from pydantic import ValidationError

from fraud_kedro.evaluation.thresholds import ThresholdPolicy
from fraud_kedro.pipelines.data_processing.splits import SplitOptions, StratifiedSplit, TemporalSplit


def test_another_kind_does_not_inherit_the_keys_of_the_kind_before():
    base = {"kind": "temporal", "validation": 0.1, "test": 0.3, "cuts": None, "gap_seconds": 5}
    split = SplitOptions.model_validate({**base, "kind": "stratified"}).root
    assert split == StratifiedSplit(kind="stratified", validation=0.1, test=0.3)
    costs = {"kind": "expected_cost", "review_cost": 3.0}
    policy = ThresholdPolicy.model_validate({**costs, "kind": "alert_budget", "flagged_share": 0.01}).root
    assert (policy.kind, policy.flagged_share) == ("alert_budget", 0.01)


@pytest.mark.parametrize("kind", ["temporal", "stratified"])
def test_a_key_that_no_kind_knows_is_refused(kind):
    with pytest.raises(ValidationError, match=r"gap_second\n"):
        SplitOptions.model_validate({"kind": kind, "gap_second": 5})


def test_an_unknown_kind_is_answered_with_those_that_exist():
    with pytest.raises(ValidationError, match="'temporal', 'stratified'"):
        SplitOptions.model_validate({"kind": "random", "gap_seconds": 5})


def test_a_model_is_taken_as_it_is():
    assert SplitOptions.model_validate(TemporalSplit(gap_seconds=5)).root.gap_seconds == 5
