from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_kedro.prediction_log import open_for_writing, refresh_wide_view
from fraud_kedro.prediction_log.tables import predictions
from fraud_kedro.prediction_log.wide_view import wide_columns

AWKWARD = [
    "V1",
    "v1",
    'quo"te',
    "it's",
    "back\\slash",
    "a.b[0]",
    "$",
    "100%",
    "%s",
    ":name",
    "timestamp",
    "naïve",
    "TRUE",
    "select",
    "_\n",
    "x" * 90,
]

# PostgreSQL stores no NUL, and neither stores half a surrogate pair.
names = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=80)


def wide(writer):
    with writer.engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.text("SELECT * FROM predictions_wide")).mappings()]


def test_each_feature_has_a_column_whatever_it_is_called(writer, record):
    columns = refresh_wide_view(writer.engine, AWKWARD)
    features = {name: float(i) for i, name in enumerate(AWKWARD)}
    writer.write([record("one", features=json.dumps(features))])
    [row] = wide(writer)
    assert {name: row[column] for name, column in columns.items()} == features
    assert row["transaction_id"] == "one"
    assert row["probability"] == record("x").probability


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(features=st.lists(names, min_size=1, max_size=6, unique=True))
def test_any_feature_names_make_a_view_that_can_be_read(writer, record, features):
    columns = refresh_wide_view(writer.engine, features)
    values = {name: i + 0.5 for i, name in enumerate(features)}
    identity = f"id{hash(tuple(features))}"
    writer.write([record(identity, features=json.dumps(values))])
    row = next(r for r in wide(writer) if r["transaction_id"] == identity)
    assert {name: row[column] for name, column in columns.items()} == values


@given(features=st.lists(names, unique=True, max_size=30))
def test_columns_never_collide(features):
    columns = wide_columns(features)
    assert list(columns) == features
    used = [c.casefold() for c in columns.values()] + [c.name for c in predictions.columns]
    assert len(set(used)) == len(used)
    assert all(0 < len(c.encode()) <= 63 for c in columns.values())


def test_the_view_follows_the_schema_that_is_served(writer, record):
    writer.write([record("one", features='{"V1": 1, "V2": 2}')])
    refresh_wide_view(writer.engine, ["V1"])
    assert "V2" not in wide(writer)[0]
    refresh_wide_view(writer.engine, ["V1", "V2"])
    assert wide(writer)[0]["V2"] == 2
    assert "features" not in wide(writer)[0]


def test_a_feature_a_row_does_not_have_is_null(writer, record):
    writer.write([record("one", features='{"V1": 1}')])
    refresh_wide_view(writer.engine, ["V1", "V2"])
    assert wide(writer)[0]["V2"] is None


@pytest.mark.parametrize("features", [["V1"], AWKWARD])
def test_a_view_that_is_there_is_left_alone(writer, log_url, features):
    refresh_wide_view(writer.engine, features)
    statements = []
    sa.event.listen(writer.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    refresh_wide_view(writer.engine, features)
    assert not [s for s in statements if "CREATE" in s or "DROP" in s]


def test_two_workers_may_make_the_view_at_once(log_url):
    from threading import Thread

    writers = [open_for_writing(log_url) for _ in range(3)]
    failures = []

    def make(writer):
        try:
            refresh_wide_view(writer.engine, ["V1", "V2"])
        except Exception as error:  # noqa: BLE001 (reported below)
            failures.append(error)

    threads = [Thread(target=make, args=(w,)) for w in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.close()
    assert failures == []
