"""Kill the whole service under load, again and again, and look for every answer in the log.

``python .ci/kill.py [--root data] [--kills 20] [--workers 2]``

The champion of ``--root`` is served from a root of its own with a new SQLite log
(or ``--log-url``). Clients ask in a closed loop, half of them with ids of their
own; after a while every process of the service is killed with SIGKILL, and the
next one starts on the same log. At the end each answer that a client has
received must be in the log, once, as it was given. Exit code 1 if one is not.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from fraud_kedro.prediction_log import open_for_reading

PROJECT = Path(__file__).parents[1]
READY_WITHIN_SECONDS = 120
CLIENTS = 4


@dataclass
class Outcome:
    """What the clients have received, and what the log has of it.

    Attributes
    ----------
    answers : dict
        The last answer to each id.
    missing, different : list of str
        Ids that are not in the log, and that are there with another answer.
    rows, ids : int
        Of the log.
    """

    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    rows: int = 0
    ids: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether every answer is in the log, once."""
        return not self.missing and not self.different and self.rows == self.ids


class Service:
    """`bentoml serve` and its workers."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FRAUD_", "MLFLOW_"))}
        self.output = folder / f"service-{self.port}.log"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bentoml", "serve"],
            cwd=PROJECT,
            env={
                **kept,
                "FRAUD_PORT": str(self.port),
                "BENTOML_HOME": str(folder / "bentoml"),
                **environment,
            },
            stdout=self.output.open("wb"),
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> None:
        """Wait until it scores."""
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"The service did not start:\n{self.output.read_text()}")

    def kill(self) -> None:
        """End every process at once."""
        parent = psutil.Process(self._process.pid)
        # The parent first: it would start another worker.
        processes = [parent, *parent.children(recursive=True)]
        for process in processes:
            process.suspend()
        for process in processes:
            process.kill()
        self._process.wait()


def ask(port: int, body: Mapping[str, Any], name: str, stop: threading.Event, answers: list[Any]) -> None:
    """Ask until the service is gone; keep what was answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    number = 0
    while not stop.is_set():
        own = {"transaction_id": f"{name}-{number}"} if number % 2 else {}
        try:
            connection.request(
                "POST",
                "/predict",
                json.dumps({**body, "Amount": round(random.uniform(1, 500), 2), **own}),  # noqa: S311
                {"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            # Killed, perhaps half-way through an answer: nothing was received.
            return
        if answer.status == 200:
            answers.append(json.loads(content))
        number += 1


def kill_under_load(
    root: Path, *, kills: int, seconds: float, environment: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Start, load and kill the service so many times; gives every answer that was received."""
    answers: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        for kill in range(kills):
            service = Service(Path(folder), {"FRAUD_ROOT": str(root), **environment})
            service.wait()
            body = example(service.port)
            stop = threading.Event()
            clients = [
                threading.Thread(target=ask, args=(service.port, body, f"kill{kill}-{n}", stop, answers))
                for n in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            time.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311
            service.kill()
            stop.set()
            for client in clients:
                client.join()
    return answers


def compare(answers: Sequence[dict[str, Any]], log_url: str) -> Outcome:
    """Look every answer up in the log."""
    reader = open_for_reading(log_url)
    try:
        rows = list(reader.rows())
    finally:
        reader.close()
    stored = {row["transaction_id"]: row for row in rows}
    outcome = Outcome(
        answers={answer["transaction_id"]: answer for answer in answers}, rows=len(rows), ids=len(stored)
    )
    for answer in answers:
        name = answer["transaction_id"]
        if name not in stored:
            outcome.missing.append(name)
        elif any(stored[name][key] != answer[key] for key in ("probability", "decision", "model_version")):
            outcome.different.append(name)
    return outcome


def example(port: int) -> dict[str, Any]:
    """The transaction that the service's own page shows."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/openapi.json")
    page = json.loads(connection.getresponse().read())
    found: dict[str, Any] = page["components"]["schemas"]["Transaction"]["example"]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; gives the exit code."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--root", type=Path, default=Path("data"), help="whose champion is served")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0, help="of load before each kill, on average")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--log-url", help="an empty log; a new SQLite file by default")
    options = parser.parse_args(arguments)
    champion = options.root / "06_models" / "champion"
    if not champion.is_dir():
        print(f"No champion at {champion}. Train one with `kedro run`.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="killed-") as folder:
        root = Path(folder)
        shutil.copytree(champion, root / "06_models" / "champion")
        url = options.log_url or f"sqlite:///{root / 'prediction_log.db'}"
        answers = kill_under_load(
            root,
            kills=options.kills,
            seconds=options.seconds,
            environment={"FRAUD_WORKERS": str(options.workers), "FRAUD_LOG_URL": url},
        )
        outcome = compare(answers, url)
    print(
        f"{options.kills} kills: {len(answers)} answers received, {len(outcome.missing)} of them not in the "
        f"log, {len(outcome.different)} there with another answer; {outcome.rows} rows, {outcome.ids} ids."
    )
    return 0 if outcome.is_whole and answers else 1


if __name__ == "__main__":
    sys.exit(main())
