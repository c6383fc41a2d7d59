"""Simulated transactions and their late labels, as lines of JSON or sent to a running service.

``python -m fraud_kedro.simulation.stream [--rows N] [--speed N] [--post URL] ...``
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TextIO, get_args

from fraud_kedro.simulation.command import Parser, run
from fraud_kedro.simulation.delivery import DeliveryError, Destination, JsonLines, Service
from fraud_kedro.simulation.events import (
    DEFAULT_ORIGIN,
    Event,
    LabelsReported,
    StreamOptions,
    TransactionEvent,
    stream,
)
from fraud_kedro.simulation.label_delay import parse_label_delay
from fraud_kedro.simulation.options import SimulationError, SimulationOptions

# Events of so many seconds go out together: shorter sleeps are no more exact.
_TICK = 0.05
_PROGRESS_SECONDS = 10.0
_TERMINAL_SECONDS = 0.5
_NEW_LINE = "\r\x1b[K"


class Pacer:
    """Says how long an event has to wait so that the table's time passes at a given speed.

    Parameters
    ----------
    speed : float
        Seconds of the table's time in one second.
    clock : callable, optional
        Seconds that only ever rise.

    Raises
    ------
    SimulationError
        If the speed is no number above 0.
    """

    def __init__(self, speed: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not (speed > 0 and math.isfinite(speed)):
            raise SimulationError(f"A speed of {speed:g} is impossible: it should be a number above 0.")
        self._speed = speed
        self._clock = clock
        self._first: tuple[datetime, float] | None = None

    def seconds_until(self, moment: datetime) -> float:
        """Return the seconds until a moment of the table's time; the first one asked for is now."""
        if self._first is None:
            self._first = (moment, self._clock())
        origin, start = self._first
        return start + (moment - origin).total_seconds() / self._speed - self._clock()


class Progress:
    """Counts events and says now and then, in one line, how far the stream is.

    The last line comes when the context ends well or by Ctrl-C; after an error
    its message alone is shown.

    Parameters
    ----------
    rows : int
        Transactions in all.
    out : text file
        A terminal gets one line that changes.
    """

    def __init__(self, rows: int, out: TextIO) -> None:
        self._rows = rows
        self._out = out
        self._terminal = out.isatty()
        self._interval = _TERMINAL_SECONDS if self._terminal else _PROGRESS_SECONDS
        self._start = time.monotonic()
        self._next = self._start + self._interval
        self._transactions = self._labels = 0

    def count(self, event: Event) -> None:
        """Count an event that has been delivered."""
        if isinstance(event, TransactionEvent):
            self._transactions += 1
        else:
            self._labels += 1
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._interval
            print(self._line(), end="" if self._terminal else "\n", file=self._out, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            print(self._line(), file=self._out, flush=True)
        elif self._terminal:
            print(_NEW_LINE, end="", file=self._out, flush=True)

    def _line(self) -> str:
        seconds = time.monotonic() - self._start
        return (
            f"{_NEW_LINE if self._terminal else ''}{self._transactions:,} of {self._rows:,} transactions and "
            f"{self._labels:,} labels in {seconds:,.1f} s"
        )


def deliver(
    events: Iterable[Event],
    destination: Destination,
    *,
    pacer: Pacer | None = None,
    delivered: Callable[[Event], None] = lambda event: None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Hand every event to a destination, at the pace that is wanted.

    Parameters
    ----------
    events : iterable of Event
    destination : Destination
        Is flushed before each wait and at the end.
    pacer : Pacer, optional
        As fast as possible without one.
    delivered : callable, optional
        Is told each event after it was written.
    """
    for event in events:
        wait = 0.0 if pacer is None else pacer.seconds_until(event.event_time)
        if wait > _TICK:
            destination.flush()
            sleep(wait)
        destination.write(event)
        delivered(event)
    destination.flush()


def main(arguments: list[str] | None = None) -> None:
    """Stream simulated transactions, each followed by its label after a delay."""
    chosen = _parser().parse_args(arguments)
    options = _options(chosen)
    pacer = None if chosen.speed is None else Pacer(chosen.speed)
    with _destination(chosen) as destination:
        progress = Progress(options.table.rows, sys.stderr)
        with progress:
            deliver(stream(options), destination, pacer=pacer, delivered=progress.count)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m fraud_kedro.simulation.stream", description=main.__doc__)
    parser.add_argument("--rows", type=int, default=284_807, help="transactions (default 284,807)")
    parser.add_argument("--fraud-rate", type=float, help="share of the transactions that are fraud")
    parser.add_argument(
        "--seed", type=int, default=0, help="the same arguments and seed give the same stream"
    )
    parser.add_argument("--duplicates", type=int, help="rows that repeat another one exactly")
    parser.add_argument("--drift", help="JSON: one mapping or a list, as in the catalog")
    parser.add_argument(
        "--label-delay", default="7d", metavar="DELAY", help="7d (default), 12h, or exponential:MEAN:CAP"
    )
    parser.add_argument(
        "--labels",
        default="fraud",
        choices=get_args(LabelsReported),
        help="whose labels come: of frauds alone, as chargebacks do (default), of all, of none",
    )
    parser.add_argument(
        "--origin", default=DEFAULT_ORIGIN.isoformat(), help="moment of second 0 (default %(default)s)"
    )
    parser.add_argument("--id-prefix", default="sim", help="beginning of the transaction ids (default sim)")
    parser.add_argument(
        "--speed", type=float, metavar="N", help="N seconds of the table's time a second; default: no pace"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", type=Path, help="file for the lines of JSON; standard output by default")
    where.add_argument("--post", metavar="URL", help="send to a service, such as http://127.0.0.1:8000")
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        help="with --post: send up to so many transactions at once (default 1)",
    )
    return parser


def _options(chosen: argparse.Namespace) -> StreamOptions:
    table = SimulationOptions.parse(
        rows=chosen.rows,
        fraud_rate=chosen.fraud_rate,
        seed=chosen.seed,
        duplicates=chosen.duplicates,
        drift=_drift(chosen.drift),
    )
    return StreamOptions.parse(
        table=table,
        label_delay=parse_label_delay(chosen.label_delay),
        labels=chosen.labels,
        origin=chosen.origin,
        id_prefix=chosen.id_prefix,
    )


def _drift(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise SimulationError(
            f"--drift is no JSON ({error}): give one mapping or a list, such as "
            '\'{"column": "V14", "shift": 0.5, "from": 86400}\'.'
        ) from error


@contextmanager
def _destination(chosen: argparse.Namespace) -> Iterator[Destination]:
    if chosen.post is not None:
        service = Service(chosen.post, batch=chosen.batch)
        try:
            yield service
        finally:
            service.close()
        return
    try:
        with (
            nullcontext(sys.stdout) if chosen.out is None else chosen.out.open("w", encoding="utf-8") as file
        ):
            yield JsonLines(file)
    except BrokenPipeError:
        # The reader has had enough.
        raise
    except OSError as error:
        where = chosen.out or "standard output"
        raise DeliveryError(f"Events cannot be written to {where}: {error.strerror}.") from error


if __name__ == "__main__":
    run(main)
