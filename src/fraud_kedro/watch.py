"""``python -m fraud_kedro.watch``: monitor, decide, retrain, promote; once, or for ever.

The service follows the alias ``champion`` by itself.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from fraud_kedro.durations import seconds_of
from fraud_kedro.errors import FraudKedroError
from fraud_kedro.monitoring.retraining import Decision
from fraud_kedro.monitoring.retraining_history import HISTORY_FILE, HistoryEntry, append_history, read_history
from fraud_kedro.monitoring.webhook import URL_VARIABLE, announce

logger = logging.getLogger(__name__)

# Before the decision: it leaves the verdict about drift.
DRIFT_PIPELINE = "monitoring"
DECISION_PIPELINE = "retraining_decision"
RETRAINING_PIPELINE = "retraining"

_INTERRUPTED = 130


class WatchError(FraudKedroError):
    """The loop cannot do its turn."""


@dataclass(frozen=True)
class Project:
    """Which environment is watched.

    Attributes
    ----------
    env : str or None
    params : str
        As ``kedro run --params`` takes them.
    """

    env: str | None = None
    params: str = ""

    @property
    def arguments(self) -> list[str]:
        """The same for the command line."""
        env = [] if self.env is None else ["--env", self.env]
        return [*env, *(["--params", self.params] if self.params else [])]


@dataclass(frozen=True)
class Turn:
    """What one turn came to.

    Attributes
    ----------
    decision : Decision
    outcome : HistoryEntry or None
        What became of the retraining, where there was one.
    """

    decision: Decision
    outcome: HistoryEntry | None = None

    @property
    def told(self) -> str:
        """In one line."""
        decided = f"retrain: {'yes' if self.decision.retrain else 'no'}, {self.decision.reason}"
        if self.outcome is None:
            return decided
        version = f" version {self.outcome.version}" if self.outcome.version else ""
        return f"{decided} -> {self.outcome.outcome}{version}: {self.outcome.reason}"

    @property
    def event(self) -> Mapping[str, Any]:
        """For the webhook."""
        return {
            "event": "retraining",
            "decision": self.decision.model_dump(mode="json"),
            "outcome": None if self.outcome is None else self.outcome.model_dump(mode="json"),
        }


def take_turn(project: Project) -> Turn:
    """Monitor, decide and, if that is the decision, retrain.

    Returns
    -------
    Turn

    Raises
    ------
    FraudKedroError
        If performance cannot be measured or the decision not be recorded.
    """
    _look_for_drift(project)
    with _session(project) as session:
        catalog = session.load_context().catalog
        folder = Path(catalog["remembered_decision"]._describe()["file"]).parent
        with _alone(folder) as lock:
            _run(session, DECISION_PIPELINE)
            decision: Decision = catalog.load("retraining_decision")
            outcome = _retrain(project, folder, lock) if decision.retrain else None
    turn = Turn(decision, outcome)
    if decision.triggers:
        announce(os.environ.get(URL_VARIABLE), turn.event)
    return turn


def watch(project: Project, *, every: float | None) -> None:
    """Take a turn, and with `every` another one so many seconds after the last has begun.

    In a loop a turn that fails is said in one line, and the next one is taken all
    the same.
    """
    while True:
        begun = time.monotonic()
        try:
            print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {take_turn(project).told}", flush=True)
        except Exception as error:
            message = _expected(error)
            if every is None or message is None:
                raise
            print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} Error: {message}", file=sys.stderr, flush=True)
        if every is None:
            return
        time.sleep(max(0.0, begun + every - time.monotonic()))


def _look_for_drift(project: Project) -> None:
    """Leave a new verdict about drift."""
    try:
        with _session(project) as session:
            _run(session, DRIFT_PIPELINE)
    except Exception as error:
        message = _expected(error)
        if message is None:
            raise
        # What labels say still counts.
        logger.warning("Drift was not looked for: %s", message)


def _run(session: Any, pipeline: str) -> None:
    import mlflow
    from kedro.runner import SequentialRunner

    try:
        session.run(pipeline_names=[pipeline], runner=SequentialRunner())
    finally:
        # kedro-mlflow opens its run again for each node and closes it once: the next pipeline, and every
        # later turn, would be logged into this one's.
        while mlflow.active_run():
            mlflow.end_run()


def _retrain(project: Project, folder: Path, lock: TextIO) -> HistoryEntry:
    """Retrain in a process of its own: its memory goes with it, and its end is not ours.

    It has the lock too, so that a loop that is killed meanwhile leaves nobody to
    start a second retraining beside it.
    """
    before = len(read_history(folder / HISTORY_FILE))
    command = [sys.executable, "-m", "kedro", "run", "--pipeline", RETRAINING_PIPELINE, *project.arguments]
    done = subprocess.run(  # noqa: S603
        command,
        check=False,
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        pass_fds=(lock.fileno(),),
    )
    sys.stderr.write(done.stderr)
    added = read_history(folder / HISTORY_FILE)[before:]
    outcomes = [entry for entry in added if entry.kind == "retraining"]
    if outcomes:
        return outcomes[-1]
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    said = next(
        (line for line in reversed(lines) if line.startswith("Error: ")), f"exit code {done.returncode}"
    )
    failed = HistoryEntry(
        at=datetime.now(UTC), kind="retraining", reason=said.removeprefix("Error: "), outcome="failed"
    )
    append_history(folder / HISTORY_FILE, failed)
    return failed


@contextmanager
def _alone(folder: Path) -> Iterator[TextIO]:
    """Hold the lock of a root, so that two loops do not retrain at once.

    Raises
    ------
    WatchError
        If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        _lock(file, folder)
        yield file


