from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest
import sqlalchemy as sa
from kedro_datasets.pandas import SQLQueryDataset

PASSWORD = "a very secret word"


@pytest.fixture(scope="module")
def bank(postgres) -> str:
    """A database that wants a password over TCP; gives its URL as its owner."""
    url = postgres.database("bank").replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE analyst LOGIN PASSWORD '{PASSWORD}'")
        connection.exec_driver_sql("GRANT ALL ON SCHEMA public TO analyst")
        (file,) = connection.exec_driver_sql("SHOW hba_file").one()
        rules = Path(file).read_text()
        Path(file).write_text(f"host all analyst 127.0.0.1/32 scram-sha-256\n{rules}")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    engine.dispose()
    return url


@pytest.fixture
def stored(bank, purchases):
    """The page's table with the types of a database."""
    SQLQueryDataset.engines.clear()
    engine = sa.create_engine(bank)
    with engine.begin() as connection:
        # What an earlier test holds open would block the next line.
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'analyst'"
        )
        connection.exec_driver_sql("DROP TABLE IF EXISTS purchases")
        columns = ", ".join(f'"{c}" {_type(c, dtype)}' for c, dtype in purchases.schema.items())
        connection.exec_driver_sql(f"CREATE TABLE purchases ({columns})")
        connection.exec_driver_sql("GRANT SELECT ON purchases TO analyst")
        marks = ", ".join(["%s"] * purchases.width)
        connection.exec_driver_sql(f"INSERT INTO purchases VALUES ({marks})", purchases.rows())
    engine.dispose()


def _type(column: str, dtype: pl.DataType) -> str:
    if column in ("bought_at", "total"):
        return {"bought_at": "timestamptz", "total": "numeric(12, 2)"}[column]
    return "text" if dtype == pl.String else "double precision" if dtype == pl.Float64 else "integer"


@pytest.fixture
def of_database(environment, page, bank, monkeypatch):
    parts = urlsplit(bank)
    monkeypatch.setenv("DB_USER", "analyst")
    monkeypatch.setenv("DB_PASSWORD", PASSWORD.replace(" ", "%20"))
    monkeypatch.setenv("DB_HOST", f"127.0.0.1:{parts.port}")
    monkeypatch.setenv("DB_NAME", "bank")
    environment.use(page.containing("SQLQueryDataset"), page.containing("warehouse:", "con:"))
    return environment


def test_a_query_with_timestamps_decimals_and_text_ids(of_database, stored, bank, assert_same):
    assert_same(of_database.transactions())
    name, location = of_database.source
    assert name == "raw_transactions"
    assert location == f"postgresql://127.0.0.1:{urlsplit(bank).port}/bank"


def test_a_bad_value_of_a_query_is_told_with_its_row(of_database, stored, bank):
    engine = sa.create_engine(bank)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE purchases SET total = -3 WHERE purchase_id = 'g000007'")
    engine.dispose()
    assert "raw_transactions: 1 check(s) failed" in (line := of_database.refusal())
    assert "'total' is negative in 1 row (row " in line


def test_a_table_that_does_not_exist(of_database, stored):
    catalog = of_database.conf / "mine" / "catalog.yml"
    catalog.write_text(catalog.read_text().replace("FROM purchases", "FROM no_such_table"))
    line = of_database.refusal()
    assert 'relation "no_such_table" does not exist' in line
    assert "raw_transactions" in line


def test_a_wrong_password_is_refused_and_never_shown(of_database, stored, monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "another-secret")
    line = of_database.refusal()
    assert 'password authentication failed for user "analyst"' in line
    assert "another-secret" not in line
    assert "credentials" in line


def test_a_server_that_is_away(of_database, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("DB_HOST", f"127.0.0.1:{port}")
    line = of_database.refusal()
    assert "Connection refused" in line
    assert f"127.0.0.1:{port}/bank" in line
    assert "%20" not in line
    assert PASSWORD not in line


def test_a_result_in_chunks_is_told(of_database, stored):
    catalog = of_database.conf / "mine" / "catalog.yml"
    catalog.write_text(catalog.read_text() + "  load_args: {chunksize: 100}\n")
    assert "remove load_args.chunksize" in of_database.refusal()


def test_the_query_may_be_in_a_file(of_database, stored, assert_same):
    query = of_database.conf / "purchases.sql"
    query.write_text("SELECT * FROM purchases\n")
    catalog = of_database.conf / "mine" / "catalog.yml"
    lines = [
        f"  filepath: {query}" if line.startswith("  sql:") else line
        for line in catalog.read_text().splitlines()
    ]
    catalog.write_text("\n".join(lines) + "\n")
    assert_same(of_database.transactions())
    query.write_text("SELECT * FROM no_such_table\n")
    result = of_database.run()
    assert result.exit_code == 1
    assert 'relation "no_such_table" does not exist' in result.output
