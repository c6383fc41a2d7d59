"""The base of every parameter model: strict and frozen.

A wrong value or an unknown key in YAML fails before anything runs, because
Kedro builds these models from the nodes' signatures.
"""

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Parameters of one part of the project."""

    model_config = ConfigDict(frozen=True, extra="forbid")
