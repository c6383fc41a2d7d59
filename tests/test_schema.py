from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from fraud_kedro.errors import SchemaError
from fraud_kedro.schema import SECONDS_PER_DAY, ResolvedSchema, TransactionSchema

COLUMNS = ["Time", "V1", "V2", "V10", "Amount", "Class"]

# Up to the year 5000 in epoch seconds, and as far before.
seconds = st.floats(-1e11, 1e11)


def transaction_schema(**changes):
    roles = {
        "time": {"column": "Time"},
        "amount": "Amount",
        "label": "Class",
        "transaction_id": "transaction_id",
        "sample_weight": "sample_weight",
        "features": ["Time", "V*", "Amount"],
    }
    return TransactionSchema.model_validate({**roles, **changes})


def resolved(time_use="hour_of_day", features=("V1", "Time", "Amount")):
    return ResolvedSchema(time="Time", time_use=time_use, amount="Amount", label="Class", features=features)


def test_a_pattern_stands_for_its_matches_in_the_tables_order():
    assert transaction_schema().resolve(COLUMNS).features == ("Time", "V1", "V2", "V10", "Amount")
    assert transaction_schema().resolve([*reversed(COLUMNS)]).features == (
        "Time",
        "V10",
        "V2",
        "V1",
        "Amount",
    )


def test_a_column_that_two_patterns_match_is_one_feature():
    schema = transaction_schema(features=["V1", "V*", "Amount", "*"])
    assert schema.resolve(COLUMNS).features == ("V1", "V2", "V10", "Amount", "Time")


def test_a_pattern_never_takes_the_label_the_id_or_the_weight():
    found = transaction_schema(features=["*"]).resolve([*COLUMNS, "sample_weight", "transaction_id"])
    assert found.features == ("Time", "V1", "V2", "V10", "Amount")


def test_names_are_matched_by_case():
    with pytest.raises(SchemaError, match=r"'v\*' \(features\)"):
        transaction_schema(features=["v*"]).resolve(COLUMNS)


def test_optional_roles_are_used_if_the_table_has_them():
    without = transaction_schema().resolve(COLUMNS)
    assert (without.transaction_id, without.sample_weight) == (None, None)
    found = transaction_schema().resolve([*COLUMNS, "sample_weight", "transaction_id"])
    assert (found.transaction_id, found.sample_weight) == ("transaction_id", "sample_weight")


def test_a_role_that_is_not_configured_is_not_used():
    schema = transaction_schema(transaction_id=None, sample_weight=None)
    found = schema.resolve([*COLUMNS, "sample_weight", "transaction_id"])
    assert (found.transaction_id, found.sample_weight) == (None, None)


def test_every_missing_column_is_named_with_its_role_and_what_the_table_has():
    with pytest.raises(SchemaError) as caught:
        transaction_schema().resolve(["Time", "V1", "Betrag"])
    message = str(caught.value)
    assert "'Amount' (role amount)" in message
    assert "'Class' (role label)" in message
    assert "'Amount' (features)" in message
    assert "The table has: Time, V1, Betrag." in message
    assert "`schema`" in message


def test_a_table_without_columns_is_said_to_have_none():
    with pytest.raises(SchemaError, match="The table has: no columns"):
        transaction_schema().resolve([])


def test_a_wide_table_is_shown_in_part():
    with pytest.raises(SchemaError) as caught:
        transaction_schema().resolve([f"c{i}" for i in range(100)])
    assert "c39, ..." in str(caught.value)
    assert "c40" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "role"),
    [("Class", "label"), ("transaction_id", "transaction_id"), ("sample_weight", "sample_weight")],
)
def test_the_label_the_id_and_the_weight_cannot_be_features(name, role):
    columns = [*COLUMNS, "sample_weight", "transaction_id"]
    with pytest.raises(SchemaError, match=f"Column '{name}' has the role {role} and cannot be a feature"):
        transaction_schema(features=["V*", name]).resolve(columns)


@pytest.mark.parametrize(
    "changes", [{"features": []}, {"colour": "red"}, {"time": {"column": "T", "use": "day"}}]
)
def test_a_wrong_role_in_yaml_is_refused(changes):
    with pytest.raises(ValidationError):
        transaction_schema(**changes)


