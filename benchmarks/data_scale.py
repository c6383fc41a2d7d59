"""How `data_processing` grows with the table, beside the same work in plain pandas.

``python benchmarks/data_scale.py [--sizes 1,10,100] [--keep-tables FOLDER] [--json PATH]``

A size is a multiple of the real table's 284,807 rows; tables are drawn by the
simulator, in Parquet parts of about a million rows. Two programs go through each:

- ``kedro run --pipeline=data_processing --env creditcard``, the command a user
  types. Its nodes alone are timed by the run's own log.
- The baseline: `pandas.read_parquet`, a check of every value, `drop_duplicates`,
  the same split by time, `to_parquet`. It neither records nor profiles the
  table, and keeps no copy of it without duplicates.

Each runs in a process of its own that cannot have more than ``--memory-limit``
GiB of addresses: too large a table is a result and does no harm. Both must drop
the same number of duplicates and come to parts of the same sizes.

The promise: 100 times the rows in at most 12 GiB and 120 times the time. If it is
broken, or a program fails for another reason, the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

# The standard library alone: a process starts with its parent's peak memory as its own.

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "benchmarks" / "results" / "data_scale.json"
ROWS = 284_807
GIBIBYTE = 2**30

PIPELINE, BASELINE = "kedro run --pipeline=data_processing", "baseline: pandas"
PROMISED_SIZE, PROMISED_GIBIBYTES, PROMISED_TIMES = 100, 12, 120

# A row in Parquet, and the tables that are on the disk at once: all rows and the three parts.
_BYTES_PER_ROW, _TABLES_WRITTEN, _RESERVE = 220, 2, GIBIBYTE
# Below so many rows a run is short enough for others on the machine to blur it.
_SHORT = 1_000_000
_SEED = 1
_WANT_OF_MEMORY = ("out of memory", "killed")
# As Python and Arrow, C++, Rust and the loader say it.
_OUT_OF_MEMORY = re.compile(
    r"MemoryError|malloc|bad_alloc|memory allocation of \d+ bytes failed"
    r"|[Cc]annot allocate memory|failed to map segment"
)


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    seconds: float
    processor_seconds: float
    peak_gibibytes: float
    output: str


def run(command: list[str], folder: Path, limit_gibibytes: float, **environment: str) -> Ended:
    """Run a command to its end, with a limit on its memory."""

    def limit() -> None:
        size = int(limit_gibibytes * GIBIBYTE)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))

    output = folder / "output.txt"
    started = time.perf_counter()
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=PROJECT,
            # What libraries leave in the folder for temporary files goes with this one.
            env={**os.environ, "TMPDIR": str(folder), **environment},
            preexec_fn=limit,
        )
        try:
            # The usage of this one child, as no method of Popen gives it.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    # Kibibytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return Ended(
        code=process.returncode,
        seconds=time.perf_counter() - started,
        processor_seconds=usage.ru_utime + usage.ru_stime,
        peak_gibibytes=usage.ru_maxrss * unit / GIBIBYTE,
        output=output.read_text(errors="replace"),
    )


def failure(ended: Ended, limit_gibibytes: float) -> str | None:
    """Why a process failed, None if it did not."""
    if ended.code == 0:
        return None
    if _OUT_OF_MEMORY.search(ended.output):
        return f"out of memory at {limit_gibibytes:g} GiB"
    if ended.code == -9:
        return "killed, most likely for want of memory"
    last = ended.output.strip().rsplit("\n", 1)[-1]
    return f"ended with code {ended.code}: {last}"


def measure_pipeline(table: Path, folder: Path, limit_gibibytes: float) -> dict[str, Any]:
    """Run the command on a folder of Parquet parts, below a root of its own."""
    from omegaconf import OmegaConf

    # The project's own configuration but for the table's place.
    conf = shutil.copytree(PROJECT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    catalog_file = conf / "creditcard" / "catalog.yml"
    catalog = OmegaConf.load(catalog_file)
    catalog.raw_transactions.filepath = str(table)
    OmegaConf.save(catalog, catalog_file)

    log, log_conf = folder / "run.log", folder / "logging.yml"
    log_conf.write_text(json.dumps(_logging(log)), encoding="utf-8")
    command = [sys.executable, "-m", "kedro", "run", "--pipeline=data_processing", "--env=creditcard"]
    ended = run(
        [*command, f"--conf-source={conf}"],
        folder,
        limit_gibibytes,
        FRAUD_ROOT=str(folder / "root"),
        FRAUD_MLFLOW_TRACKING_URI="",
        KEDRO_LOGGING_CONFIG=str(log_conf),
    )
    found = _measured(PIPELINE, ended, failure(ended, limit_gibibytes))
    if "failure" in found:
        return found
    record = json.loads((folder / "root" / "03_primary" / "data_record.json").read_text(encoding="utf-8"))
    steps = steps_of(log.read_text(encoding="utf-8"))
    return {
        **found,
        "work_seconds": sum(steps.values()),
        "steps": steps,
        "duplicates": record["duplicates_dropped"],
        "parts": {name: part["rows"] for name, part in record["parts"].items()},
    }


def _logging(file: Path) -> dict[str, Any]:
    handler = {"class": "logging.FileHandler", "filename": str(file), "formatter": "moments"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"moments": {"format": "%(created)f %(name)s %(message)s"}},
        "handlers": {"file": handler, "console": {"class": "logging.StreamHandler", "level": "ERROR"}},
        "loggers": {"kedro.runner": {"level": "INFO"}, "kedro.io": {"level": "INFO"}},
        "root": {"handlers": ["file", "console"], "level": "WARNING"},
    }


def steps_of(log: str) -> dict[str, float]:
    """Seconds of each node, with the loading and saving of its data, by the log of a run."""
    start = re.search(r"^([\d.]+) kedro\.io\.\S+ Loading data from ", log, re.MULTILINE)
    ends = re.findall(r"^([\d.]+) kedro\.runner\S* Completed node: (\S+)", log, re.MULTILINE)
    if start is None or not ends:
        raise SystemExit("Kedro's log does not say when its nodes ran: its wording has changed.")
    moments = [float(start[1]), *(float(moment) for moment, _ in ends)]
    names = [name.rsplit(".", 1)[-1] for _, name in ends]
    return {name: after - before for name, before, after in zip(names, moments, moments[1:], strict=False)}


def measure_baseline(table: Path, folder: Path, limit_gibibytes: float) -> dict[str, Any]:
    """Run plain pandas on a folder of Parquet parts."""
    ended = _run_self("pandas", table, folder, limit_gibibytes)
    found = _measured(BASELINE, ended, failure(ended, limit_gibibytes))
    if "failure" in found:
        step = re.findall(r"^step: (.+)$", ended.output, re.MULTILINE)
        return {**found, "failed_step": step[-1] if step else "import"}
    result: dict[str, Any] = json.loads(ended.output.strip().rsplit("\n", 1)[-1])
    return {**found, "work_seconds": sum(result["steps"].values()), **result}


def _measured(program: str, ended: Ended, reason: str | None) -> dict[str, Any]:
    return {
        "program": program,
        "seconds": ended.seconds,
        "processor_seconds": ended.processor_seconds,
        "peak_gibibytes": ended.peak_gibibytes,
        **({"failure": reason} if reason else {}),
    }


def pandas_here(table: Path, target: Path) -> dict[str, Any]:
    """Read, check, drop duplicates, split by time and write, in this process."""
    import numpy as np
    import pandas as pd

    steps: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        print(f"step: {name}", flush=True)
        started = time.perf_counter()
        yield
        steps[name] = time.perf_counter() - started

    with step("read"):
        frame = pd.read_parquet(table)
    with step("check"):
        for column in frame:
            if not np.isfinite(frame[column].to_numpy()).all():
                raise SystemExit(f"{column} has values that are not finite")
        if (frame["Amount"] < 0).any() or not frame["Class"].isin([0, 1]).all():
            raise SystemExit("an amount is negative, or a label neither 0 nor 1")
    rows = len(frame)
    with step("drop duplicates"):
        frame = frame.drop_duplicates()
    with step("split"):
        times = frame["Time"].to_numpy()
        ranks = [round(len(times) * share) for share in (0.6, 0.8)]
        first_validation, first_test = np.partition(times, ranks)[ranks]
        masks = {
            "train": times < first_validation,
            "validation": (times >= first_validation) & (times < first_test),
            "test": times >= first_test,
        }
    parts = {}
    with step("write"):
        for name, mask in masks.items():
            part = frame[mask]
            parts[name] = len(part)
            part.to_parquet(target / f"{name}.parquet", compression="zstd", compression_level=1)
    return {"steps": steps, "duplicates": rows - len(frame), "parts": parts}


def draw_here(rows: int, folder: Path) -> None:
    """Draw a table into a folder of parts, or see that the one there has as many rows."""
    import polars as pl

    from fraud_kedro.simulation.options import SimulationOptions
    from fraud_kedro.simulation.simulator import simulate

    if folder.exists():
        found = pl.scan_parquet(folder / "*.parquet").select(pl.len()).collect().item()
        if found != rows:
            raise SystemExit(
                f"{folder} holds {found:,} rows, not {rows:,}. Remove it, or name another folder."
            )
        return
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        for number, block in enumerate(simulate(SimulationOptions(rows=rows, seed=_SEED))):
            block.write_parquet(
                unfinished / f"part-{number:03}.parquet", compression="zstd", compression_level=1
            )
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _run_self(what: str, table: Path, folder: Path, limit_gibibytes: float, rows: int = 0) -> Ended:
    arguments = ["--one", what, "--table", str(table), "--target", str(folder), "--rows", str(rows)]
    return run([sys.executable, __file__, *arguments], folder, limit_gibibytes)


def measure_size(size: float, tables: Path, limit_gibibytes: float, repetitions: int) -> list[dict[str, Any]]:
    """Draw one table and run both programs on it."""
    rows = round(ROWS * size)
    table = tables / f"x{size:g}"
    _say(f"{rows:,} rows: {'found in' if table.exists() else 'drawing into'} {table}")
    with _scratch() as folder:
        drawn = _run_self("draw", table, folder, limit_gibibytes, rows)
    if drawn.code != 0:
        raise SystemExit(drawn.output.strip() or f"The simulator ended with code {drawn.code}.")
    results = []
    for measure in (measure_pipeline, measure_baseline):
        runs = [
            _run_once(measure, table, limit_gibibytes) for _ in range(repetitions if rows < _SHORT else 1)
        ]
        results.append({"size": size, "rows": rows, **_typical(runs)})
    require_agreement(results)
    return results


def _run_once(
    measure: Callable[[Path, Path, float], dict[str, Any]], table: Path, limit_gibibytes: float
) -> dict[str, Any]:
    with _scratch() as folder:
        found = measure(table, folder, limit_gibibytes)
    _say(f"  {found['program']}: {found['seconds']:,.1f} s, {found.get('failure', 'done')}")
    return found


def _typical(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run with the median time, or the first that failed."""
    failed = [one for one in runs if "failure" in one]
    if failed:
        return failed[0]
    middle = statistics.median_low(one["work_seconds"] for one in runs)
    typical = next(one for one in runs if one["work_seconds"] == middle)
    return {**typical, "work_seconds_of_all_runs": [one["work_seconds"] for one in runs]}


