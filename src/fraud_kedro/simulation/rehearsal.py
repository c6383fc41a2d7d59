"""The whole loop in minutes: serve, drift, alarm, retraining, swap, recall regained.

``make rehearsal``, or ``python -m fraud_kedro.simulation.rehearsal``. All of it
happens in a temporary folder: no champion, log or store of the project is touched.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO
from urllib.request import urlopen

from fraud_kedro.errors import FraudKedroError
from fraud_kedro.simulation.command import Parser, run
from fraud_kedro.simulation.delivery import Service
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.simulator import simulate
from fraud_kedro.simulation.statistics import ulb_statistics
from fraud_kedro.simulation.timeline import Step, Timeline, draw, summary

START_SECONDS = 120
# Steps whose labels have to come and mature before a look; and how many a new model is watched for.
LABEL_DELAY, MATURITY = 1, 3
_PERIOD = 172_800
_SECONDS_PER_DAY = 86_400


class RehearsalError(FraudKedroError):
    """The rehearsal cannot go on."""


@dataclass(frozen=True)
class Script:
    """What is played.

    Attributes
    ----------
    step_seconds : float
        A step, two days of the table, takes so long.
    rows, frauds : int
        Of a step: as many frauds among them as in the quick way's table, or that
        alone would be drift.
    quiet_steps : int
        Before somebody looks for the first time; the new pattern begins once that is done.
    drifted_steps : int
        With the new pattern, before somebody looks, at least: half as many again as
        before it, so that training, validation and test each have enough of it.
    regained_steps : int
        With the new champion, before somebody looks again.
    new_pattern : float
        Share of the frauds that follow it.
    """

    step_seconds: float = 3.0
    rows: int = 1600
    frauds: int = 16
    quiet_steps: int = 3
    drifted_steps: int = 10
    regained_steps: int = 6
    new_pattern: float = 0.75

    @property
    def params(self) -> str:
        """Of the watching: the log's clock is real, so that days are seconds."""
        seconds = {
            "labels.maturity_days": MATURITY * self.step_seconds,
            "retraining.rule.performance.days": 10 * self.step_seconds,
            "monitoring.days": 10 * self.step_seconds,
        }
        others = {
            "retraining.rule.age.max_days": "null",
            "training.n_jobs": 2,
            "retraining.table.original_rows": 3 * self.rows,
        }
        given = {name: f"{value / _SECONDS_PER_DAY:.9f}" for name, value in seconds.items()} | others
        return ",".join(f"{name}={value}" for name, value in given.items())


class Stream:
    """Sends one step after the other, each step's labels a step later, until it is stopped.

    Parameters
    ----------
    script : Script
    service : Service
    timeline : Timeline
        Gets every step.
    clock, sleep : callable
    """

    def __init__(
        self,
        script: Script,
        service: Service,
        timeline: Timeline,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._script = script
        self._service = service
        self._timeline = timeline
        self._clock, self._sleep = clock, sleep
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, name="stream", daemon=True)
        self._failure: Exception | None = None
        self._drifts = threading.Event()
        self.origin = clock()

    def start(self) -> None:
        """Begin with step 0."""
        self.origin = self._clock()
        self._thread.start()

    def drift(self) -> None:
        """Let the next step begin the new pattern."""
        self._drifts.set()

    def stop(self) -> None:
        """End after the step that is under way."""
        self._stop.set()
        self._thread.join()

    def wait_for(self, step: int) -> None:
        """Wait until a step has been sent.

        Raises
        ------
        RehearsalError, DeliveryError
            If the stream has broken off.
        """
        while len(self._timeline.steps) <= step:
            self.check()
            self._sleep(0.05)

    def check(self) -> None:
        """Raise what has ended the stream, if something has."""
        if self._failure is not None:
            raise self._failure

    def seconds(self) -> float:
        """Since the first transaction."""
        return self._clock() - self.origin

    def _play(self) -> None:
        labels: list[dict[str, int]] = []
        try:
            number = 0
            while not self._stop.is_set():
                begun = self._clock()
                labels.append(self.send(number))
                if number >= LABEL_DELAY:
                    self._service.report(labels[number - LABEL_DELAY])
                number += 1
                self._sleep(max(0.0, begun + self._script.step_seconds - self._clock()))
        # Told to who waits for it.
        except FraudKedroError as error:
            self._failure = error

    def send(self, number: int) -> dict[str, int]:
        """Send a step's transactions; gives the labels of its frauds."""
        begun = self.seconds()
        transactions, labels = transactions_of(self._script, number, drifted=self._drifts.is_set())
        answers = self._service.answers(transactions)
        flagged = {answer["transaction_id"] for answer in answers if answer["prediction"] == 1}
        self._timeline.steps.append(
            Step(
                number=number,
                begun=begun,
                transactions=len(answers),
                frauds=len(labels),
                caught=len(flagged & labels.keys()),
                model_version=answers[-1]["model_version"],
            )
        )
        return labels


