from __future__ import annotations

import io
import json
import socket
import sqlite3
import threading
import time

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from fraud_kedro.champion.bundle import read_bundle
from fraud_kedro.champion.scorer import Scorer

ADDED = ["transaction_id", "prediction", "probability", "decision", "model_version", "timestamp", "error"]
CSV, PARQUET, JSON = "text/csv", "application/vnd.apache.parquet", "application/json"


def table(transactions, **columns):
    found = pa.Table.from_pylist(transactions)
    for name, values in columns.items():
        found = found.append_column(name, pa.array(values))
    return found


def as_csv(transactions):
    out = io.BytesIO()
    pyarrow.csv.write_csv(transactions if isinstance(transactions, pa.Table) else table(transactions), out)
    return out.getvalue()


def as_parquet(transactions, **options):
    out = io.BytesIO()
    pq.write_table(
        transactions if isinstance(transactions, pa.Table) else table(transactions), out, **options
    )
    return out.getvalue()


def post(server, content, media_type, **headers):
    return server.client.post(
        "/predict/batch", content=content, headers={"Content-Type": media_type, **headers}
    )


def read(answer):
    if answer.headers["content-type"].startswith("text/csv"):
        texts = pyarrow.csv.ConvertOptions(
            column_types={"transaction_id": pa.string(), "timestamp": pa.string()}
        )
        return pyarrow.csv.read_csv(io.BytesIO(answer.content), convert_options=texts).to_pylist()
    return pq.read_table(io.BytesIO(answer.content)).to_pylist()


def in_log(root, condition="1"):
    with sqlite3.connect(root / "prediction_log.db") as connection:
        return connection.execute(f"SELECT count(*) FROM predictions WHERE {condition}").fetchone()[0]


@pytest.mark.parametrize(("media_type", "write"), [(CSV, as_csv), (PARQUET, as_parquet)])
def test_a_table_is_answered_in_its_format_with_columns_added(
    server, served_root, transactions, media_type, write
):
    drawn = transactions(4_321)
    labels = [i % 2 for i in range(len(drawn))]
    before = in_log(served_root)
    answer = post(server, write(table(drawn, Class=labels)), media_type)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].partition(";")[0] == media_type
    assert "predictions." in answer.headers["content-disposition"]
    rows = read(answer)
    assert list(rows[0]) == [*drawn[0], "Class", *ADDED]
    assert [row["Class"] for row in rows] == labels
    assert [{name: row[name] for name in drawn[0]} for row in rows] == drawn
    scorer = Scorer(read_bundle(served_root / "06_models" / "champion"))
    expected = scorer.probabilities(scorer.matrix([list(t.values()) for t in drawn])).tolist()
    assert [row["probability"] for row in rows] == expected
    assert [row["decision"] for row in rows] == [scorer.decision(p) for p in expected]
    assert len({row["transaction_id"] for row in rows}) == in_log(served_root) - before == 4_321


def test_every_format_can_be_answered_in_every_other(server, transactions):
    drawn = [t | {"transaction_id": f"other-{i}"} for i, t in enumerate(transactions(20, seed=3))]
    bodies = {JSON: json.dumps({"transactions": drawn}), CSV: as_csv(drawn), PARQUET: as_parquet(drawn)}
    for sent, body in bodies.items():
        found = post(server, body, sent, Accept=f"text/plain, {JSON}").json()["predictions"]
        for wanted in (CSV, PARQUET):
            rows = read(post(server, body, sent, Accept=f"{JSON};q=0.1, {wanted}"))
            for row, prediction in zip(rows, found, strict=True):
                assert {name: row[name] for name in ADDED[:5]} == {
                    name: prediction[name] for name in ADDED[:5]
                }
                assert not row["error"]


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        (None, PARQUET),
        ("*/*", PARQUET),
        ("text/*", CSV),
        ("application/json;q=0.9, */*;q=0.1", JSON),
        ("application/json, */*", PARQUET),
        ("application/x-parquet", "application/x-parquet"),
        ("application/vnd.apache.parquet;q=0, */*", JSON),
    ],
)
def test_accept_chooses_the_answer(server, transactions, accept, answered):
    answer = post(
        server, as_parquet(transactions(2)), PARQUET, **({} if accept is None else {"Accept": accept})
    )
    assert answer.status_code == 200
    # httpx sends */* by itself.
    assert answer.headers["content-type"].partition(";")[0] == answered


