"""Tables from a database: what their entry may reveal, and whether the database answers.

The datasets are those of kedro-datasets, which say nothing of either.
"""

from __future__ import annotations

from typing import Any

from kedro.io import AbstractDataset

from fraud_kedro.errors import MissingInputError

Dataset = AbstractDataset[Any, Any]


def is_sql(dataset: Dataset | None) -> bool:
    """Whether a dataset is one of kedro-datasets' that read from a database."""
    return type(dataset).__name__ in ("SQLQueryDataset", "SQLTableDataset")


def database_address(dataset: Dataset) -> str:
    """Server and database, without user, password and options."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(dataset._connection_str)  # type: ignore[attr-defined]
    except ArgumentError:
        return "a database"
    host = f"{url.host or ''}{f':{url.port}' if url.port else ''}"
    return f"{url.get_backend_name()}://{host}/{url.database or ''}"


def require_answer(name: str, dataset: Dataset) -> None:
    """See that the database is there and takes the query, before anything runs.

    The rows are not fetched: the server is asked for a cursor.

    Parameters
    ----------
    name : str
        Of the entry.
    dataset : SQLQueryDataset or SQLTableDataset

    Raises
    ------
    MissingInputError
        In the server's words, but for the password.
    """
    from sqlalchemy import inspect
    from sqlalchemy.exc import SQLAlchemyError

    load_args = dict(dataset._load_args)  # type: ignore[attr-defined]
    try:
        with dataset.engine.connect() as connection:  # type: ignore[attr-defined]
            table = load_args.get("table_name")
            if table is None:
                query = load_args.get("sql") or _from_file(dataset)
                parameters = (load_args["params"],) if load_args.get("params") else ()
                streamed = connection.execution_options(stream_results=True)
                streamed.exec_driver_sql(query, *parameters).close()
            elif not inspect(connection).has_table(table, load_args.get("schema")):
                raise MissingInputError(
                    f"{name}: there is no table {table!r} in {database_address(dataset)}."
                )
    except SQLAlchemyError as error:
        raise MissingInputError(
            f"{name}: {database_address(dataset)} does not give the table: {_reason(error, dataset)}. "
            "Check the entry's query and its credentials."
        ) from error


def _from_file(dataset: Any) -> str:
    with dataset._fs.open(dataset._filepath, "r", encoding=dataset.encoding) as file:
        return str(file.read())


def _reason(error: Exception, dataset: Any) -> str:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    text = str(getattr(error, "orig", None) or error).strip().split("\n", 1)[0].rstrip(".")
    if isinstance(error, ArgumentError):
        return text
    password = make_url(dataset._connection_str).password
    return " ".join((text.replace(password, "***") if password else text).split())