def _lock(file: TextIO, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise WatchError(
            f"Another process watches this root already (it holds {folder / '.lock'}). This turn is left out."
        ) from error


@contextmanager
def _session(project: Project) -> Iterator[Any]:
    from kedro.framework.session import KedroSession

    runtime = _runtime_params(project.params)
    with KedroSession.create(env=project.env, runtime_params=runtime) as session:
        yield session


def _runtime_params(text: str) -> dict[str, Any]:
    """Read parameters as ``kedro run --params`` does."""
    import click
    from kedro.framework.cli.utils import _split_params

    option = click.Option(["--params"])
    try:
        return dict(_split_params(click.Context(click.Command("watch")), option, text))
    except click.UsageError as error:
        raise WatchError(f"{error.message}") from error


def _expected(error: BaseException) -> str | None:
    from fraud_kedro.cli import expected_message

    return expected_message(error)


def _seconds(text: str) -> float:
    seconds = seconds_of(text)
    if not seconds:
        raise argparse.ArgumentTypeError(f"{text!r} should be a duration above 0, such as 30m, 1h or 1d")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fraud_kedro.watch", description=__doc__)
    how_often = parser.add_mutually_exclusive_group()
    how_often.add_argument("--once", action="store_true", help="one turn, for cron and the like (default)")
    how_often.add_argument("--every", type=_seconds, metavar="TIME", help="a turn each 30m, 1h, 1d ...")
    parser.add_argument("--env", "-e", help="Kedro's environment")
    parser.add_argument("--params", default="", help="as for kedro run")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Watch; gives the exit code: 1 after an error that is one line, 130 after Ctrl-C."""
    chosen = _parser().parse_args(arguments)
    from kedro.framework.startup import bootstrap_project
    from kedro.utils import find_kedro_project

    from fraud_kedro.quiet import silence_known_noise

    silence_known_noise()
    try:
        folder = find_kedro_project(Path.cwd())
        if folder is None:
            raise WatchError(f"{Path.cwd()} is not in a Kedro project. Start it where pyproject.toml lies.")
        bootstrap_project(folder)
        watch(Project(chosen.env, chosen.params), every=chosen.every)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        message = _expected(error)
        if message is None:
            raise
        print(f"Error: {message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