@pytest.mark.parametrize("accept", ["image/png", "application/json;q=0, text/plain", "text/csv;q=x"])
def test_an_answer_nobody_gives_is_not_acceptable(server, served_root, transactions, accept):
    before = in_log(served_root)
    answer = post(server, as_csv(transactions(2)), CSV, Accept=accept)
    assert answer.status_code == 406
    assert "text/csv" in answer.json()["detail"][0]["msg"]
    assert in_log(served_root) == before


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("mine.csv", CSV),
        ("mine.csv", "application/vnd.ms-excel"),
        ("mine.parquet", "application/octet-stream"),
    ],
)
def test_a_file_can_be_uploaded_by_a_form(server, transactions, name, media_type):
    drawn = transactions(3_000, seed=5)
    content = as_csv(drawn) if name.endswith("csv") else as_parquet(drawn)
    answer = server.client.post("/predict/batch", files={"file": (name, content, media_type)})
    assert answer.status_code == 200, answer.text
    assert f"mine_predictions.{name.partition('.')[2]}" in answer.headers["content-disposition"]
    assert len(read(answer)) == 3_000


def test_a_form_of_another_site_or_without_a_file_is_refused(server, served_root, transactions):
    before = in_log(served_root)
    file = ("a.csv", as_csv(transactions(1)), CSV)
    for headers in ({"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert server.client.post("/predict/batch", files={"file": file}, headers=headers).status_code == 403
    assert server.client.post("/predict/batch", files={"other": file}).status_code == 422
    assert server.client.post("/predict/batch", files=[("file", file), ("file", file)]).status_code == 422
    broken = {"Content-Type": "multipart/form-data"}
    assert server.client.post("/predict/batch", content=b"x", headers=broken).status_code == 422
    assert in_log(served_root) == before


def test_bad_rows_name_field_and_reason_and_do_not_hold_up_the_others(server, transactions):
    drawn = [t | {"transaction_id": f"csv-{i}"} for i, t in enumerate(transactions(9, seed=9))]
    text = as_csv(drawn).decode().splitlines()
    for row, (column, value) in enumerate(
        [(1, "x"), (2, ""), (3, "nan"), (4, "1e39"), (30, '"' + "i" * 200 + '"'), (5, " +1.5 "), (6, "1e400")]
    ):
        cells = text[row + 1].split(",")
        cells[column] = value
        text[row + 1] = ",".join(cells)
    rows = read(post(server, "\n".join(text), CSV))
    reasons = [row["error"] for row in rows]
    assert reasons[0] == "V1: should be a number, not a string"
    assert reasons[1] == "V2: is required"
    assert reasons[2] == "V3: should be a finite number"
    assert reasons[3].startswith("V4: should lie between")
    assert reasons[4].startswith("transaction_id: should be 1 to 128")
    assert reasons[6] == "V6: should be a finite number"
    assert [reasons[i] for i in (5, 7, 8)] == ["", "", ""]
    assert [row["prediction"] is None for row in rows] == [i in (0, 1, 2, 3, 4, 6) for i in range(9)]
    assert [row["transaction_id"] for row in rows][:4] == [f"csv-{i}" for i in range(4)]


def test_nulls_and_infinities_of_parquet_fail_their_rows_alone(server, transactions):
    drawn = transactions(5)
    drawn[1]["V1"] = None
    drawn[2]["V2"] = float("inf")
    drawn[3]["Amount"] = 1e39
    rows = read(post(server, as_parquet(drawn), PARQUET))
    assert [row["error"] and row["error"][:20] for row in rows] == [
        None, "V1: is required", "V2: should be a fini", "Amount: should lie b", None
    ]  # fmt: skip


def test_integers_decimals_and_small_floats_are_numbers(server, transactions):
    drawn = transactions(50)
    found = table(drawn)
    found = found.set_column(0, "Time", found["Time"].cast(pa.int64()))
    found = found.set_column(1, "V1", found["V1"].cast(pa.float32()))
    found = found.set_column(29, "Amount", found["Amount"].cast(pa.decimal128(12, 2)))
    found = found.append_column("transaction_id", pa.array(range(7_000, 7_050)))
    rows = read(post(server, as_parquet(found), PARQUET))
    assert [row["transaction_id"] for row in rows] == [str(i) for i in range(7_000, 7_050)]
    assert not any(row["error"] for row in rows)
    again = server.client.post(
        "/predict", json={**drawn[3], "V1": found["V1"][3].as_py(), "transaction_id": "7003"}
    )
    assert again.status_code == 200
    assert again.json()["timestamp"] == f"{rows[3]['timestamp']:%Y-%m-%dT%H:%M:%S.%f}Z"


def test_a_batch_sent_again_is_logged_once_and_other_values_are_an_error(server, served_root, transactions):
    drawn = [t | {"transaction_id": f"again-{i}"} for i, t in enumerate(transactions(2_500, seed=8))]
    first = read(post(server, as_parquet(drawn), PARQUET))
    before = in_log(served_root)
    assert read(post(server, as_parquet(drawn), PARQUET)) == first
    drawn[2_100]["V1"] += 1
    second = read(post(server, as_csv(drawn), CSV))
    assert second[2_100]["error"].startswith("transaction_id: was answered before")
    assert second[2_100]["prediction"] is None
    assert [r["probability"] for r in second[:2_100]] == [r["probability"] for r in first[:2_100]]
    assert in_log(served_root) == before
    # An answer can be sent in turn: its columns are replaced.
    answered = post(server, as_parquet(drawn[:3]), PARQUET).content
    assert list(read(post(server, answered, PARQUET))[0]) == [*list(drawn[0])[:-1], *ADDED]


def lines(transactions, change):
    text = as_csv(transactions).decode().splitlines()
    return "\n".join(change(text)).encode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: [], "is empty"),
        (lambda t: t[:1], "1 to 1000000 rows, not 0"),
        (lambda t: t[1:], "has no header"),
        (lambda t: [*t, t[1] + ",1"], "has 31 values"),
        (lambda t: [*t, "1,2"], "has 2 values"),
        (lambda t: [t[0].replace("V7", "V8"), *t[1:]], "more than one column"),
        (lambda t: [t[0].replace("V7", "W7"), *t[1:]], "no column of this name"),
        (lambda t: [*t, "\0" * 5], "NUL"),
        (lambda t: [row.replace(",", ";") for row in t], "has semicolons between its values"),
        (lambda t: [row.replace(",", "\t") for row in t], "has tabs between its values"),
        (lambda t: [f"{t[0]},{'x' * 140_000}", *(f"{row},1" for row in t[1:])], "no header that can be read"),
    ],
)
def test_a_broken_csv_is_refused_before_anything_is_scored(server, served_root, transactions, change, reason):
    before = in_log(served_root)
    answer = post(server, lines(transactions(2_000), change), CSV)
    assert answer.status_code == 422
    assert reason in answer.text
    assert in_log(served_root) == before


