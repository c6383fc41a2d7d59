"""Servers on 127.0.0.1 that end with a block."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from _serving.model import ServedModel

PROJECT = Path(__file__).parents[2]
BODIES = 500
START_SECONDS = 120
OURS = "the service"
MEDIA_TYPES = {"JSON": "application/json", "CSV": "text/csv", "Parquet": "application/vnd.apache.parquet"}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Contender:
    """A server and how it is asked."""

    name: str
    command: list[str]
    environment: dict[str, str]
    path: str = "/predict"
    probe: str = "/livez"
    bodies: Sequence[str] = ()
    port: int = field(default_factory=_free_port)

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"


def the_service(served: ServedModel, root: Path, folder: Path) -> Contender:
    """`bentoml serve` with everything on, for a root that has the model's bundle."""
    found = Contender(
        OURS,
        [sys.executable, "-m", "bentoml", "serve"],
        {"BENTOML_HOME": str(folder / "bentoml"), "FRAUD_ROOT": str(root)},
        probe="/readyz",
        bodies=[json.dumps(row) for row in served.transactions(BODIES)],
    )
    found.environment["FRAUD_PORT"] = str(found.port)
    return found


@contextmanager
def running(contender: Contender, folder: Path) -> Iterator[psutil.Process]:
    """Start a server and wait until it answers; it ends with the block."""
    log = folder / f"{contender.port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            contender.command,
            cwd=PROJECT,
            env={**os.environ, **contender.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(contender):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{contender.name} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield psutil.Process(process.pid)
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
        for child in children:
            if child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
                child.kill()


def _answers(contender: Contender) -> bool:
    try:
        answer = httpx.get(f"{contender.address}{contender.probe}", timeout=5)
    except httpx.TransportError:
        return False
    return answer.status_code == 200