def require_agreement(results: list[dict[str, Any]]) -> None:
    """See that no program lost a row, and that all split the table alike."""
    done = [one for one in results if "failure" not in one]
    for one in done:
        if sum(one["parts"].values()) + one["duplicates"] != one["rows"]:
            raise SystemExit(f"{one['program']} lost rows: {one['parts']}, {one['duplicates']} duplicates.")
        if (one["duplicates"], one["parts"]) != (done[0]["duplicates"], done[0]["parts"]):
            raise SystemExit(
                f"{one['program']} does not agree with {done[0]['program']}: "
                f"{one['parts']}, {one['duplicates']} duplicates; "
                f"{done[0]['parts']}, {done[0]['duplicates']} duplicates."
            )


def require_room(sizes: list[float], tables: Path | None, scratch: Path) -> None:
    """See before anything is drawn that the disks have enough room."""
    needed: dict[int, tuple[Path, float]] = {}

    def need(folder: Path, rows: float) -> None:
        device = folder.stat().st_dev
        known = needed.get(device, (folder, _RESERVE))[1]
        needed[device] = (folder, known + rows * _BYTES_PER_ROW)

    largest = max(sizes) * ROWS
    need(scratch, _TABLES_WRITTEN * largest)
    if tables is None:
        need(scratch, largest)
    else:
        need(tables, sum(size * ROWS for size in sizes if not (tables / f"x{size:g}").exists()))
    for folder, wanted in needed.values():
        free = shutil.disk_usage(folder).free
        if free < wanted:
            raise SystemExit(
                f"{folder} has {free / GIBIBYTE:.1f} GiB free, and {wanted / GIBIBYTE:.1f} GiB are needed. "
                "Make room, choose smaller --sizes, or set TMPDIR to a folder on a larger disk."
            )