@pytest.mark.parametrize("charset", ["punycode", "undefined"])
def test_a_form_in_no_charset_at_all_is_refused(server, transactions, charset):
    form = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n'
        b"Content-Type: text/csv\r\n\r\n" + as_csv(transactions(1)) + b"\r\n--x--\r\n"
    )
    answer = post(server, form, f"multipart/form-data; boundary=x; charset={charset}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "multipart_invalid"


@pytest.mark.parametrize("name", ["two\nlines", "a\u2028b", "a\x85b", "a\x0bb", 'a "b"'])
def test_a_header_is_read_as_its_rows_are(server, transactions, name):
    rows = read(post(server, as_csv(table(transactions(2), **{name: ["first", "second"]})), CSV))
    assert [row[name] for row in rows] == ["first", "second"]
    assert not any(row["error"] for row in rows)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"\xff", b"a"]),
        pa.array([b"\xff", b"a"], pa.binary(1)),
        pa.array([b"\xff", b"a"], pa.large_binary()),
        pa.array([b"0" * 16, b"1" * 16], pa.uuid()),
        pa.array([1, 2], pa.timestamp("ns", "Mars/Olympus")),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_that_csv_cannot_have_are_refused_before_anything_is_scored(
    server, served_root, transactions, column
):
    content = as_parquet(table(transactions(2)).append_column("mark", column))
    before = in_log(served_root)
    answer = post(server, content, PARQUET, Accept=CSV)
    assert answer.status_code == 406
    assert answer.json()["detail"][0]["loc"] == ["body", "mark"]
    assert in_log(served_root) == before
    assert post(server, content, PARQUET).status_code == 200


