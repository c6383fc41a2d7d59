"""Kedro's settings: hooks, configuration overlays and the resolvers YAML may use."""

import os
from pathlib import Path

from kedro.config import OmegaConfigLoader
from kedro.utils import find_kedro_project

from fraud_kedro.hooks import (
    DataSourceHook,
    InputsHook,
    LocalStoreHook,
    SummaryHook,
    TrackingHook,
    ValidatorHook,
)
from fraud_kedro.locations import artifact_folder, root_folder, tracking_uri

HOOKS = (LocalStoreHook(), ValidatorHook(), DataSourceHook(), InputsHook(), TrackingHook(), SummaryHook())


def _absolute(root: str) -> Path:
    """SQLite addresses are read from the working directory, Kedro's paths from the project."""
    return (find_kedro_project(Path.cwd()) or Path.cwd()) / root


CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment names what differs and no more.
    "merge_strategy": {"parameters": "soft"},
    "custom_resolvers": {
        "in_project": lambda path: _absolute(path).as_posix(),
        "fraud_root": lambda default: str(root_folder(default)),
        "tracking_uri": lambda root: tracking_uri(_absolute(root)),
        # What the service has as a setting; empty counts as not set, as it does there.
        "from_environment": lambda name, default: os.environ.get(name) or default,
        "artifact_location": lambda root: artifact_folder(_absolute(root)).as_uri(),
    },
}