def transactions_of(
    script: Script, number: int, *, drifted: bool
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The transactions of a step, and the labels of its frauds: of the others nothing is ever heard."""
    statistics = ulb_statistics()
    drift = [{"new_pattern": script.new_pattern}] if drifted else None
    # Rows that repeat others would be dropped by the retraining.
    options = SimulationOptions.parse(
        rows=script.rows, frauds=script.frauds, seed=10_000 + number, duplicates=0, drift=drift
    )
    transactions: list[dict[str, Any]] = []
    labels: dict[str, int] = {}
    for block in simulate(options):
        for row in block.iter_rows(named=True):
            name = f"rehearsal-{number:03}-{len(transactions):05}"
            if row.pop(statistics.label_column):
                labels[name] = 1
            # Behind the table that the champion has learned from.
            row[statistics.time_column] += (number + 1) * _PERIOD
            transactions.append({**row, "transaction_id": name})
    return transactions, labels


class Rehearsal:
    """The programs of the loop, as their users start them, on a root of its own.

    Parameters
    ----------
    root : Path
    script : Script
    out : text file
        Gets a line for everything that happens.
    """

    def __init__(self, root: Path, script: Script, out: TextIO) -> None:
        self._root = root
        self._script = script
        self._out = out
        self._begun = time.monotonic()
        self._port = _free_port()
        self.timeline = Timeline()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FRAUD_", "MLFLOW_"))}
        self._environment = {
            **inherited,
            "FRAUD_ROOT": str(root),
            "FRAUD_HOST": "127.0.0.1",
            "FRAUD_PORT": str(self._port),
            "FRAUD_MODEL_POLL_SECONDS": "1",
            "BENTOML_HOME": str(root / "bentoml"),
        }

    def play(self) -> None:
        """Go through the script.

        Raises
        ------
        FraudKedroError
            If a program fails, or the loop does not close.
        """
        self.say("training the first champion (kedro run --env quick)")
        self._program("kedro", "run", "--env", "quick", "--params", "training.n_jobs=2")
        self.say(f"serving it (bentoml serve, 127.0.0.1:{self._port})")
        with self._served() as service:
            stream = Stream(self._script, service, self.timeline)
            stream.start()
            try:
                self._follow(stream)
            finally:
                stream.stop()

    def _follow(self, stream: Stream) -> None:
        script = self._script
        self.say(f"streaming {script.rows:,} transactions a step, {script.frauds} frauds among them")
        stream.wait_for(script.quiet_steps)
        self.say(f"watching: {self._watch()}")
        stream.drift()
        quiet = len(self.timeline.steps)
        self._note(stream, stream.seconds(), "new pattern")
        self.say(f"a new pattern of fraud: {script.new_pattern:.0%} of the frauds look like none before")
        stream.wait_for(quiet + max(script.drifted_steps, quiet + quiet // 2))
        before = self.timeline.steps[-1].model_version
        alarm = stream.seconds()
        # The alarm is what labels say; a verdict about drift, where there is a pipeline that gives one, is
        # looked for in the same turn and asks for a new model as well.
        self.say("watching again")
        told = self._watch()
        self.say(f"watching: {told}")
        decision = json.loads((self._root / "08_reporting/retraining/decision.json").read_text())
        if not decision["retrain"]:
            raise RehearsalError(f"No alarm came: {decision['reason']}")
        self._note(stream, alarm, "alarm")
        after = self._swapped(stream, before)
        self._note(stream, stream.seconds(), "swap")
        self.say(f"the service has changed from {before} to {after} by itself")
        stream.wait_for(len(self.timeline.steps) + script.regained_steps)
        self.say(f"watching: {self._watch()}")
        stream.check()

    def _note(self, stream: Stream, seconds: float, name: str) -> None:
        stream.check()
        self.timeline.events.append((seconds, name))

    def _watch(self) -> str:
        """Take one turn of the loop; gives its line."""
        told = self._program("fraud_kedro.watch", "--once", "--env", "quick", "--params", self._script.params)
        return told.strip().splitlines()[-1].split(" ", 2)[-1]

    def _swapped(self, stream: Stream, before: str) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            stream.check()
            found = self.timeline.steps[-1].model_version
            if found != before:
                return found
            time.sleep(0.2)
        raise RehearsalError(f"The service still answers with {before}: the candidate was not promoted.")

    def _program(self, module: str, *arguments: str) -> str:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", module, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        with (self._root / "rehearsal.log").open("a", encoding="utf-8") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "without a word").splitlines()[-1]
            raise RehearsalError(f"{module} {arguments[0]} ended with {done.returncode}: {last}")
        return done.stdout

    @contextmanager
    def _served(self) -> Iterator[Service]:
        log = (self._root / "service.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "bentoml", "serve"],
            env=self._environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        service = Service(f"http://127.0.0.1:{self._port}", batch=self._script.rows)
        try:
            self._wait_until_ready(process)
            yield service
        finally:
            service.close()
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=30)
            if process.poll() is None:
                process.kill()
            log.close()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(OSError), urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=2):
                return
            time.sleep(0.2)
        raise RehearsalError(f"The service did not start; {self._root / 'service.log'} says why.")

    def say(self, text: str) -> None:
        """Write a line with the time that has passed."""
        seconds = time.monotonic() - self._begun
        recall = ""
        if self.timeline.steps:
            last = self.timeline.steps[-1]
            recall = f" [step {last.number}, recall {last.recall:.2f}]"
        print(f"{seconds:5.0f} s{recall} {text}", file=self._out, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Play the loop, and leave a timeline as PNG and JSON."""
    parser = Parser(prog="python -m fraud_kedro.simulation.rehearsal", description=main.__doc__)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data/08_reporting/rehearsal"),
        help="folder of timeline.png and timeline.json (default %(default)s)",
    )
    parser.add_argument("--keep", type=Path, help="use this empty folder as the root, and keep it")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fraud-rehearsal-") as folder:
        root = chosen.keep.absolute() if chosen.keep else Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            # Its log would know the transactions already.
            raise RehearsalError(f"{root} is not empty. Name a folder that is, or none.")
        rehearsal = Rehearsal(root, Script(), sys.stdout)
        rehearsal.play()
        found = summary(rehearsal.timeline)
        draw(rehearsal.timeline, chosen.out / "timeline.png")
        (chosen.out / "timeline.json").write_text(
            json.dumps({"recall": found, **asdict(rehearsal.timeline)}, indent=2)
        )
        shown = ", ".join(f"{name} {value:.2f}" for name, value in found.items() if value is not None)
        rehearsal.say(f"recall: {shown}; {chosen.out / 'timeline.png'}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


if __name__ == "__main__":
    run(main)
