from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_kedro.errors import DataError, SchemaError
from fraud_kedro.schema import TransactionSchema
from fraud_kedro.validation.report import EXAMPLES_PER_CHECK
from fraud_kedro.validation.validator import TransactionsValidator

SCHEMA = {
    "time": {"column": "Time"},
    "amount": "Amount",
    "label": "Class",
    "transaction_id": "transaction_id",
    "sample_weight": "sample_weight",
    "features": ["Time", "V*", "Amount"],
}

HEADER = "Time,V1,V2,Amount,Class"
ROWS = [
    "0,-1.5,0.25,149.62,0",
    "1,0.5,1e-3,2.69,0",
    "1,3,-7,378.66,1",
    "2,0.1,0.2,0,0",
    "3,0.3,0.4,1.5,1",
]


def write_csv(folder: Path, rows, header=HEADER) -> Path:
    file = folder / "creditcard.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def validate_csv(file: Path) -> pl.DataFrame:
    """As conf/creditcard reads it."""
    table = pl.scan_csv(file, infer_schema=False)
    return TransactionsValidator(SCHEMA, str(file)).validate(table).collect()


def validate(frame: pl.DataFrame) -> pl.DataFrame:
    return TransactionsValidator(SCHEMA, "table.parquet").validate(frame.lazy()).collect()


def good_frame(**columns) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "Time": [0.0, 1.0, 2.0, 3.0],
            "V1": [0.5, -0.5, 1.5, 2.5],
            "Amount": [1.0, 2.0, 3.0, 4.0],
            "Class": [0, 0, 1, 1],
        }
    )
    return frame.with_columns(**{name: pl.Series(values, strict=False) for name, values in columns.items()})


def refusal(file: Path) -> str:
    with pytest.raises(DataError) as caught:
        validate_csv(file)
    message = str(caught.value)
    assert str(file) in message
    assert "\n" not in message
    return message


def with_value(row: int, column: str, value: str) -> list[str]:
    """The rows, one of them changed in one place."""
    cells = ROWS[row].split(",")
    cells[HEADER.split(",").index(column)] = value
    return [*ROWS[:row], ",".join(cells), *ROWS[row + 1 :]]


def test_a_good_csv_comes_back_typed(tmp_path):
    found = validate_csv(write_csv(tmp_path, ROWS))
    assert found.schema == {
        "Time": pl.Float64,
        "V1": pl.Float64,
        "V2": pl.Float64,
        "Amount": pl.Float64,
        "Class": pl.Int8,
    }
    assert found.rows()[2] == (1.0, 3.0, -7.0, 378.66, 1)


def test_columns_without_a_role_are_left_out_and_optional_ones_kept(tmp_path):
    rows = [f"{row},t{number},2.5,x" for number, row in enumerate(ROWS)]
    file = write_csv(tmp_path, rows, f"{HEADER},transaction_id,sample_weight,note")
    found = validate_csv(file)
    assert found.columns == ["Time", "V1", "V2", "Amount", "Class", "transaction_id", "sample_weight"]
    assert found["transaction_id"].to_list() == ["t0", "t1", "t2", "t3", "t4"]
    assert found["sample_weight"].to_list() == [2.5] * 5


def test_quotes_and_blanks_around_numbers_are_no_fault(tmp_path):
    rows = ['"0"," -1.5 ", 0.25,"149.62","0"', *ROWS[1:]]
    assert validate_csv(write_csv(tmp_path, rows)).rows()[0] == (0.0, -1.5, 0.25, 149.62, 0)


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("V1", "abc", "'V1' is not a number in 1 row (line 4: 'abc')"),
        ("V2", "", "'V2' is missing in 1 row (line 4: None)"),
        ("V2", " ", "'V2' is missing in 1 row (line 4: ' ')"),
        ("V2", "NaN", "'V2' is missing in 1 row (line 4: 'NaN')"),
        ("V2", "nan", "'V2' is missing in 1 row (line 4: 'nan')"),
        ("V2", "NA", "'V2' is missing in 1 row (line 4: 'NA')"),
        ("V2", "null", "'V2' is missing in 1 row (line 4: 'null')"),
        ("V2", "inf", "'V2' is infinite or too large in 1 row (line 4: 'inf')"),
        ("V2", "-Infinity", "'V2' is infinite or too large in 1 row (line 4: '-Infinity')"),
        ("V2", "1e39", "'V2' is infinite or too large in 1 row (line 4: '1e39')"),
        ("Amount", "-0.01", "'Amount' is negative in 1 row (line 4: '-0.01')"),
        ("Amount", "12 EUR", "'Amount' is not a number in 1 row (line 4: '12 EUR')"),
        ("Time", "2013-09-01", "'Time' is not a number in 1 row (line 4: '2013-09-01')"),
        ("Class", "2", "'Class' is neither 0 nor 1 in 1 row (line 4: '2')"),
        ("Class", "0.5", "'Class' is neither 0 nor 1 in 1 row (line 4: '0.5')"),
        ("Class", "-1", "'Class' is neither 0 nor 1 in 1 row (line 4: '-1')"),
        ("Class", "fraud", "'Class' is not a number in 1 row (line 4: 'fraud')"),
        ("Class", "", "'Class' is missing in 1 row (line 4: None)"),
    ],
)
def test_a_bad_value_is_told_with_column_count_and_line(tmp_path, column, value, fault):
    message = refusal(write_csv(tmp_path, with_value(2, column, value)))
    assert fault in message
    assert "1 check(s) failed in 5 rows" in message
    assert "Mend or remove these rows." in message


