from __future__ import annotations

import io
import socket
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

KEY, SECRET = "lake-key", "lake-secret"


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """An S3 server over HTTP; gives its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(store, purchases):
    client = boto3.client(
        "s3",
        endpoint_url=store,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="bank")
    for name, rows in (("a", purchases[:1500]), ("b", purchases[1500:])):
        rows.write_parquet(buffer := io.BytesIO())
        client.put_object(Bucket="bank", Key=f"purchases/{name}.parquet", Body=buffer.getvalue())
    purchases.write_parquet(buffer := io.BytesIO())
    client.put_object(Bucket="bank", Key="purchases.parquet", Body=buffer.getvalue())
    client.put_object(Bucket="bank", Key="purchases.csv", Body=purchases.write_csv().encode())
    return client


@pytest.fixture
def of_store(environment, page, store, monkeypatch):
    """A function that reads an address with the page's credentials, or without any."""

    def use(address: str, credentials: bool = True):
        entry = page.containing("s3://bank/purchases/*.parquet", "credentials: lake")
        entry = entry.replace("s3://bank/purchases/*.parquet", address)
        if not credentials:
            entry = entry.replace("  credentials: lake\n", "")
        environment.use(entry, page.containing("aws_access_key_id") if credentials else "")
        return environment

    for variable, value in (("LAKE_KEY", KEY), ("LAKE_SECRET", SECRET), ("LAKE_URL", store)):
        monkeypatch.setenv(variable, value)
    return use


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("s3://bank/purchases/*.parquet", "purchases"),
        ("s3://bank/purchases.parquet", "purchases"),
        ("s3://bank/purchases.csv", "purchases"),
    ],
)
def test_an_object_or_a_pattern(bucket, of_store, assert_same, address, name):
    environment = of_store(address)
    assert_same(environment.transactions())
    assert environment.source == (name, address)


def test_the_usual_variables_are_enough(bucket, of_store, store, assert_same, monkeypatch):
    for variable, value in (
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", store),
        ("AWS_ALLOW_HTTP", "true"),
    ):
        monkeypatch.setenv(variable, value)
    assert_same(of_store("s3://bank/purchases.parquet", credentials=False).transactions())


@pytest.mark.parametrize(
    "address",
    [
        "s3://bank/sales.parquet",
        "s3://bank/sales.csv",
        "s3://bank/sales/*.parquet",
        "s3://no-such-bucket/purchases.parquet",
        "s3://no-such-bucket/purchases.csv",
    ],
)
def test_a_key_or_bucket_that_is_missing(bucket, of_store, address):
    line = of_store(address).refusal()
    assert f"{address} not found" in line
    assert "put the table there" in line
    assert SECRET not in line


def test_a_bad_value_in_an_object_is_told_with_its_row(bucket, of_store, purchases):
    text = purchases.write_csv().replace("g000003,", "g000002,")
    bucket.put_object(Bucket="bank", Key="bad.csv", Body=text.encode())
    line = of_store("s3://bank/bad.csv").refusal()
    assert "s3://bank/bad.csv: 1 check(s) failed" in line
    assert "'purchase_id' is repeated in 1 row (row 4: 'g000002')" in line


@pytest.mark.slow
def test_a_store_that_is_away(of_store, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("LAKE_URL", f"http://127.0.0.1:{port}")
    line = of_store("s3://bank/purchases.parquet").refusal()
    assert "s3://bank/purchases.parquet: its store cannot be reached" in line
    assert SECRET not in line
