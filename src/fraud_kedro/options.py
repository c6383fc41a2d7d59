"""The base of every parameter model: strict and frozen.

A wrong value or an unknown key in YAML fails before anything runs, because
Kedro builds these models from the nodes' signatures.
"""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Parameters of one part of the project."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def without_other_kinds(value: Any, *kinds: type[Options]) -> Any:
    """Leave out what only other kinds of an option know.

    Environments are merged key by key: one that chooses another `kind` inherits
    the keys of the kind before. What no kind knows stays, to be refused.

    Parameters
    ----------
    value : mapping
        As it comes from YAML; anything else is returned as it is.
    *kinds : type of Options
        Each with a literal field `kind`.
    """
    if not isinstance(value, Mapping):
        return value
    fields = {get_args(kind.model_fields["kind"].annotation)[0]: set(kind.model_fields) for kind in kinds}
    known = fields.get(value.get("kind"))
    if known is None:
        return value
    foreign = set().union(*fields.values()) - known
    return {key: item for key, item in value.items() if key not in foreign}
