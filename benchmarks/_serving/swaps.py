"""Swaps the local bundle of a running service: what a promotion does, without a registry."""

from __future__ import annotations

import os
from pathlib import Path

import httpx

from fraud_kedro.champion.bundle import METADATA_FILE, REGISTRATION_FILE, Registration
from fraud_kedro.locations import champion_folder


def swap(root: Path, version: int, address: str) -> str:
    """Give the bundle another version, have the service load it, and tell what serves then.

    Parameters
    ----------
    root : Path
    version : int
    address : str
        Of the service.
    """
    folder = champion_folder(root)
    registration = Registration(version=version, run_id="benchmark")
    written = folder / f".{REGISTRATION_FILE}"
    written.write_text(registration.model_dump_json(), encoding="utf-8")
    written.replace(folder / REGISTRATION_FILE)
    # The service looks at the time of this file.
    os.utime(folder / METADATA_FILE)
    answer = httpx.post(f"{address}/model/reload", timeout=60).raise_for_status().json()
    served: str = answer["model_version"]
    return served
