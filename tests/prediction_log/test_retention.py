from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from fraud_kedro.prediction_log import open_for_reading, refresh_wide_view
from fraud_kedro.prediction_log.__main__ import main
from fraud_kedro.prediction_log.database import connect
from fraud_kedro.prediction_log.retention import Retention

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def rows(url):
    reader = open_for_reading(url)
    try:
        return {row["transaction_id"]: row for row in reader.rows()}
    finally:
        reader.close()


@pytest.fixture
def aged(writer, record):
    """A log with 500 old rows, of which many arrived at one moment, and 20 new ones."""
    old = [record(f"old{i}", timestamp=NOW - timedelta(days=100 + i // 400)) for i in range(500)]
    new = [record(f"new{i}", timestamp=NOW - timedelta(days=i)) for i in range(20)]
    writer.write([*old, *new])
    return writer


def test_old_rows_lose_their_features_and_nothing_else(aged, log_url):
    before = rows(log_url)
    retention = Retention(aged.engine, 90)
    assert retention.prune(now=lambda: NOW) == 500
    after = rows(log_url)
    for name, row in after.items():
        if name.startswith("old"):
            assert row["features"] is None
            assert {**row, "features": before[name]["features"]} == before[name]
        else:
            assert row == before[name]
    assert retention.prune(now=lambda: NOW) == 0
    # A day later the next ones are due; what is pruned is not looked at again.
    assert retention.prune(now=lambda: NOW + timedelta(days=71, seconds=1)) == 1


def test_a_clock_that_was_set_back_prunes_less_and_nothing_twice(aged):
    retention = Retention(aged.engine, 90)
    assert retention.prune(now=lambda: NOW - timedelta(days=10, hours=12)) == 100
    assert retention.prune(now=lambda: NOW - timedelta(days=300)) == 0
    assert retention.prune(now=lambda: NOW) == 400


def test_pruning_stops_between_transactions_when_it_is_told_to(aged):
    asked = iter([False, True])
    assert Retention(aged.engine, 90).prune(now=lambda: NOW, stopping=lambda: next(asked)) == 200


def test_a_prediction_is_written_while_pruning_goes_on(aged, record):
    written = []

    def stopping():
        # Between two transactions of the pruning.
        written.extend(aged.write([record(f"meanwhile{len(written)}", timestamp=NOW)], wait=False))
        return False

    assert Retention(aged.engine, 90).prune(now=lambda: NOW, stopping=stopping) == 500
    assert len(written) == 4


def test_a_pruned_row_still_answers_its_request(aged, record):
    Retention(aged.engine, 90).prune(now=lambda: NOW)
    [again] = aged.write([record("old1", probability=0.9)])
    assert again.probability == record("old1").probability
    assert again.features is None
    assert aged.write([record("old1", request_hash="b" * 32)]) == [None]


def test_the_wide_view_has_nulls_where_features_are_gone(aged):
    refresh_wide_view(aged.engine, ["V1", "Zoë"])
    Retention(aged.engine, 90).prune(now=lambda: NOW)
    with aged.engine.connect() as connection:
        wide = connection.exec_driver_sql(
            'SELECT count(*), count("V1"), count("Zoë") FROM predictions_wide'
        ).one()
    assert tuple(wide) == (520, 20, 0)


def test_what_was_pruned_cannot_be_read_from_the_file(tmp_path, record):
    from fraud_kedro.prediction_log import open_for_writing

    path = tmp_path / "log.db"
    writer = open_for_writing(f"sqlite:///{path}")
    secret = json.dumps({"V1": 4929.1234567})
    writer.write([record(f"r{i}", timestamp=NOW - timedelta(days=200), features=secret) for i in range(50)])
    Retention(writer.engine, 90).prune(now=lambda: NOW)
    writer.close()
    assert b"4929.1234567" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_the_command_shows_size_and_age_and_prunes(aged, log_url, capsys):
    assert main(["--url", log_url, "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["rows"], shown["rows_with_features"], shown["rows_champion"]) == (520, 520, 520)
    assert shown["bytes"] > 10_000
    assert shown["oldest"].startswith("2026-02-20")
    assert shown["newest"].startswith("2026-06-01")
    assert main(["--url", log_url, "prune", "--days", "0"]) == 0
    assert "rows older than 0 days have lost their features" in capsys.readouterr().out
    main(["--url", log_url])
    assert "rows with features" in capsys.readouterr().out


def test_the_command_names_a_log_that_is_not_there(tmp_path):
    command = [sys.executable, "-m", "fraud_kedro.prediction_log", "--url", f"sqlite:///{tmp_path / 'no.db'}"]
    done = subprocess.run([*command, "prune", "--days", "9"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: No prediction log at")
    assert len(done.stderr.splitlines()) == 1
    wrong = subprocess.run([*command, "prune", "--days", "-1"], capture_output=True, text=True, check=False)
    assert "is not a number of days" in wrong.stderr


def test_a_log_of_the_release_before_is_migrated_with_its_rows(log_url, record):
    import sqlalchemy as sa
    from alembic import command

    from fraud_kedro.prediction_log import open_for_writing
    from fraud_kedro.prediction_log.migrate import _config

    engine = connect(log_url, create=True)
    config = _config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            sa.text(
                "INSERT INTO predictions VALUES ('a', 'champion', '2026-01-01', NULL, 'm', 0.5, 0, "
                "'approve', 'p', 'h', NULL, '{\"V1\": 1.5}')"
            )
        )
    engine.dispose()
    writer = open_for_writing(log_url)
    writer.write([record("b")])
    assert Retention(writer.engine, 1).prune(now=lambda: NOW) == 2
    writer.close()
    assert {name: row["features"] for name, row in rows(log_url).items()} == {"a": None, "b": None}