def test_every_failed_check_is_told_at_once(tmp_path):
    rows = with_value(0, "V1", "x")
    rows[1] = "1,0.5,,-5,0"
    rows[3] = "2,y,0.2,0,7"
    message = refusal(write_csv(tmp_path, rows))
    assert "4 check(s) failed in 5 rows" in message
    assert "'V1' is not a number in 2 rows (line 2: 'x', line 5: 'y')" in message
    assert "'V2' is missing in 1 row (line 3: None)" in message
    assert "'Amount' is negative in 1 row (line 3: '-5')" in message
    assert "'Class' is neither 0 nor 1 in 1 row (line 5: '7')" in message


def test_a_value_that_is_missing_fails_no_other_check(tmp_path):
    message = refusal(write_csv(tmp_path, with_value(2, "Amount", "NaN")))
    assert message.count("'Amount'") == 1


def test_many_bad_rows_are_counted_and_a_few_shown(tmp_path):
    rows = [f"{i},x{i},0,1,{i % 2}" for i in range(1200)]
    message = refusal(write_csv(tmp_path, rows))
    assert "in 1,200 rows" in message
    assert message.count("line ") == EXAMPLES_PER_CHECK


def test_a_bad_value_far_below_good_ones_is_found(tmp_path):
    rows = [f"{i},0.5,0,1,{i % 2}" for i in range(20_000)]
    rows[19_998] = "19998,0.5,oops,1,0"
    assert "'V2' is not a number in 1 row (line 20000: 'oops')" in refusal(write_csv(tmp_path, rows))


def test_a_missing_column_is_a_schema_error_that_names_it(tmp_path):
    file = write_csv(tmp_path, ["0,1,2", "1,2,3"], "Time,V1,Class")
    with pytest.raises(SchemaError, match=r"'Amount' \(role amount\).*The table has: Time, V1, Class"):
        validate_csv(file)


def test_the_error_about_a_column_names_the_file(tmp_path):
    file = write_csv(tmp_path, ["0,1,2", "1,2,3"], "Time,V1,Class")
    with pytest.raises(SchemaError) as caught:
        validate_csv(file)
    assert str(file) in str(caught.value)


def test_an_empty_file_is_told(tmp_path):
    file = tmp_path / "creditcard.csv"
    file.write_text("")
    assert "is empty" in refusal(file)


def test_a_header_without_rows_is_told(tmp_path):
    assert "has a header but no rows" in refusal(write_csv(tmp_path, []))


@pytest.mark.parametrize(("label", "kind"), [("0", "legitimate (0)"), ("1", "fraud (1)")])
def test_a_table_of_one_class_is_told(tmp_path, label, kind):
    rows = [f"{row.rsplit(',', 1)[0]},{label}" for row in ROWS]
    message = refusal(write_csv(tmp_path, rows))
    assert f"all 5 rows have 'Class' = {kind}" in message
    assert "both classes" in message


def test_a_line_with_too_many_cells_is_told(tmp_path):
    message = refusal(write_csv(tmp_path, [*ROWS, "1,2,3,4,0,6"]))
    assert "line 7 has 6 cells, the header 5" in message


def test_a_file_that_is_no_text_is_told(tmp_path):
    file = tmp_path / "creditcard.csv"
    file.write_bytes(HEADER.encode() + b"\n0,\xff\xfe\xff,1,2,0\n")
    assert "not UTF-8" in refusal(file)


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "many", ""])
def test_a_weight_must_be_a_number_from_zero_on(tmp_path, value):
    rows = [f"{row},1" for row in ROWS]
    rows[2] = f"{ROWS[2]},{value}"
    assert "'sample_weight'" in refusal(write_csv(tmp_path, rows, f"{HEADER},sample_weight"))


def test_a_class_whose_weights_are_all_zero_is_told(tmp_path):
    rows = [f"{row},{1 - int(row[-1])}" for row in ROWS]
    message = refusal(write_csv(tmp_path, rows, f"{HEADER},sample_weight"))
    assert "'sample_weight' of one class are all zero" in message


def test_a_repeated_id_is_told_with_its_later_line(tmp_path):
    rows = [f"{row},{name}" for row, name in zip(ROWS, "abcbd", strict=True)]
    message = refusal(write_csv(tmp_path, rows, f"{HEADER},transaction_id"))
    assert "'transaction_id' is repeated in 1 row (line 5: 'b')" in message