def defects(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Failures that are no result: any of the pipeline, and what is not for want of memory."""
    failed = [one for one in results if "failure" in one]
    return [
        one for one in failed if one["program"] == PIPELINE or not one["failure"].startswith(_WANT_OF_MEMORY)
    ]


def promises(results: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Whether the promise is kept; None unless both of its sizes were run."""
    by_size = {one["size"]: one for one in results if one["program"] == PIPELINE}
    if not {1, PROMISED_SIZE} <= by_size.keys():
        return None
    one, many = by_size[1], by_size[PROMISED_SIZE]
    if "failure" in one or "failure" in many:
        return {"kept": False, "why": one.get("failure") or many["failure"]}
    times, command_times = (many[key] / one[key] for key in ("work_seconds", "seconds"))
    return {
        "kept": many["peak_gibibytes"] <= PROMISED_GIBIBYTES and times <= PROMISED_TIMES,
        "peak_gibibytes": many["peak_gibibytes"],
        "most_gibibytes": PROMISED_GIBIBYTES,
        "times": times,
        "times_of_command": command_times,
        "most_times": PROMISED_TIMES,
    }


def markdown(results: list[dict[str, Any]]) -> str:
    """Write the results as two tables: the programs, and their steps."""
    lines = [
        "| rows | program | command, s | work alone, s | processor, s | peak memory, GiB |",
        "|---|---|---|---|---|---|",
    ]
    steps = ["| rows | program | seconds of each step |", "|---|---|---|"]
    for one in results:
        start = f"| {one['rows']:,} | {one['program']} |"
        if "failure" in one:
            during = f" ({one['failed_step']})" if "failed_step" in one else ""
            lines.append(f"{start} {one['failure']}{during} after {one['seconds']:.0f} s | | | |")
            continue
        lines.append(
            f"{start} {one['seconds']:.1f} | {one['work_seconds']:.2f} "
            f"| {one['processor_seconds']:.1f} | {one['peak_gibibytes']:.2f} |"
        )
        each = ", ".join(f"{name} {seconds:.2f}" for name, seconds in one["steps"].items())
        steps.append(f"{start} {each} |")
    return "\n".join([*lines, "", *steps])


def _verdict(promise: dict[str, Any]) -> str:
    if "why" in promise:
        return f"Promise broken: {promise['why']}."
    return (
        f"Promise {'kept' if promise['kept'] else 'BROKEN'}: {PROMISED_SIZE} times the rows take "
        f"{promise['times']:.0f} times the time (at most {PROMISED_TIMES}; the whole command "
        f"{promise['times_of_command']:.0f} times) and {promise['peak_gibibytes']:.1f} GiB "
        f"(at most {PROMISED_GIBIBYTES})."
    )


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIBIBYTE
    packages = ("kedro", "polars", "pandas", "pyarrow", "numpy")
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gibibytes": round(memory, 1),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fraud-data-scale-") as folder:
        yield Path(folder)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _sizes(text: str) -> list[float]:
    sizes = sorted({float(size) for size in text.split(",")})
    if not sizes[0] > 0:
        raise argparse.ArgumentTypeError(f"{text}: a size should be above 0")
    return sizes