def test_every_column_with_a_role_is_listed_once_features_first():
    found = transaction_schema().resolve([*COLUMNS, "sample_weight"])
    assert found.columns == ("Time", "V1", "V2", "V10", "Amount", "Class", "sample_weight")


def test_time_need_not_be_a_feature():
    found = transaction_schema(features=["V*"]).resolve(COLUMNS)
    assert found.time_index is None
    assert "Time" in found.columns
    matrix = np.array([[1.5, 2.5, 1e9]])
    np.testing.assert_array_equal(found.model_matrix(matrix), matrix.astype(np.float32))


@given(arrays(np.float64, st.tuples(st.integers(0, 5), st.just(3)), elements=seconds))
@pytest.mark.parametrize("use", ["hour_of_day", "raw", "none"])
def test_a_reduced_matrix_is_reduced_no_further(use, values):
    once = resolved(use).model_matrix(values)
    np.testing.assert_array_equal(resolved(use).model_matrix(once.astype(np.float64)), once)


@given(seconds)
def test_epoch_seconds_keep_their_second_of_the_day(second):
    matrix = resolved().model_matrix(np.array([[0.0, second, 0.0]]))
    expected = second % SECONDS_PER_DAY
    assert matrix.dtype == np.float32
    assert 0 <= matrix[0, 1] < SECONDS_PER_DAY
    # A float32 steps by 1/128 s at the end of a day; midnight is both its ends.
    difference = abs(float(matrix[0, 1]) - expected)
    assert min(difference, SECONDS_PER_DAY - difference) <= 1 / 256


@pytest.mark.parametrize("second", [86_399.999, -1e-20, 86_400.0, 10 * 86_400.0 - 1e-4])
def test_what_rounds_up_to_midnight_is_midnight(second):
    assert resolved().model_matrix(np.array([[0.0, second, 0.0]]))[0, 1] == 0.0


def test_two_seconds_of_one_day_stay_apart_in_epoch_seconds():
    epoch = 1.7e9 // SECONDS_PER_DAY * SECONDS_PER_DAY
    matrix = resolved().model_matrix(np.array([[0.0, epoch + 3600, 0.0], [0.0, epoch + 3601, 0.0]]))
    assert matrix[:, 1].tolist() == [3600.0, 3601.0]


def test_only_the_time_column_is_reduced():
    matrix = np.array([[100_000.0, 100_000.0, 100_000.0]])
    assert resolved().model_matrix(matrix).tolist() == [[100_000.0, 13_600.0, 100_000.0]]
    assert resolved("none").model_matrix(matrix).tolist() == [[100_000.0, 0.0, 100_000.0]]
    assert resolved("raw").model_matrix(matrix).tolist() == [[100_000.0] * 3]


def test_the_matrix_is_a_copy_in_c_order():
    values = np.asfortranarray(np.ones((4, 3)))
    matrix = resolved().model_matrix(values)
    matrix[:] = 5
    assert matrix.flags.c_contiguous
    assert (values == 1).all()


def test_the_hash_follows_what_a_models_input_depends_on():
    base = resolved()
    assert base.hash == resolved().hash
    others = [
        resolved("raw"),
        resolved(features=("Time", "V1", "Amount")),
        base.model_copy(update={"time": "Amount"}),
        base.model_copy(update={"amount": "V1"}),
    ]
    assert len({base.hash, *(other.hash for other in others)}) == 5
    assert base.model_copy(update={"label": "fraud", "sample_weight": "w"}).hash == base.hash


def test_a_resolved_schema_survives_json():
    found = transaction_schema(time={"column": "Time", "origin": "2013-09-01T00:00:00Z"}).resolve(COLUMNS)
    assert ResolvedSchema.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("name", ["transaction_id", "probability", "weight", 'a"b', "a\\b", "a\nb"])
def test_a_feature_cannot_have_a_name_that_is_taken_or_unprintable(name):
    schema = TransactionSchema(
        time={"column": "Time"}, amount="Amount", label="Class", features=("Time", name, "Amount")
    )

    with pytest.raises(SchemaError, match="rename the column"):
        schema.resolve(["Time", name, "Amount", "Class"])
