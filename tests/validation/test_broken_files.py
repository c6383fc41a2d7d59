"""Tables as people send them: each gives the right values, or is refused in one line with the mend."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from kedro.io import DatasetError

from fraud_kedro.cli import expected_message
from fraud_kedro.datasets.table_file import TableFileDataset
from fraud_kedro.errors import FraudKedroError
from fraud_kedro.validation.validator import TransactionsValidator

SCHEMA: dict[str, Any] = {
    "time": {"column": "Time"},
    "amount": "Amount",
    "label": "Class",
    "transaction_id": "id",
    "sample_weight": "w",
    "features": ["Time", "V1", "V2", "Amount"],
}
HEADER = ["Time", "V1", "V2", "Amount", "Class", "id", "w"]
ROWS = [
    [str(i), f"{i * 0.5 - 3}", f"{i * 7 % 5}.25", f"{i}.99", str(i % 3 // 2), f"t{i}", "1"] for i in range(12)
]
LONGEST_MESSAGE = 4000


def timed(form: str) -> dict[str, Any]:
    return {**SCHEMA, "time": {"column": "Time", "format": form}}


def text(rows=ROWS, header=HEADER, separator=",", end="\n") -> str:
    return end.join([separator.join(cells) for cells in [header, *rows]]) + end


def cell(row: int, column: str, value: str) -> str:
    rows = [list(cells) for cells in ROWS]
    rows[row][HEADER.index(column)] = value
    return text(rows)


def column(name: str, change: Callable[[str], str]) -> str:
    index = HEADER.index(name)
    return text([[*cells[:index], change(cells[index]), *cells[index + 1 :]] for cells in ROWS])


FRAME = pl.read_csv(text().encode())


def parquet(frame: pl.DataFrame = FRAME, **columns: pl.Expr) -> bytes:
    frame.with_columns(**columns).write_parquet(buffer := io.BytesIO())
    return buffer.getvalue()


def read(
    folder: Path, name: str, content: str | bytes, schema=SCHEMA, decimal=".", **load_args
) -> pl.DataFrame:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return validate(file, schema, decimal, **load_args)


def validate(path: Path, schema=SCHEMA, decimal=".", **load_args) -> pl.DataFrame:
    table = TableFileDataset(filepath=str(path), load_args=load_args).load()
    return TransactionsValidator(schema, str(path), decimal=decimal).validate(table).collect()


def refusal(path: Path, *arguments, **options) -> str:
    """The message, as the command shows it."""
    with pytest.raises((FraudKedroError, DatasetError)) as caught:
        validate(path, *arguments, **options)
    return checked(caught.value, path)


def checked(error: Exception, path: Path) -> str:
    chain = [error, error.__cause__]
    assert any(isinstance(link, FraudKedroError) for link in chain)
    message = expected_message(error)
    assert message is not None
    assert message.isprintable()
    assert path.name in message
    assert len(message) < LONGEST_MESSAGE
    return message


def iso(second: str) -> str:
    return f"2026-01-05T13:45:{second:0>2}Z"


MIDDLE = len(text().splitlines()[0]) + 20
GZIPPED = gzip.compress(text().encode())
PLAIN = FRAME.rows()
LONG = gzip.compress(text([[str(i), *ROWS[i % 12][1:5], f"t{i}", "1"] for i in range(20_000)]).encode())

# name: content, what the message must say, and options.
REFUSED_CSV: dict[str, tuple[str | bytes, tuple[str, ...], dict[str, Any]]] = {
    "a column renamed": (
        text(header=["Time", "V1", "V2", "Betrag", *HEADER[4:]]),
        ("'Amount'", "Betrag"),
        {},
    ),
    "capitals changed": (text(header=[h.lower() for h in HEADER]), ("'time' is not 'Time'", "Rename"), {}),
    "a blank in a header": (text(header=["Time ", *HEADER[1:]]), ("'Time ' is not 'Time'",), {}),
    "a blank in an optional name": (text(header=[*HEADER[:5], "id ", "w"]), ("'id ' is not 'id'",), {}),
    "columns swapped": (
        text([[r[0], r[5], r[2], r[3], r[4], r[1], r[6]] for r in ROWS]),
        ("'V1' is not a number in 12 rows (line 2: 't0'",),
        {},
    ),
    "decimal commas between semicolons": (
        text(separator=";").replace(".", ","),
        ("line 2: '-3,0'", 'decimal: ","'),
        {"separator": ";"},
    ),
    "decimal commas between commas": (
        text().replace(".", ","),
        ("line 2 has 10 cells, the header 7", "number with the separator in it needs quotes"),
        {},
    ),
    "semicolons": (text(separator=";"), ("a semicolon", "load_args.separator to ';'"), {}),
    "tabs": (text(separator="\t"), ("a tab", r"load_args.separator to '\t'"), {}),
    "bars": (text(separator="|"), ("a vertical bar", "load_args.separator to '|'"), {}),
    "UTF-16": (text().encode("utf-16"), ("UTF-16", "Save it as UTF-8"), {}),
    "UTF-16 without a mark": (text().encode("utf-16-le"), ("UTF-16", "Save it as UTF-8"), {}),
    "Latin-1": (cell(3, "id", "Müller").encode("latin-1"), ("line 5 is not UTF-8",), {}),
    "a header in Latin-1": (
        text(header=["Zeit", "V1", "V2", "Währung", *HEADER[4:]]).encode("latin-1"),
        ("'Amount'", "header is not UTF-8"),
        {},
    ),
    "infinite": (cell(4, "V1", "inf"), ("'V1' is infinite or too large in 1 row (line 6: 'inf')",), {}),
    "NaN": (cell(4, "V1", "NaN"), ("'V1' is missing in 1 row (line 6: 'NaN')",), {}),
    "huge": (cell(4, "V1", "1e300"), ("'V1' is infinite or too large in 1 row (line 6: '1e300')",), {}),
    "thousands with a comma": (
        column("Amount", lambda v: '"1,234.50"'),
        ("line 2: '1,234.50'", "signs between thousands"),
        {},
    ),
    "whole thousands": (column("Amount", lambda v: '"1,234"'), ("Remove the signs between thousands",), {}),
    "thousands with a blank": (column("Amount", lambda v: "1 234.50"), ("signs between thousands",), {}),
    "thousands with a point": (
        column("V1", lambda v: '"1.234,5"'),
        ("'V1' is not a number in 12 rows (line 2: '1.234,5'",),
        {"decimal": ","},
    ),
    "decimal points where commas are told": (text(), ("`decimal` is ','", "remove it"), {"decimal": ","}),
    "percent": (column("V1", lambda v: v + "%"), ("line 2: '-3.0%'", "without signs of percent"), {}),
    "a currency": (column("Amount", lambda v: "$" + v), ("line 2: '$0.99'", "or currency"), {}),
    "flags as words": (column("V2", lambda v: "yes"), ("'V2' is not a number", "flags as 1 and 0"), {}),
    "a NUL byte": (text()[:60] + "\0" + text()[60:], ("'V2' is not a number in 1 row", r"\x00"), {}),
    "a tail of NUL bytes": (text() + "\0" * 5000, ("line 14", "'Time' is not a number"), {}),
    "nothing in a column": (column("V1", lambda v: ""), ("'V1' is missing in 12 rows",), {}),
    "an unparsable timestamp": (
        column("Time", lambda v: "2026-13-45T00:00:00" if v == "3" else iso(v)),
        ("'Time' is not a timestamp in 1 row (line 5: '2026-13-45T00:00:00')", "2026-01-05T13:45:00Z"),
        {"schema": timed("iso8601")},
    ),
    "another way of writing time": (
        column("Time", lambda v: f"05.01.2026 13:45:{v:0>2}"),
        ("is not a timestamp in 12 rows", "%d.%m.%Y"),
        {"schema": timed("iso8601")},
    ),
    "ISO where another pattern is told": (
        column("Time", iso),
        ("of the form '%d.%m.%Y %H:%M:%S'", "set schema.time.format to iso8601"),
        {"schema": timed("%d.%m.%Y %H:%M:%S")},
    ),
    "seconds where ISO is expected": (
        column("Time", lambda v: str(1_700_000_000 + int(v))),
        ("is not a timestamp", "set schema.time.format to seconds"),
        {"schema": timed("iso8601")},
    ),
    "ISO where seconds are expected": (
        column("Time", iso),
        ("'Time' is not a number", "set schema.time.format to iso8601"),
        {},
    ),
    "milliseconds": (
        column("Time", lambda v: str(1_700_000_000_000 + int(v))),
        ("is too large for seconds", "divide them by 1,000"),
        {},
    ),
    "a date that stands for none": (
        column("Time", lambda v: "9999-12-31" if v == "5" else iso(v)),
        ("lies outside the years 1900 to 2199 in 1 row (line 7: '9999-12-31')",),
        {"schema": timed("iso8601")},
    ),
    "a year beyond what can be written": (
        column("Time", lambda v: "99999-01-01" if v == "5" else iso(v)),
        ("'Time' is not a timestamp in 1 row (line 7: '99999-01-01')",),
        {"schema": timed("iso8601")},
    ),
    "repeated ids": (cell(5, "id", "t4"), ("'id' is repeated in 1 row (line 7: 't4')",), {}),
    "blank ids": (cell(5, "id", " "), ("'id' is missing in 1 row (line 7: ' ')",), {}),
    "weights all zero": (column("w", lambda v: "0"), ("'w' of one class are all zero", "above zero"), {}),
    "a negative weight": (cell(4, "w", "-1"), ("'w' is negative in 1 row (line 6: '-1')",), {}),
    "one class": (column("Class", lambda v: "0"), ("all 12 rows have 'Class' = legitimate (0)",), {}),
    "labels as yes and no": (
        column("Class", lambda v: "yes" if v == "1" else "no"),
        ("'Class' is not a number", "Write 'Class' as 1 for fraud and 0 for legitimate"),
        {},
    ),
    "labels 0, 1 and 2": (
        cell(2, "Class", "2"),
        ("neither 0 nor 1 in 1 row (line 4: '2')", "1 for fraud"),
        {},
    ),
    "a header alone": (text([]), ("has a header but no rows",), {}),
    "an empty file": ("", ("is empty. Put a table with a header",), {}),
    "line ends alone": ("\n\n\n", ("is empty",), {}),
    "blank lines": (
        text(ROWS[:5]) + "\n\n" + text(ROWS[5:]).split("\n", 1)[1],
        ("2 rows without any value (line 7, line 8)",),
        {},
    ),
    "a row with more cells": (
        text([*ROWS[:5], [*ROWS[5], "9"], *ROWS[6:]]),
        ("line 7 has 8 cells, the header 7. Mend the line",),
        {},
    ),
    "a row with fewer cells": (
        text([*ROWS[:5], ROWS[5][:4], *ROWS[6:]]),
        ("'Class' is missing in 1 row (line 7: None)",),
        {},
    ),
    "a row that lacks a cell before a column without a role": (
        text(
            [
                [*r, "9"] if i != 5 else [r[0], *r[2:4], "1", "1", "t5", "1", "9"][:7]
                for i, r in enumerate(ROWS)
            ],
            [*HEADER, "rest"],
        ),
        ("line 7 has 7 cells, the header 8",),
        {},
    ),
    "a file that breaks off": (text()[:-12], ("line 13",), {}),
    "an unclosed quote": (cell(5, "id", '"t5'), ("a quote that opens on line 7 is not closed",), {}),
    "an unclosed quote on the last line": (cell(11, "id", '"t11'), ("opens on line 13 is not closed",), {}),
    "a quote in a cell": (cell(5, "id", 't"5'), ("line 7 has a quote inside a cell", "double the quote"), {}),
    "text after a quote": (cell(5, "id", '"t5"x'), ("line 7 has a quote inside a cell",), {}),
    "a repeated name": (
        text([[*r, "9"] for r in ROWS], [*HEADER, "V1"]),
        ("the header names 'V1' more than once",),
        {},
    ),
    "a repeated name in the place of another": (
        text(header=["Time", "V1", "V1", *HEADER[3:]]),
        ("'V2' (features)", "The header names 'V1' more than once"),
        {},
    ),
    "no header": (text().split("\n", 1)[1], ("The first line holds values", "put a header above it"), {}),
    "a web page": ("<!DOCTYPE html>\n<html><b>403, go</b></html>\n", ("web page", "Download it again"), {}),
    "JSON": ('[{"Time": 0, "V1": 1}]', ("is JSON",), {}),
    "carriage returns alone": (text(end="\r"), ("carriage return alone", "line feeds"), {}),
    "a line above the header": ("sep=,\n" + text(), ("Missing column(s)", "sep="), {}),
    "a line of sums": (
        text() + "Total,,,123.4,,,\n",
        ("'Time' is not a number in 1 row (line 14: 'Total')",),
        {},
    ),
    "Parquet named CSV": (parquet(), ("is Parquet", "ends in .parquet"), {}),
    "a workbook named CSV": (b"PK\x03\x04\x14\0\x06\0" + bytes(range(256)), ("Excel workbook",), {}),
}


@pytest.mark.parametrize("case", REFUSED_CSV)
def test_a_broken_csv_is_told_with_its_mend(tmp_path, case):
    content, expected, options = REFUSED_CSV[case]
    file = tmp_path / "table.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    message = refusal(file, **options)
    for words in expected:
        assert words in message


ACCEPTED_CSV: dict[str, tuple[str | bytes, dict[str, Any]]] = {
    "as it is": (text(), {}),
    "a byte order mark": (text().encode("utf-8-sig"), {}),
    "carriage returns and line feeds": (text(end="\r\n"), {}),
    "blank lines above the header": ("\n\n" + text(), {}),
    "no line end at the end": (text().rstrip("\n"), {}),
    "blanks around numbers": (column("V1", lambda v: f" {v}\t"), {}),
    "labels as decimals": (column("Class", lambda v: v + ".0"), {}),
    "labels as truth values": (column("Class", lambda v: "True" if v == "1" else "false"), {}),
    "plus signs": (column("V2", lambda v: "+" + v), {}),
    "every cell in quotes": (text([[f'"{c}"' for c in r] for r in ROWS]), {}),
    "semicolons and decimal commas, as told": (
        text(separator=";").replace(".", ","),
        {"separator": ";", "decimal": ","},
    ),
    "tabs, as told": (text(separator="\t"), {"separator": "\t"}),
    "a column without a name": (text([[*r, ""] for r in ROWS], [*HEADER, ""]), {}),
    "repeated names of columns without a role": (text([[*r, "", ""] for r in ROWS], [*HEADER, "n", "n"]), {}),
    "gzip without its suffix": (GZIPPED, {}),
    "another encoding where nothing is read": (
        text([[*r, "1"] for r in ROWS], [*HEADER, "Größe"]).encode("latin-1"),
        {},
    ),
}


@pytest.mark.parametrize("case", ACCEPTED_CSV)
def test_a_csv_that_is_odd_but_clear_gives_the_right_values(tmp_path, case):
    content, options = ACCEPTED_CSV[case]
    assert read(tmp_path, "table.csv", content, **options).rows() == PLAIN


def test_rows_may_be_in_any_order_of_time(tmp_path):
    assert read(tmp_path, "table.csv", text(ROWS[::-1])).rows() == PLAIN[::-1]


def test_ten_rows_pass_the_validation(tmp_path):
    assert read(tmp_path, "table.csv", text(ROWS[:10])).rows() == PLAIN[:10]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2026-01-05T13:45:00Z", 0),
        ("2026-01-05t13:45:00z", 0),
        ("2026-01-05 13:45:00", 0),
        ("2026-01-05T14:45:00+01:00", 0),
        ("2026-01-05 14:45:00+01", 0),
        ("2026-01-05T09:15:00.250-0430", 0.25),
        ("2026-01-05T13:45", 0),
        ("2026-01-05T13:45Z", 0),
        ("2026-01-05T15:45+02:00", 0),
        ("2026-01-05", -49_500),
    ],
)
def test_an_iso_timestamp_is_read_with_its_offset(tmp_path, written, seconds):
    content = column("Time", lambda v: written)
    found = read(tmp_path, "table.csv", content, timed("iso8601"))
    moment = datetime(2026, 1, 5, 13, 45, tzinfo=UTC).timestamp() + seconds
    assert found["Time"].to_list() == [moment] * 12


def test_a_line_is_told_right_below_cells_that_span_lines(tmp_path):
    rows = [[*r, '"two\nlines"'] for r in ROWS]
    rows[8][1] = "x"
    file = tmp_path / "table.csv"
    file.write_text(text(rows, [*HEADER, "note"]))
    # Eight rows of two lines each lie above, and the header.
    assert "'V1' is not a number in 1 row (line 18: 'x')" in refusal(file)


def test_a_row_is_told_where_the_line_is_not_sure(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("made by hand\n" + cell(4, "V1", "x"))
    assert "'V1' is not a number in 1 row (row 5: 'x')" in refusal(file, skip_rows=1)


# Compressed


@pytest.mark.parametrize("content", [GZIPPED, text().encode()], ids=["gzip", "plain text named .gz"])
def test_what_is_named_gz_may_be_gzip_or_text(tmp_path, content):
    assert read(tmp_path, "table.csv.gz", content).rows() == PLAIN


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (LONG[: len(LONG) // 2], "the gzip file is truncated"),
        (GZIPPED[:-8], "the gzip file is truncated"),
        (LONG[:5000] + bytes(50) + LONG[5050:], "the gzip file is damaged"),
        (b"\x1f\x8bgarbage and nothing more", "the gzip file is damaged"),
    ],
    ids=["half of it", "without its end", "a hole", "garbage"],
)
def test_a_broken_archive_is_told(tmp_path, content, fault):
    file = tmp_path / "table.csv.gz"
    file.write_bytes(content)
    assert f"{fault}" in (message := refusal(file))
    assert "Copy it again" in message


@pytest.mark.parametrize("name", ["table.gz", "table.csv.zip", "table.xlsx"])
def test_a_name_that_does_not_tell_the_format_is_told(tmp_path, name):
    (tmp_path / name).write_bytes(GZIPPED)
    assert "is not a format that is read. It should be one of: .csv" in refusal(tmp_path / name)


# Parquet

GOOD = parquet()

REFUSED_PARQUET = {
    "cut in half": (GOOD[: len(GOOD) // 2], ("cannot be read as Parquet", "Copy or write it again")),
    "empty": (b"", ("cannot be read as Parquet",)),
    "a CSV by its content": (text().encode(), ("cannot be read as Parquet",)),
    "a hole in its pages": (GOOD[:100] + bytes(200) + GOOD[300:], ("cannot be read", "Copy or write")),
    "no rows": (parquet(FRAME.head(0)), ("has a header but no rows",)),
    "no columns": (parquet(pl.DataFrame()), ("Missing column(s)", "no columns")),
    "lists": (parquet(V1=pl.concat_list("V1", "V2")), ("'V1' is List(Float64), not a number. Convert it",)),
    "structs": (parquet(V1=pl.struct("V1", "V2")), ("'V1' is Struct", "leave it out of schema.features")),
    "a list as id": (parquet(id=pl.concat_list("id")), ("'id' is List(String), not an id",)),
    "categories": (parquet(V1=pl.col("id").cast(pl.Categorical)), ("'V1' is Categorical, not a number",)),
    "dates as a feature": (parquet(V1=pl.lit(date(2026, 1, 1))), ("'V1' is Date, not a number",)),
    "dates as seconds": (parquet(Time=pl.lit(date(2026, 1, 1))), ("Set schema.time.format to iso8601",)),
    "durations": (parquet(Time=pl.lit(timedelta(1))), ("'Time' is Duration",)),
    "times of day": (parquet(Time=pl.lit(time(1))), ("'Time' is Time",)),
    "bytes": (parquet(V1=pl.lit(b"\xff")), ("'V1' is Binary, not a number",)),
    "nulls alone": (parquet(V1=pl.lit(None)), ("'V1' is missing in 12 rows (row 1: None",)),
    "a weight of nulls": (parquet(w=pl.lit(None)), ("'w' is missing in 12 rows",)),
    "infinite": (parquet(V1=pl.lit(float("inf"))), ("'V1' is infinite or too large in 12 rows (row 1: inf",)),
    "text for numbers": (
        parquet(V1=pl.col("V1").cast(str).str.replace(".", ",", literal=True)),
        ("row 1: '-3,0'", 'decimal: ","'),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_PARQUET)
def test_a_broken_parquet_is_told(tmp_path, case):
    content, expected = REFUSED_PARQUET[case]
    file = tmp_path / "table.parquet"
    file.write_bytes(content)
    message = refusal(file)
    for words in expected:
        assert words in message


ACCEPTED_PARQUET = {
    "as it is": {},
    "decimals": {"Amount": pl.col("Amount").cast(pl.Decimal(10, 2))},
    "small integers": {"Time": pl.col("Time").cast(pl.UInt8), "w": pl.col("w").cast(pl.Int16)},
    "float32": {"V1": pl.col("V1").cast(pl.Float32)},
    "truth values as labels": {"Class": pl.col("Class") == 1},
    "categories as ids": {"id": pl.col("id").cast(pl.Categorical)},
    "text for numbers": {"V1": pl.col("V1").cast(str)},
}


@pytest.mark.parametrize("case", ACCEPTED_PARQUET)
def test_a_parquet_of_other_types_gives_the_right_values(tmp_path, case):
    assert read(tmp_path, "table.parquet", parquet(**ACCEPTED_PARQUET[case])).rows() == PLAIN


@pytest.mark.parametrize(
    "moment",
    [
        pl.lit(datetime(2026, 1, 5, tzinfo=UTC)),
        pl.lit(datetime(2026, 1, 5)),
        pl.lit(date(2026, 1, 5)),
        pl.lit(datetime(2026, 1, 5, tzinfo=UTC)).dt.convert_time_zone("Asia/Tokyo").dt.cast_time_unit("ms"),
        pl.lit("2026-01-05"),
    ],
    ids=["UTC", "no zone", "date", "another zone and unit", "text"],
)
def test_timestamps_of_any_type_are_seconds_from_the_origin(tmp_path, moment):
    found = read(tmp_path, "table.parquet", parquet(Time=moment), timed("iso8601"))
    assert found["Time"].to_list() == [1_767_571_200.0] * 12


# Folders and patterns


def test_an_empty_folder_is_told(tmp_path):
    (folder := tmp_path / "parts").mkdir()
    assert "is a folder that holds no Parquet part: put the table there" in refusal(folder)


def test_a_folder_named_as_a_csv_is_told(tmp_path):
    (folder := tmp_path / "table.csv").mkdir()
    (folder / "part-0.csv").write_text(text())
    assert "is a folder that holds no Parquet part" in refusal(folder)


def test_a_part_of_another_schema_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(GOOD)
    (tmp_path / "b.parquet").write_bytes(parquet(V1=pl.col("V1").cast(str)))
    message = refusal(tmp_path)
    assert "b.parquet is not a part of the same table as a.parquet: 'V1' is String, not Float64" in message


def test_csv_files_of_a_pattern_need_one_header(tmp_path):
    (tmp_path / "a.csv").write_text(text(ROWS[:6]))
    (tmp_path / "b.csv").write_text(text(ROWS[6:]))
    assert validate(tmp_path / "*.csv").rows() == PLAIN
    (tmp_path / "b.csv").write_text(text(ROWS[6:], ["Time", "V2", "V1", *HEADER[3:]]))
    with pytest.raises((FraudKedroError, DatasetError)) as caught:
        validate(tmp_path / "*.csv")
    assert "the columns of a.csv in another order" in checked(caught.value, tmp_path / "b.csv")


# Everything wrong at once


def test_the_message_is_bounded_when_everything_is_wrong(tmp_path):
    names = [f"feature_{i}" for i in range(300)]
    header = ["Time", *names, "Amount", "Class"]
    content = text([["x" * 500] * len(header)] * 400, header)
    (tmp_path / "table.csv").write_text(content)
    schema = {
        **SCHEMA,
        "features": ["Time", "feature_*", "Amount"],
        "transaction_id": None,
        "sample_weight": None,
    }
    message = refusal(tmp_path / "table.csv", schema)
    assert "303 check(s) failed in 400 rows" in message
    assert "and 293 more" in message


def test_the_message_is_bounded_when_every_column_is_missing(tmp_path):
    (tmp_path / "table.csv").write_text(text([["1"] * 300], [f"other {i} {'x' * 300}" for i in range(300)]))
    schema = {**SCHEMA, "features": [f"feature_{i}" for i in range(300)]}
    assert "Missing column(s)" in refusal(tmp_path / "table.csv", schema)
