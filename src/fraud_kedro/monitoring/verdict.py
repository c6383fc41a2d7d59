"""The verdict about drift, as the file of the last look says it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from fraud_kedro.errors import DataError


class LastVerdict(BaseModel):
    """What the rule reads of it; the file holds more."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    verdict: Literal["ok", "warn", "drift", "insufficient_data"]
    drift_detected: bool
    reason: str
    until: AwareDatetime
    rows: int
    model_versions: tuple[str, ...]


def read_verdict(file: Path) -> LastVerdict | None:
    """Read the last verdict, None if there is no file.

    Raises
    ------
    DataError
        If it is no verdict.
    """
    try:
        return LastVerdict.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(
            f"{file} is not a verdict about drift ({place}: {first['msg']}). Look for drift again, or "
            "remove the file."
        ) from error
