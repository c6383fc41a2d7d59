"""A table that cannot be read: what a library's error means to whoever named the table."""

from __future__ import annotations

import re

from fraud_kedro.errors import DataError, FraudKedroError, MissingInputError

_ELSEWHERE = "put the table there, or name another one in the catalog (`raw_transactions`)."
_CODE = re.compile(r"<Code>(\w+)</Code>")
# Signed URLs carry their key in the query.
_QUERY = re.compile(r"\?\S+")


def unreadable(location: str, error: Exception) -> FraudKedroError:
    """One line about a table in a file or an object store.

    Parameters
    ----------
    location : str
        What to call the table.
    error : Exception
        Of polars or the operating system.
    """
    text = str(error)
    code = f" ({found[1]})" if (found := _CODE.search(text)) else ""
    if isinstance(error, FileNotFoundError) or "expanded paths were empty" in text:
        return MissingInputError(f"{location} not found{code}: {_ELSEWHERE}")
    if isinstance(error, PermissionError) or "403 Forbidden" in text or "401 Unauthorized" in text:
        return DataError(
            f"{location}: access is refused{code}. Check the rights of the file, or the entry's credentials "
            "(for S3: `aws_access_key_id` and the like, or the AWS_... variables)."
        )
    if "error sending request" in text:
        return DataError(
            f"{location}: its store cannot be reached. Check the network and the entry's credentials, "
            "such as `aws_endpoint_url`."
        )
    return DataError(f"{location} cannot be read: {first_line(error)}. Copy or write it again.")


def first_line(error: Exception) -> str:
    """The first line of an error, without what an URL may reveal."""
    return _QUERY.sub("", str(error).strip().split("\n", 1)[0]).rstrip(".")
