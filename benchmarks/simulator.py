"""How fast the simulator draws, and how much memory that takes.

``python benchmarks/simulator.py [--rows N ...] [--json PATH]``

The baseline is what one would write first: correlated normal numbers for the
whole table at once, turned into ranks and looked up in the quantiles with
`numpy.interp`. It knows the classes' quantiles, correlations and hours, but has
neither overlap between the classes nor heavy joint tails, duplicates, drift or
ids. `stream` is the same table as events with ids and late labels.

Each measurement has a process of its own; memory is that process's peak, with
what it held before the first row given beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.special import ndtr

from fraud_kedro.simulation.events import StreamOptions, TransactionEvent, stream
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.simulator import simulate
from fraud_kedro.simulation.statistics import ClassStatistics, ulb_statistics

DEFAULT_ROWS = (100_000, 1_000_000, 5_000_000)
_SEED = 1
_SECONDS_PER_HOUR = 3_600


def simulator(rows: int) -> int:
    """Draw the table block by block, as the dataset does."""
    return sum(block.height for block in simulate(SimulationOptions(rows=rows, seed=_SEED)))


def events(rows: int) -> int:
    """Go through the table as a stream of transactions and the labels of frauds."""
    found = stream(StreamOptions(table=SimulationOptions(rows=rows, seed=_SEED)))
    return sum(isinstance(event, TransactionEvent) for event in found)


def gaussian_copula(rows: int) -> int:
    """Draw the whole table at once with NumPy: the baseline."""
    statistics = ulb_statistics()
    rng = np.random.default_rng(_SEED)
    frauds = round(rows * statistics.frauds / statistics.rows)
    classes = ((statistics.legitimate, rows - frauds, 0), (statistics.fraud, frauds, 1))
    table = pl.concat([_class_at_once(own, count, label, rng) for own, count, label in classes])
    return table.sort("Time").height


def _class_at_once(own: ClassStatistics, count: int, label: int, rng: np.random.Generator) -> pl.DataFrame:
    levels = ulb_statistics().levels
    normal = rng.multivariate_normal(
        np.zeros(len(own.quantiles)), own.correlation, size=count, method="cholesky"
    )
    ranks = ndtr(normal)
    hours = rng.choice(24, size=count, p=np.array(own.hour_of_day_share) / sum(own.hour_of_day_share))
    time_of_day = hours * _SECONDS_PER_HOUR + rng.integers(0, _SECONDS_PER_HOUR, size=count)
    columns = {
        name: np.interp(ranks[:, position], levels, quantiles)
        for position, (name, quantiles) in enumerate(own.quantiles.items())
    }
    columns["Amount"] = np.round(columns["Amount"], 2)
    day = rng.integers(0, 2, size=count) * 24 * _SECONDS_PER_HOUR
    return pl.DataFrame(
        {"Time": (day + time_of_day).astype(float), **columns, "Class": np.full(count, label)}
    )


PROGRAMS: dict[str, Callable[[int], int]] = {
    "simulator": simulator,
    "baseline: NumPy, all at once": gaussian_copula,
    "stream of events": events,
}


def measure_here(name: str, rows: int) -> dict[str, Any]:
    """Run one program in this process."""
    program = PROGRAMS[name]
    # Samplers and compiled paths are made once in a process.
    program(1_000)
    before = _peak_mebibytes()
    start, processor = time.perf_counter(), time.process_time()
    made = program(rows)
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor
    if made != rows:
        raise AssertionError(f"{name} made {made:,} rows in place of {rows:,}")
    return {
        "program": name,
        "rows": rows,
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "rows_per_second": rows / seconds,
        "peak_mebibytes": _peak_mebibytes(),
        "mebibytes_before": before,
    }


def measure(name: str, rows: int) -> dict[str, Any]:
    """Run one program in a fresh process."""
    command = [sys.executable, __file__, "--one", name, "--rows", str(rows)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        # Killed for want of memory, most likely: that is a result too.
        return {"program": name, "rows": rows, "exit_code": done.returncode}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def markdown(results: list[dict[str, Any]]) -> str:
    """Write the results as a table."""
    lines = [
        "| program | rows | seconds | processor seconds | rows/s | peak memory, MiB | before, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        start = f"| {result['program']} | {result['rows']:,} |"
        if "exit_code" in result:
            lines.append(f"{start} ended with code {result['exit_code']} | | | | |")
        else:
            lines.append(
                f"{start} {result['seconds']:.2f} | {result['processor_seconds']:.2f} "
                f"| {result['rows_per_second']:,.0f} | {result['peak_mebibytes']:,.0f} "
                f"| {result['mebibytes_before']:,.0f} |"
            )
    return "\n".join(lines)


def _peak_mebibytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kibibytes on Linux, bytes on macOS.
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def _machine() -> dict[str, Any]:
    versions = {"python": platform.python_version(), "numpy": np.__version__, "polars": pl.__version__}
    return {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count(), **versions}


def main() -> None:
    """Measure every program at every size, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=list(DEFAULT_ROWS), help="sizes of the tables")
    parser.add_argument("--json", type=Path, help="file for every figure")
    parser.add_argument("--one", choices=list(PROGRAMS), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one is not None:
        print(json.dumps(measure_here(chosen.one, chosen.rows[0])))
        return
    results = []
    for rows in chosen.rows:
        for name in PROGRAMS:
            print(f"{name}, {rows:,} rows ...", file=sys.stderr)
            results.append(measure(name, rows))
    print(markdown(results))
    if chosen.json:
        report = {"machine": _machine(), "results": results}
        chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