def test_an_empty_id_is_told(tmp_path):
    rows = [f"{row},{name}" for row, name in zip(ROWS, ["a", "", "c", "d", "e"], strict=True)]
    message = refusal(write_csv(tmp_path, rows, f"{HEADER},transaction_id"))
    assert "'transaction_id' is missing in 1 row (line 3: None)" in message


def test_an_id_may_be_written_in_any_way(tmp_path):
    names = ["0", "None of these", "nan-1", "1e3", "日本"]
    rows = [f"{row},{name}" for row, name in zip(ROWS, names, strict=True)]
    found = validate_csv(write_csv(tmp_path, rows, f"{HEADER},transaction_id"))
    assert found["transaction_id"].to_list() == names


# Parquet and frames: typed already.


def test_a_good_parquet_comes_back_in_the_same_types_as_a_csv(tmp_path):
    file = tmp_path / "table.parquet"
    good_frame().write_parquet(file)
    found = TransactionsValidator(SCHEMA, str(file)).validate(pl.scan_parquet(file)).collect()
    assert found.schema == {"Time": pl.Float64, "V1": pl.Float64, "Amount": pl.Float64, "Class": pl.Int8}


def test_rows_of_a_parquet_are_counted_from_one(tmp_path):
    file = tmp_path / "table.parquet"
    good_frame(Amount=[1.0, 2.0, -3.0, None]).write_parquet(file)
    with pytest.raises(DataError) as caught:
        TransactionsValidator(SCHEMA, str(file)).validate(pl.scan_parquet(file))
    assert "'Amount' is negative in 1 row (row 3: -3.0)" in str(caught.value)
    assert "'Amount' is missing in 1 row (row 4: None)" in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), None])
def test_a_missing_number_of_a_frame_is_told(value):
    with pytest.raises(DataError, match=r"'V1' is missing in 1 row \(row 2"):
        validate(good_frame(V1=[0.5, value, 1.5, 2.5]))


def test_an_infinite_number_of_a_frame_is_told():
    with pytest.raises(DataError, match=r"'V1' is infinite or too large in 1 row \(row 2: -inf\)"):
        validate(good_frame(V1=[0.5, float("-inf"), 1.5, 2.5]))


@pytest.mark.parametrize("labels", [[False, False, True, True], [0.0, 0.0, 1.0, 1.0], ["0", "0", "1", "1"]])
def test_labels_may_be_truth_values_or_numbers(labels):
    assert validate(good_frame(Class=labels))["Class"].to_list() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("times", "mend"),
    [
        (
            [datetime(2013, 9, 1) + timedelta(seconds=i) for i in range(4)],
            "Set schema.time.format to iso8601",
        ),
        ([timedelta(seconds=i) for i in range(4)], "not a number"),
        ([[0.0], [1.0], [2.0], [3.0]], "not a number"),
    ],
    ids=["datetime", "duration", "list"],
)
def test_a_column_of_another_type_is_refused_and_not_reinterpreted(times, mend):
    with pytest.raises(SchemaError, match=rf"table\.parquet: 'Time' is .*{mend}"):
        validate(good_frame(Time=times))


def test_integers_of_any_width_are_numbers():
    frame = good_frame().with_columns(pl.col("Time").cast(pl.UInt8), pl.col("Amount").cast(pl.Int64))
    assert validate(frame)["Time"].to_list() == [0.0, 1.0, 2.0, 3.0]


@given(
    st.lists(st.floats(-3e38, 3e38, allow_subnormal=False), min_size=2, max_size=20),
    st.sampled_from([repr, str, "{:.17e}".format]),
)
@settings(max_examples=50)
def test_a_number_written_as_text_is_parsed_exactly(values, written):
    frame = pl.DataFrame(
        {
            "Time": [str(i) for i in range(len(values))],
            "V1": [written(v) for v in values],
            "Amount": ["1"] * len(values),
            "Class": [str(i % 2) for i in range(len(values))],
        }
    )
    np.testing.assert_array_equal(validate(frame)["V1"].to_numpy(), values)


def test_the_roles_may_be_a_model_or_a_mapping(tmp_path):
    file = write_csv(tmp_path, ROWS)
    table = pl.scan_csv(file, infer_schema=False)
    by_model = TransactionsValidator(TransactionSchema.model_validate(SCHEMA)).validate(table).collect()
    assert by_model.equals(validate_csv(file))


def test_the_real_sample_passes_as_csv_and_as_parquet(tmp_path, request):
    sample = request.config.rootpath / "../shared/data/ulb_sample.parquet"
    if not sample.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{sample} is missing")
        pytest.skip(f"{sample} is not there")
    frame = pl.read_parquet(sample)
    file = tmp_path / "creditcard.csv"
    frame.write_csv(file)
    from_csv = validate_csv(file)
    from_parquet = validate(frame)
    assert from_csv.height == frame.height
    assert from_csv["Class"].sum() == frame["Class"].sum()
    assert from_csv.equals(from_parquet)
