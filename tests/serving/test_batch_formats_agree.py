"""A law: whatever the rows are, CSV, Parquet and JSON say the same of them."""

from __future__ import annotations

import io
import json
import math

import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = ["Time", *(f"V{i}" for i in range(1, 29)), "Amount"]
CHECKED = ("V1", "V2", "Amount")

# What a cell can be in all three formats; None is an empty one.
cells = st.one_of(
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(min_value=-1e6, max_value=1e6),
    st.integers(min_value=-(2**60), max_value=2**60).map(float),
    st.sampled_from([0.0, -0.0, 5e-324, 3.4e38, 3.5e38, -3.5e38, 1e16, 123456789.125]),
)
rows = st.lists(st.fixed_dictionaries(dict.fromkeys(CHECKED, cells)), min_size=1, max_size=8)
drawn_runs = iter(range(10**9))


def said(server, content, media_type):
    answer = server.client.post(
        "/predict/batch",
        content=content,
        headers={"Content-Type": media_type, "Accept": "application/json"},
    )
    found = answer.json()
    # A JSON batch without a good row has status 422; what it says is the same.
    assert answer.status_code == 200 or not found["predictions"]
    errors = {(e["row"], p["loc"][-1], p["type"]) for e in found["errors"] for p in e["detail"]}
    return found["predictions"], errors


def as_json(table):
    present = [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]
    return json.dumps({"transactions": present})


def as_csv(table):
    out = io.BytesIO()
    texts = [
        pa.array([None if v is None else v if isinstance(v, str) else repr(v) for v in column.to_pylist()])
        for column in table.columns
    ]
    pyarrow.csv.write_csv(pa.table(texts, names=table.column_names), out)
    return out.getvalue()


def as_parquet(table):
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows, time=st.floats(min_value=-1e9, max_value=1e9))
def test_csv_parquet_and_json_give_the_same_answers(server, rows, time):
    run = next(drawn_runs)
    table = pa.Table.from_pylist(
        [
            {name: 1.5 for name in NAMES} | {"Time": time, "transaction_id": f"law-{run}-{i}"} | row
            for i, row in enumerate(rows)
        ],
        schema=pa.schema([*((name, pa.float64()) for name in NAMES), ("transaction_id", pa.string())]),
    )
    by_json, errors = said(server, as_json(table), "application/json")
    # The ids are the same: other values in a row, in any bit, would be a conflict.
    assert said(server, as_csv(table), "text/csv") == (by_json, errors)
    assert said(server, as_parquet(table), "application/vnd.apache.parquet") == (by_json, errors)
    wrong = {
        (i, name)
        for i, row in enumerate(rows)
        for name, value in row.items()
        if value is None or not math.isfinite(value) or abs(value) > 3.4028234663852886e38
    }
    assert {(row, name) for row, name, _ in errors} == wrong


def test_a_service_without_tables_does_not_load_their_library(start_server, served_root, transactions):
    server = start_server(served_root)

    def loaded():
        processes = psutil.Process(server._process.pid).children(recursive=True)
        return {
            name
            for process in processes
            for name in ("libarrow.so", "libparquet.so", "pandas")
            if any(name in mapped.path for mapped in process.memory_maps())
        }

    body = json.dumps({"transactions": transactions(10)})
    assert server.client.post("/predict/batch", content=body, headers={"Content-Type": "application/json"})
    assert loaded() == set()
    table = pa.Table.from_pylist(transactions(10))
    for content, media_type in (
        (as_parquet(table), "application/vnd.apache.parquet"),
        (as_csv(table), "text/csv"),
    ):
        answer = server.client.post("/predict/batch", content=content, headers={"Content-Type": media_type})
        assert answer.status_code == 200
    assert loaded() == {"libarrow.so", "libparquet.so"}