def test_csv_is_utf8(server, transactions):
    text = as_csv(table(transactions(3), note=["é", "日", 'a,b\n"c"'])).decode()
    rows = read(post(server, text.encode("utf-8-sig"), CSV))
    assert [row["note"] for row in rows] == ["é", "日", 'a,b\n"c"'] or rows[2]["note"].startswith("a,b")
    assert not any(row["error"] for row in rows)
    latin = post(server, text.replace("日", "è").encode("latin-1"), CSV)
    assert (latin.status_code, latin.json()["detail"][0]["type"]) == (422, "csv_encoding")
    assert post(server, text.encode("utf-16"), CSV).status_code == 422
    assert post(server, text.encode("latin-1", "replace"), "text/csv; charset=latin-1").status_code == 415
    assert post(server, text, "text/csv; header=absent").status_code == 415


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda c: b"",
        lambda c: b"PAR1",
        lambda c: c[: len(c) // 2],
        lambda c: c[:-8],
        lambda c: b"PAR1" + bytes(len(c)),
        lambda c: c[:4] + bytes(5_000) + c[5_004:],
        lambda c: c[:20_000] + bytes(b ^ 0x55 for b in c[20_000:60_000]) + c[60_000:],
    ],
)
def test_a_corrupted_parquet_file_is_refused_before_anything_is_scored(
    server, served_root, transactions, corrupt
):
    before = in_log(served_root)
    content = corrupt(as_parquet(transactions(3_000), write_page_checksum=True))
    answer = post(server, content, PARQUET)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "parquet_invalid"
    assert (
        server.client.post("/predict/batch", files={"file": ("a.parquet", content, PARQUET)}).status_code
        == 422
    )
    assert in_log(served_root) == before


def test_columns_that_hold_no_numbers_are_refused_as_a_whole(server, transactions):
    drawn = table(transactions(3))
    text = drawn.set_column(4, "V4", pa.array(["1", "2", "3"]))
    nested = drawn.append_column("list", pa.array([[1], [2], [3]]))
    double = drawn.append_column("V1", drawn["V1"])
    for wrong, where in ((text, "V4"), (nested, "list"), (double, "V1")):
        answer = post(server, as_parquet(wrong), PARQUET)
        assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", where])
    few = post(server, as_parquet(drawn.select(["Time", "V1"])), PARQUET)
    assert len(few.json()["detail"]) == 20


def test_a_text_that_every_row_shares_does_not_fill_the_memory(server, transactions):
    drawn = transactions(1)[0]
    found = table([drawn]).take(pa.array(np.zeros(20_000, np.int64)))
    found = found.append_column(
        "note", pa.DictionaryArray.from_arrays(np.zeros(20_000, np.int32), ["x" * 10_000_000])
    )
    content = as_parquet(found)
    assert len(content) < 3_000_000
    answer = post(server, content, PARQUET)
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "text_length")


def test_other_types_of_content_are_refused(server, transactions):
    content = as_csv(transactions(1))
    for media_type in ("text/plain", "application/octet-stream", "application/xml", ""):
        assert post(server, content, media_type).status_code == 415
    assert post(server, content, CSV, **{"Content-Encoding": "gzip"}).status_code == 415
    assert post(server, as_parquet(transactions(1)), "application/octet-stream").status_code == 200


def test_rows_and_bytes_are_limited_while_they_come(start_server, served_root, transactions):
    server = start_server(served_root, max_batch_rows=100, max_batch_bytes=100_000, request_timeout_seconds=1)
    for body, media_type in (
        (as_csv(transactions(101)), CSV),
        (as_parquet(transactions(101)), PARQUET),
        (json.dumps({"transactions": [{}] * 101}), JSON),
    ):
        answer = post(server, body, media_type)
        assert answer.status_code == 413, answer.text
        assert "1 to 100" in answer.text
    whole = as_csv(transactions(500))
    assert post(server, whole, CSV).status_code == 413
    sent = 0

    def chunks():
        nonlocal sent
        for start in range(0, len(whole), 10_000):
            sent += 1
            yield whole[start : start + 10_000]

    assert post(server, chunks(), CSV).status_code == 413
    assert server.client.post("/predict/batch", files={"file": ("a.csv", whole, CSV)}).status_code == 413
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head(99) + b"Time")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    # One that comes slowly is waited for.
    body = as_csv(transactions(1))
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head(len(body)) + body[:5])
        for start in (5, 10, 15, 20):
            time.sleep(0.4)
            connection.sendall(body[start : start + 5])
        connection.sendall(body[25:])
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def head(length):
    headers = f"Host: a\r\nContent-Type: {CSV}\r\nContent-Length: {length}"
    return f"POST /predict/batch HTTP/1.1\r\n{headers}\r\n\r\n".encode()


