"""Runs the project as its users do: commands in a process of their own, a server behind a socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
READY_WITHIN_SECONDS = 90


@dataclass(frozen=True)
class Commands:
    """The project's commands with a root of their own."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """The caller's, with this root and no other setting of the project."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FRAUD_", "MLFLOW_"))}
        return {**kept, "FRAUD_ROOT": str(self.root), "PATH": f"{BIN}{os.pathsep}{kept['PATH']}"}

    def kedro(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `kedro`; the caller judges the exit code."""
        return subprocess.run(
            [BIN / "kedro", *arguments], cwd=PROJECT, env=self.environment, capture_output=True, text=True
        )

    def train(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`kedro run`, which must succeed."""
        done = self.kedro("run", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    @contextmanager
    def serve(self) -> Iterator[str]:
        """`bentoml serve` until the block ends; yields the address."""
        port = _free_port()
        address = f"http://127.0.0.1:{port}"
        with (self.root / "serve.log").open("w") as log:
            server = subprocess.Popen(
                [BIN / "bentoml", "serve", "--port", str(port)],
                cwd=PROJECT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _wait_until_ready(address, server, self.root / "serve.log")
            yield address
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass  # Not listening yet.
        time.sleep(0.3)
    pytest.fail(f"The service was not ready within {READY_WITHIN_SECONDS} s:\n{log.read_text()}")


@pytest.fixture(scope="session")
def commands_in() -> Callable[[Path], Commands]:
    """Commands with a given root."""
    return Commands


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Commands, str]:
    """The quick way, run once for all tests, and what it printed."""
    commands = Commands(tmp_path_factory.mktemp("quick"))
    return commands, commands.train("--env", "quick").stdout
