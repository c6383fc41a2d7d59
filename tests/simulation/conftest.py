"""Where the real statistics and rows lie, if they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_SHARED = Path(__file__).parents[3] / "shared" / "data"


def _shared(name: str) -> Path:
    path = _SHARED / name
    if not path.exists():
        reason = f"{name} is not at ../shared/data beside the project"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}, and CI must run this test.")
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def ulb_profile() -> Path:
    """Class-conditional statistics of the real sample."""
    return _shared("ulb_profile.json")


@pytest.fixture(scope="session")
def ulb_sample() -> Path:
    """A weighted sample of the real table."""
    return _shared("ulb_sample.parquet")
