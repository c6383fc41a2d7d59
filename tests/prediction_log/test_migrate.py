from __future__ import annotations

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from fraud_kedro.prediction_log.migrate import VERSION_TABLE, current_revision, head_revision, migrate
from fraud_kedro.prediction_log.tables import metadata


def test_migrations_make_the_tables_that_the_code_goes_by(writer):
    with writer.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": False}
        )
        differences = [d for d in compare_metadata(context, metadata) if "comment" not in str(d[0])]
        assert differences == []
        found = {c["name"]: c for c in sa.inspect(connection).get_columns("predictions")}
        for column in metadata.tables["predictions"].columns:
            assert found[column.name]["nullable"] == column.nullable, column.name


def test_an_open_log_is_at_the_newest_revision(writer):
    with writer.engine.connect() as connection:
        assert current_revision(connection) == head_revision() == "0004"


def test_migrating_twice_changes_nothing(writer, record):
    writer.write([record("one")])
    migrate(writer.engine)
    assert writer.write([record("one")])[0] is not None


def test_a_migration_takes_the_view_away_that_would_stand_in_its_way(writer):
    from fraud_kedro.prediction_log import refresh_wide_view

    refresh_wide_view(writer.engine, ["V1"])
    with writer.engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM {VERSION_TABLE}")
        connection.exec_driver_sql("ALTER TABLE predictions RENAME TO old_predictions")
        connection.exec_driver_sql("DROP INDEX predictions_timestamp")
        connection.exec_driver_sql("DROP INDEX predictions_answered")
        connection.exec_driver_sql("DROP TABLE labels")
        connection.exec_driver_sql("DROP TABLE generations")
    migrate(writer.engine)
    with writer.engine.connect() as connection:
        assert "predictions_wide" not in sa.inspect(connection).get_view_names()
