"""The service as its users start it: `bentoml serve` on a free port, asked over a socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

PROJECT = Path(__file__).parents[2]
START_SECONDS = 90


class Server:
    """A `bentoml serve` process and its workers."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"server-{self.port}.log"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FRAUD_", "MLFLOW_"))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bentoml", "serve"],
            cwd=PROJECT,
            env={
                **inherited,
                "BENTOML_HOME": str(folder / "bentoml"),
                "FRAUD_PORT": str(self.port),
                **environment,
            },
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.client = httpx.Client(base_url=self.url, timeout=30)

    @property
    def pid(self) -> int:
        """Of the process that starts the workers."""
        return self._process.pid

    def wait(self) -> Server:
        """Wait until it answers."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                self.client.get("/livez")
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return self
        raise AssertionError(f"The server did not start:\n{self.log.read_text()}")

    def wait_for(
        self, path: str, done: Callable[[httpx.Response], bool], seconds: float = 30
    ) -> httpx.Response:
        """Ask until an answer is what is waited for."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.client.get(path)
            if done(answer):
                return answer
            if time.monotonic() > deadline:
                raise AssertionError(f"{path} still answers {answer.text}\n{self.log.read_text()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End everything at once, as a power cut would."""
        # Workers have sessions of their own. The parent first: it would start another worker.
        parent = psutil.Process(self._process.pid)
        processes = [parent, *parent.children(recursive=True)]
        for process in processes:
            process.suspend()
        for process in processes:
            process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask it to end, and give its exit code."""
        self.client.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout=60)
        finally:
            if self._process.poll() is None:
                self.kill()


StartServer = Callable[..., Server]


@contextmanager
def _servers(folder: Path) -> Iterator[StartServer]:
    started: list[Server] = []

    def start(root: Path, **settings: object) -> Server:
        environment = {f"FRAUD_{name.upper()}": str(value) for name, value in settings.items()}
        attempts_left = 3
        while True:
            attempts_left -= 1
            started.append(Server(folder, {"FRAUD_ROOT": str(root), **environment}))
            try:
                return started[-1].wait()
            except AssertionError:
                # BentoML finds a free port for itself and binds it later; in between it may be taken.
                if not attempts_left or "Address already in use" not in started[-1].log.read_text():
                    raise

    try:
        yield start
    finally:
        for server in started:
            server.stop()


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """A function that starts the service on a root; every server ends with the test."""
    with _servers(tmp_path_factory.mktemp("servers")) as start:
        yield start


@pytest.fixture(scope="module")
def start_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """The same for servers that a module's tests share."""
    with _servers(tmp_path_factory.mktemp("servers")) as start:
        yield start


@pytest.fixture(scope="module")
def served_root(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., object]) -> Path:
    """A root with a local bundle, version 1."""
    root = tmp_path_factory.mktemp("root")
    make_bundle(root / "06_models" / "champion")
    return root


@pytest.fixture(scope="module")
def server(start_servers: StartServer, served_root: Path) -> Server:
    """One server for all tests of a module that do not change it."""
    return start_servers(served_root)


@pytest.fixture(scope="session")
def transactions() -> Callable[[int], list[dict[str, float]]]:
    """A function that draws transactions of the default schema."""

    def draw(number: int, seed: int = 11) -> list[dict[str, float]]:
        generator = np.random.default_rng(seed)
        names = ["Time", *(f"V{i}" for i in range(1, 29)), "Amount"]
        rows = generator.normal(scale=2.0, size=(number, len(names)))
        rows[:, 0] = generator.integers(0, 172_792, number)
        rows[:, -1] = np.round(np.exp(rows[:, -1]), 2)
        return [dict(zip(names, row.tolist(), strict=True)) for row in rows]

    return draw
