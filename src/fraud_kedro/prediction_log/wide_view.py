"""`predictions_wide`: the log with a column per feature, for plain SQL.

`predictions` holds features as JSON, so that one table serves every schema; the
view is made anew for the schema that is being served.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.sql.ddl import CreateView

from fraud_kedro.prediction_log.database import exclusive
from fraud_kedro.prediction_log.tables import predictions

WIDE_VIEW = "predictions_wide"

# PostgreSQL cuts a longer name off, SQLite does not mind.
_NAME_BYTES = 63


def refresh_wide_view(engine: Engine, features: Sequence[str]) -> dict[str, str]:
    """Make the view for these features, unless it is there already.

    Parameters
    ----------
    engine : Engine
        Of a migrated log.
    features : sequence of str
        Any names; a column is called ``feature_<name>`` where the name is taken.

    Returns
    -------
    dict of str to str
        The view's column of each feature.

    Raises
    ------
    PredictionLogError
        If the database cannot be reached or written.
    """
    columns = wide_columns(features)
    view = CreateView(_selection(columns, engine.dialect), WIDE_VIEW)
    digest = hashlib.sha256(str(view.compile(dialect=engine.dialect)).encode()).hexdigest()
    with exclusive(engine) as connection:
        if _digest(connection) != digest:
            drop_wide_view(connection)
            connection.execute(view)
            _remember(connection, digest)
    return columns


def drop_wide_view(connection: Connection) -> None:
    """Take the view away if it is there."""
    connection.exec_driver_sql(f"DROP VIEW IF EXISTS {WIDE_VIEW}")


def wide_columns(features: Sequence[str]) -> dict[str, str]:
    """Name a column for each feature: unique without regard to case, and short enough."""
    # SQLite calls a view's column "true" or "false" column1, quoted or not.
    taken = {*(column.name.casefold() for column in predictions.columns), "true", "false"}
    columns: dict[str, str] = {}
    for feature in features:
        name = _shortened(feature)
        number = 1
        while name.casefold() in taken:
            suffix = "" if number == 1 else f"_{number}"
            name = _shortened(f"feature_{feature}", len(suffix)) + suffix
            number += 1
        taken.add(name.casefold())
        columns[feature] = name
    return columns


def _shortened(name: str, room: int = 0) -> str:
    return name.encode()[: _NAME_BYTES - room].decode(errors="ignore")


def _selection(columns: dict[str, str], dialect: Dialect) -> sa.Select[tuple[object, ...]]:
    fixed = [column for column in predictions.columns if column.name != "features"]
    # Quoted always: what SQLAlchemy takes for a plain word may be a keyword.
    wide = (_value(f, dialect).label(sa.quoted_name(name, quote=True)) for f, name in columns.items())
    return sa.select(*fixed, *wide)


def _value(feature: str, dialect: Dialect) -> sa.ColumnElement[float]:
    features = predictions.c.features
    if dialect.name != "sqlite":
        return sa.cast(sa.func.jsonb_extract_path_text(features, feature), sa.Double())
    if not feature.isascii() or not feature.isprintable() or '"' in feature or "\\" in feature:
        # JSON may write such a key in several ways; SQLite's paths find one, its table of entries all.
        entry = sa.func.json_each(features).table_valued("key", "value")
        return sa.select(entry.c.value).where(entry.c.key == feature).scalar_subquery()
    return sa.func.json_extract(features, f'$."{feature}"')


def _digest(connection: Connection) -> str | None:
    if connection.dialect.name == "sqlite":
        sql = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master WHERE type = 'view' AND name = ?", (WIDE_VIEW,)
        ).scalar()
        return None if sql is None else hashlib.sha256(sql.encode()).hexdigest()
    relation = sa.func.to_regclass(WIDE_VIEW)
    found: str | None = connection.execute(sa.select(sa.func.obj_description(relation, "pg_class"))).scalar()
    return found


def _remember(connection: Connection, digest: str) -> None:
    # SQLite keeps a view's text; PostgreSQL rewrites it, so its digest goes into the comment.
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"COMMENT ON VIEW {WIDE_VIEW} IS '{digest}'")
