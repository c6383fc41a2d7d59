"""An MLflow server in the place of its database: it checks what a database takes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import mlflow
import pytest

from fraud_kedro.champion.registry import Registry
from fraud_kedro.pipelines.export.registration import register_bundle

pytestmark = pytest.mark.slow

START_SECONDS = 90


@pytest.fixture
def server(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
                "--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}",
                "--artifacts-destination", str(tmp_path / "artifacts"),
            ],
            # Its jobs take seven processes more.
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"{url}/health"):
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url):
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_a_server_takes_a_candidate_and_gives_it_back(server, bundle, twin, tmp_path):
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server)
    try:
        with mlflow.start_run():
            number = register_bundle(bundle, twin)
    finally:
        mlflow.set_tracking_uri(before)
    registry = Registry(server)
    found = registry.download(registry.version(number), tmp_path / "bundle")
    assert found.metadata.checksum == bundle.metadata.checksum
    assert found.model == bundle.model
