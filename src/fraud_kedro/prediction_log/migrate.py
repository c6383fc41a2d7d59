"""Brings a prediction log's tables to what this release writes."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.engine import Connection, Engine

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.prediction_log.database import exclusive
from fraud_kedro.prediction_log.wide_view import drop_wide_view

VERSION_TABLE = "prediction_log_version"


def migrate(engine: Engine) -> None:
    """Run the migrations that are missing, in one transaction.

    Several workers may start at once: one migrates, the others wait for it and
    find nothing to do.

    Raises
    ------
    PredictionLogError
        If the database cannot be reached or written, or a newer release has
        migrated it already.
    """
    with exclusive(engine) as connection:
        if current_revision(connection) == head_revision():
            return
        # No database changes a column that a view reads. Serving makes the view again.
        drop_wide_view(connection)
        config = _config()
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise PredictionLogError(
                f"The prediction log at {engine.url.render_as_string(hide_password=True)} has revision "
                f"{current_revision(connection)!r}, which this release does not know (its newest is "
                f"{head_revision()!r}). Use the release that migrated it, or another FRAUD_LOG_URL."
            ) from error


def current_revision(connection: Connection) -> str | None:
    """Read the revision a database is at, None for an empty one."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def head_revision() -> str | None:
    """Name the newest revision this release knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    # A percent sign in a path is Alembic's interpolation otherwise.
    folder = str(Path(__file__).parent / "migrations").replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.set_main_option("path_separator", "os")
    return config
