"""Looks at an MLflow store before MLflow does, which would create it or wait for it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from fraud_kedro.errors import RegistryError

_CONNECT_SECONDS = 5


def check_store(tracking_uri: str) -> None:
    """Refuse a database that no training run has made: MLflow would create it, or wait minutes for it.

    A server's address is left to MLflow.

    Raises
    ------
    RegistryError
    """
    if tracking_uri.startswith(("http:", "https:", "databricks")):
        return
    shown = without_password(tracking_uri)
    try:
        url = make_url(tracking_uri)
        engine = _read_only(url)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise RegistryError(
            f"{shown!r} is no registry that can be read: {first_line(error)}. "
            "FRAUD_MLFLOW_TRACKING_URI should be the address of an MLflow server or the URL of its database."
        ) from error
    try:
        with engine.connect() as connection:
            found = inspect(connection).has_table("model_versions")
    except SQLAlchemyError as error:
        raise RegistryError(
            f"The model registry at {shown} cannot be read: {first_line(error)}. Check that it is there and "
            "that FRAUD_MLFLOW_TRACKING_URI names it."
        ) from error
    finally:
        engine.dispose()
    if not found:
        raise RegistryError(
            f"The database {shown} is no model registry: it has no table of model versions. Train a model "
            "with `kedro run`, or set FRAUD_MLFLOW_TRACKING_URI to the registry that is in use."
        )


def _read_only(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        arguments = {"connect_timeout": _CONNECT_SECONDS} if url.get_backend_name() == "postgresql" else {}
        return create_engine(url, connect_args=arguments)
    path = Path(url.database or "")
    if not path.is_file():
        raise RegistryError(
            f"No model registry at {path}: there is no such file. Train a model with `kedro run`, or set "
            "FRAUD_MLFLOW_TRACKING_URI to the registry that is in use."
        )
    file = f"{path.absolute().as_uri()}?mode=ro"
    return create_engine(
        "sqlite+pysqlite://", creator=lambda: sqlite3.connect(file, uri=True, timeout=_CONNECT_SECONDS)
    )


def without_password(uri: str) -> str:
    """Mask the password of a URI, if it has one."""
    try:
        return make_url(uri).render_as_string(hide_password=True)
    except ArgumentError:
        return uri.rsplit("@", 1)[-1]


def first_line(error: BaseException) -> str:
    """Shorten an error to what fits into another's message."""
    # SQLAlchemy begins with where a statement came from, before it says what is wrong.
    lines = [
        line for line in str(error).strip().splitlines() if not line.startswith("(raised as a result of")
    ]
    return (lines or [type(error).__name__])[0].rstrip(".")
