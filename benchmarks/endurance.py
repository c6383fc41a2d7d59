"""Whether the service keeps up: load for half an hour, with swaps, reports, batches and labels meanwhile.

``python benchmarks/endurance.py [--minutes 30] [--rate 300] [--json PATH]``

Single transactions arrive at a fixed rate. Beside them the model is swapped every
20 seconds, with every third swap a report on drift is made, and there are
explanations, batches of 1,000 rows in JSON and Parquet, labels for what was
answered, and a comparison of versions a minute. Each minute gives a line. Every
answer must have status 200 (202 of a report that takes long), and the memory of
the process that scores may grow by less than 5 % from the third minute to the
last; exit code 1 says that one of them is not so.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread

import httpx
import polars as pl
import psutil
from _serving.load import open_loop
from _serving.model import ServedModel, make_model
from _serving.servers import MEDIA_TYPES, Contender, running, the_service
from _serving.swaps import swap

MOST_GROWTH = 0.05
SETTLED_MINUTES = 3
MINUTE = 60
ROWS = 20_000
SWAPS_A_REPORT = 3


@dataclass
class Minute:
    """What happened in one.

    Attributes
    ----------
    rate : float
        Single transactions answered a second.
    p50, p99 : float
        Milliseconds.
    failed : int
        Answers of another status than 200, to anything.
    memory : float
        Of the process that scores, MiB.
    """

    rate: float
    p50: float
    p99: float
    failed: int
    memory: float


class Beside:
    """Everything but single transactions, each in its own interval, until it is told to stop."""

    def __init__(self, service: Contender, root: Path, served: ServedModel) -> None:
        self.failed = 0
        self.done: dict[str, int] = {}
        self._address = service.address
        self._client = httpx.Client(base_url=service.address, timeout=60)
        self._root = root
        self._rows = served.transactions(1000)
        parquet = io.BytesIO()
        pl.DataFrame(self._rows).write_parquet(parquet)
        self._parquet = parquet.getvalue()
        self._stop = Event()
        every: dict[Callable[[], httpx.Response], float] = {
            self._swap: 20,
            self._explain: 1,
            self._json: 10,
            self._table: 15,
            self._label: 5,
            self._compare: 60,
        }
        self._threads = [Thread(target=self._repeat, args=pair) for pair in every.items()]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def _repeat(self, action: Callable[[], httpx.Response], seconds: float) -> None:
        name = action.__name__.strip("_")
        while not self._stop.wait(seconds):
            try:
                status = action().status_code
            except httpx.HTTPError as error:
                print(f"{name}: {error!r}", file=sys.stderr)
                status = 0
            self.done[name] = self.done.get(name, 0) + 1
            if status not in (200, 202):
                print(f"{name} was answered with {status}", file=sys.stderr)
                self.failed += 1

    def _swap(self) -> httpx.Response:
        version = 2 + self.done.get("swap", 0)
        served = swap(self._root, version, self._address)
        if not served.endswith(f"_v{version}"):
            raise httpx.HTTPError(f"after a swap to version {version}, {served} serves")
        if version % SWAPS_A_REPORT:
            return self._client.get("/readyz")
        # Right after a swap: it compares with what serves.
        return self._client.post("/monitoring/drift", json={"days": 1}, timeout=90)

    def _explain(self) -> httpx.Response:
        number = self.done.get("explain", 0)
        body = self._rows[number % 1000] | {"transaction_id": f"explained-{number}"}
        return self._client.post("/predict?explain=true", json=body)

    def _json(self) -> httpx.Response:
        return self._client.post("/predict/batch", json={"transactions": self._rows})

    def _table(self) -> httpx.Response:
        return self._client.post(
            "/predict/batch", content=self._parquet, headers={"Content-Type": MEDIA_TYPES["Parquet"]}
        )

    def _label(self) -> httpx.Response:
        known = range(self.done.get("explain", 0))
        labels = [{"transaction_id": f"explained-{n}", "label": n % 2} for n in known[-20:]]
        return (
            self._client.post("/feedback", json={"labels": labels}) if labels else self._client.get("/livez")
        )

    def _compare(self) -> httpx.Response:
        return self._client.get("/model/comparison?days=1")


def scoring_process(service: psutil.Process) -> psutil.Process:
    """The worker: the child with the most memory."""
    return max(service.children(recursive=True), key=lambda process: process.memory_info().rss)


def last(minutes: int, rate: float) -> tuple[list[Minute], dict[str, int]]:
    """Serve and ask for so long."""
    found: list[Minute] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        served = make_model(root, ROWS)
        service = the_service(served, root, Path(folder))
        with running(service, Path(folder)) as process:
            worker = scoring_process(process)
            beside = Beside(service, root, served)
            try:
                for number in range(minutes):
                    failed = beside.failed
                    load = open_loop(service.port, service.path, service.bodies, MINUTE, rate)
                    found.append(
                        Minute(
                            load.rate,
                            load.p50,
                            load.p99,
                            load.wrong + beside.failed - failed,
                            worker.memory_info().rss / 2**20,
                        )
                    )
                    print(line(number + 1, found[-1]), flush=True)
            finally:
                beside.stop()
    return found, beside.done


def line(number: int, minute: Minute) -> str:
    """Write a minute as a row of a Markdown table."""
    return (
        f"| {number} | {minute.rate:,.0f} | {minute.p50:.2f} | {minute.p99:.2f} | {minute.failed} "
        f"| {minute.memory:,.0f} |"
    )


def main() -> None:
    """Last, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--rate", type=float, default=300, help="single transactions a second")
    parser.add_argument("--json", type=Path, help="file for every figure")
    chosen = parser.parse_args()
    print("| minute | req/s | p50, ms | p99, ms | failed | MiB |\n|---|---|---|---|---|---|", flush=True)
    begun = time.monotonic()
    minutes, done = last(chosen.minutes, chosen.rate)
    settled = minutes[min(SETTLED_MINUTES, len(minutes)) - 1]
    growth = minutes[-1].memory / settled.memory - 1
    failed = sum(minute.failed for minute in minutes)
    others = ", ".join(f"{number} x {name}" for name, number in sorted(done.items()))
    print(f"\n{(time.monotonic() - begun) / MINUTE:.0f} minutes, meanwhile {others}.")
    print(f"Failed: {failed}. Memory: {growth:+.1%} from minute {min(SETTLED_MINUTES, len(minutes))} on.")
    if chosen.json:
        report = {"minutes": [asdict(minute) for minute in minutes], "beside": done, "growth": growth}
        chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if failed or growth >= MOST_GROWTH:
        sys.exit(1)


if __name__ == "__main__":
    main()