def _here(chosen: argparse.Namespace) -> None:
    if chosen.one == "draw":
        draw_here(chosen.rows, chosen.table)
    else:
        print(json.dumps(pandas_here(chosen.table, chosen.target)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--sizes", type=_sizes, default="1,10,100", help="multiples of 284,807 rows")
    parser.add_argument(
        "--keep-tables", type=Path, metavar="FOLDER", help="where tables stay for the next run"
    )
    parser.add_argument("--memory-limit", type=float, default=16, metavar="GIB", help="of each process")
    parser.add_argument("--repetitions", type=int, default=3, help="of runs on less than a million rows")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file for every figure")
    for hidden in ("--one", "--rows", "--table", "--target"):
        kind = {"--one": str, "--rows": int}.get(hidden, Path)
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure both programs at every size, print the tables and write the JSON file."""
    chosen = _parser().parse_args()
    if chosen.one is not None:
        _here(chosen)
        return
    if chosen.keep_tables is not None:
        chosen.keep_tables.mkdir(parents=True, exist_ok=True)
    require_room(chosen.sizes, chosen.keep_tables, Path(tempfile.gettempdir()))
    results: list[dict[str, Any]] = []
    for size in chosen.sizes:
        with _scratch() as scratch:
            tables = (chosen.keep_tables or scratch).resolve()
            results += measure_size(size, tables, chosen.memory_limit, chosen.repetitions)
    print(markdown(results))
    promise = promises(results)
    report = {
        "machine": _machine(),
        "memory_limit_gibibytes": chosen.memory_limit,
        "results": results,
        "promise": promise,
    }
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if promise is not None:
        print(f"\n{_verdict(promise)}")
    if defects(results) or (promise is not None and not promise["kept"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
