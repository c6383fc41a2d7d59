"""``python -m fraud_kedro.monitoring``, started by the service: the libraries for it do not serve."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

from fraud_kedro.locations import LOG_VARIABLE, ROOT_VARIABLE, TRACKING_VARIABLE
from fraud_kedro.serving.settings import ServingSettings

MODULE = "fraud_kedro.monitoring"

_NICE = 10


async def start_monitoring(
    settings: ServingSettings, *arguments: str, keep_output: bool
) -> asyncio.subprocess.Process:
    """Start a command that gives way to answers.

    Parameters
    ----------
    settings : ServingSettings
        Whose root, log and registry it is about.
    *arguments : str
        The command and its options.
    keep_output : bool
        Whether what it prints is read; what it says of errors always is.

    Returns
    -------
    asyncio.subprocess.Process
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        MODULE,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if keep_output else asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            ROOT_VARIABLE: str(settings.root),
            # Not on the command line, which every user of the machine sees: both may hold a password.
            LOG_VARIABLE: settings.prediction_log,
            TRACKING_VARIABLE: settings.registry,
            "OMP_NUM_THREADS": "1",
            "DO_NOT_TRACK": "1",
        },
    )
    if hasattr(os, "setpriority"):
        # It may have ended already, if it could not start.
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
    return process


def label_options(settings: ServingSettings) -> tuple[str, str]:
    """Say when labels are settled, for commands that read them."""
    return f"--maturity-days={settings.label_maturity_days}", f"--unlabelled={settings.unlabelled}"
