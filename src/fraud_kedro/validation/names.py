"""Columns whose names are almost those that the schema asks for."""

from __future__ import annotations

from collections.abc import Sequence

from fraud_kedro.schema import TransactionSchema
from fraud_kedro.validation.report import shown

_SHOWN_NAMES = 5


def unlike_by_a_trifle(schema: TransactionSchema, columns: Sequence[str]) -> str:
    """Tell of columns that differ from a name in the schema by capitals or blanks alone; empty if none do.

    An optional role would otherwise count as absent without a word.

    Parameters
    ----------
    schema : TransactionSchema
    columns : sequence of str
        The table's.
    """
    roles = (schema.time.column, schema.amount, schema.label, schema.transaction_id, schema.sample_weight)
    wanted = dict.fromkeys(name for name in (*roles, *schema.features) if name is not None)
    alike = {_plain(column): column for column in columns}
    unlike = [
        f"{shown(alike[_plain(name)])!r} is not {name!r}"
        for name in wanted
        if name not in columns and _plain(name) in alike
    ]
    if not unlike:
        return ""
    more = f" and {len(unlike) - _SHOWN_NAMES} more" if len(unlike) > _SHOWN_NAMES else ""
    return (
        f"{', '.join(unlike[:_SHOWN_NAMES])}{more}: names are compared with capitals and blanks. "
        "Rename the columns, or name them under `schema` in the parameters as the table does."
    )


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()