def worker(server):
    return max(
        psutil.Process(server._process.pid).children(recursive=True), key=lambda p: p.memory_info().rss
    )


def test_two_batches_and_single_requests_are_answered_at_once(server, served_root, transactions):
    before = in_log(served_root)
    bodies = [as_parquet(transactions(10_000, seed=seed)) for seed in (21, 22)]
    answers = []
    threads = [
        threading.Thread(target=lambda body=body: answers.append(post(server, body, PARQUET)))
        for body in bodies
    ]
    for thread in threads:
        thread.start()
    singles, one = 0, transactions(1)[0]
    while any(thread.is_alive() for thread in threads):
        assert server.client.post("/predict", json=one).status_code == 200
        singles += 1
    for thread in threads:
        thread.join()
    assert [len(read(answer)) for answer in answers] == [10_000, 10_000]
    assert in_log(served_root) - before == 20_000 + singles
    assert singles > 5


def test_a_client_that_hangs_up_ends_its_batch(server, served_root, transactions):
    body = as_csv(transactions(30_000, seed=31))
    before = in_log(served_root)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head(len(body)) + body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    settled, count = 0, -1
    while settled < 4:
        time.sleep(0.5)
        now = in_log(served_root)
        settled, count = (settled + 1 if now == count else 0), now
    assert 0 < count - before < 30_000
    # Nor is anything kept of one that hangs up while it sends.
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head(len(body)) + body[: len(body) // 2])
    assert in_log(served_root) == count
    assert server.client.post("/predict", json=transactions(1)[0]).status_code == 200
    deadline = time.monotonic() + 10
    while any("SpooledTemporary" in f.path or "(deleted)" in f.path for f in worker(server).open_files()):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_json_batch_larger_than_a_piece_is_read_in_pieces(server, served_root, transactions):
    drawn = transactions(4_000, seed=41)
    drawn[3_500]["V3"] = "}, {"
    before = in_log(served_root)
    body = json.dumps({"transactions": drawn}, indent=1)
    assert len(body) > 3_000_000
    found = post(server, body, JSON).json()
    assert [e["row"] for e in found["errors"]] == [3_500]
    assert len(found["predictions"]) == in_log(served_root) - before == 3_999
    broken = post(server, body[:-3] + "}", JSON)
    assert (broken.status_code, broken.json()["detail"][0]["type"]) == (422, "json_invalid")
    place = body.index('"V9": ', 2_000_000) + len('"V9": ')
    assert post(server, body[:place] + "[" + body[place:], JSON).status_code == 422
    assert in_log(served_root) - before == 3_999


@pytest.mark.slow
def test_a_large_parquet_file_takes_little_memory_and_is_logged_whole(
    start_server, served_root, transactions
):
    rows = 300_000
    columns = {name: np.random.default_rng(1).normal(size=rows).round(3) for name in transactions(1)[0]}
    content = as_parquet(pa.table(columns), row_group_size=rows)
    server = start_server(served_root)
    # Whatever a first batch loads.
    post(server, as_parquet(transactions(5_000)), PARQUET)
    process, before, most = worker(server), in_log(served_root), 0
    start = process.memory_info().rss
    received = 0
    with server.client.stream(
        "POST", "/predict/batch", content=content, headers={"Content-Type": PARQUET}, timeout=300
    ) as answer:
        assert answer.status_code == 200
        for part in answer.iter_bytes():
            received += len(part)
            most = max(most, process.memory_info().rss - start)
    assert in_log(served_root) - before == rows
    assert received > len(content)
    # The table alone is 72 MB, its answers 30 MB, and its log rows 250 MB.
    assert most < 120_000_000
    text = server.log.read_text()
    assert f"{rows:,} of {rows:,} rows answered" in text
