"""What a prediction over HTTP costs: the service, the bare limit below it, and what one would use instead.

``python benchmarks/serving.py [--seconds N] [--rounds N] [--json PATH]``

One model (300 LightGBM trees, 30 features) is served by

- the service, `bentoml serve`, with everything on: checks of every field, a log
  row committed before each answer, metrics,
- the bare limit: an ASGI function around the same graph under uvicorn, which
  checks and logs nothing,
- FastAPI with pydantic, a pandas frame, a scaler and a new SQLite connection for
  every request, as tutorials do,
- `mlflow models serve`, which logs nothing,
- BentoML's `@bentoml.api` with default settings, which logs nothing.

All have one worker and are asked over 8 connections by wrk, where that is
installed. They run side by side and are asked in turns, in rounds, so that what
else runs on the machine hits all alike; the median of the rounds counts. Then
500 requests a second are sent to the service whatever it answers (open loop), and
batches in JSON, CSV and Parquet, also with single requests beside them, and single
requests while the model is swapped and a report on drift is made.

The log lies in the folder for temporary files (TMPDIR), whose disk decides how
long a commit takes; with one in memory the figures are those of the code alone.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import mlflow.lightgbm
import polars as pl
import psutil
from _serving.load import Load, closed_loop, open_loop
from _serving.model import ServedModel, make_model
from _serving.servers import BODIES, MEDIA_TYPES, OURS, PROJECT, Contender, running, the_service
from _serving.swaps import swap

from fraud_kedro.locations import champion_folder

OPEN_RATE = 500.0
BESIDE_RATE = 100.0
BATCHES = {"JSON": 10_000, "CSV": 100_000, "Parquet": 100_000}

LIMIT, TUTORIAL = "bare limit", "FastAPI, the tutorial way"
MLFLOW, NATIVE = "mlflow models serve", "@bentoml.api, defaults"

# What the figures should be; the table says where they are not.
RATIOS = {LIMIT: 0.40, TUTORIAL: 10.0, MLFLOW: 2.5}
MOST_P99 = {"single": 5.0, "open_loop": 5.0, "beside_swaps": 10.0}
SWAP_SECONDS = 6.0
LEAST_ROWS = {"JSON": 50_000, "Parquet": 100_000}


def contenders(served: ServedModel, root: Path, folder: Path) -> list[Contender]:
    """Everything that is asked; files they need are written to a folder."""
    rows = served.transactions(BODIES)
    flat = [json.dumps(row) for row in rows]
    split = [json.dumps({"dataframe_split": {"columns": [*row], "data": [[*row.values()]]}}) for row in rows]
    served.model.estimator.save_model(str(folder / "model.txt"))
    (folder / "features.json").write_text(json.dumps(served.features))
    mlflow.lightgbm.save_model(served.model.estimator, folder / "mlflow", pip_requirements=["lightgbm"])
    paths = {
        "BENCHMARK_BUNDLE": str(champion_folder(root)),
        "BENCHMARK_FOLDER": str(folder),
        "PYTHONPATH": os.pathsep.join([str(PROJECT / "benchmarks"), os.environ.get("PYTHONPATH", "")]),
        "BENTOML_HOME": str(folder / "bentoml"),
    }
    python = [sys.executable, "-m"]
    quiet = ["--log-level", "warning", "--no-access-log"]
    uvicorn = [*python, "uvicorn", "--loop", "uvloop", "--http", "httptools", *quiet, "--port"]
    limit = Contender(LIMIT, [*uvicorn], paths, bodies=flat)
    limit.command += [str(limit.port), "_serving.bare:app"]
    tutorial = Contender(TUTORIAL, [*uvicorn], paths, bodies=flat)
    tutorial.command += [str(tutorial.port), "_serving.tutorial:app"]
    plain = Contender(
        MLFLOW,
        [*python, "mlflow", "models", "serve", "-m", str(folder / "mlflow"), "--env-manager", "local"],
        paths,
        path="/invocations",
        probe="/ping",
        bodies=split,
    )
    plain.command += ["-w", "1", "-p", str(plain.port)]
    native = Contender(
        NATIVE,
        [*python, "bentoml", "serve", "_serving.native_api:Native", "--host", "127.0.0.1"],
        paths,
        bodies=[json.dumps({"transaction": row}) for row in rows],
    )
    native.command += ["--port", str(native.port)]
    return [the_service(served, root, folder), limit, tutorial, plain, native]


def single_requests(entrants: list[Contender], rounds: int, seconds: int) -> dict[str, list[Load]]:
    """Ask all in turns."""
    found: dict[str, list[Load]] = {contender.name: [] for contender in entrants}
    for contender in entrants:
        closed_loop(contender.port, contender.path, contender.bodies, 1)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} ...", file=sys.stderr)
        for contender in entrants:
            load = closed_loop(contender.port, contender.path, contender.bodies, seconds)
            if load.wrong:
                sys.exit(f"{contender.name} failed {load.wrong} requests")
            found[contender.name].append(load)
    return found


def batch_bodies(served: ServedModel) -> dict[str, bytes]:
    """The same rows in three formats."""
    frame = pl.DataFrame(served.rows, schema=list(served.features), orient="row")
    text, parquet = io.BytesIO(), io.BytesIO()
    frame[: BATCHES["CSV"]].write_csv(text)
    frame[: BATCHES["Parquet"]].write_parquet(parquet)
    rows = frame[: BATCHES["JSON"]].to_dicts()
    return {
        "JSON": json.dumps({"transactions": rows}).encode(),
        "CSV": text.getvalue(),
        "Parquet": parquet.getvalue(),
    }


def batches(
    ours: Contender, server: psutil.Process, served: ServedModel, rounds: int
) -> list[dict[str, Any]]:
    """Send every format in turns; the processor's time is the server's own."""
    bodies = batch_bodies(served)
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in bodies}
    _batch(ours, server, "Parquet", bodies["Parquet"])
    for _ in range(rounds):
        for kind, body in bodies.items():
            found[kind].append(_batch(ours, server, kind, body))
    best = {kind: min(runs, key=lambda run: run["seconds"]) for kind, runs in found.items()}
    return [
        {
            "format": kind,
            "rows": BATCHES[kind],
            "rows_per_second": BATCHES[kind] / run["seconds"],
            "rows_per_processor_second": BATCHES[kind] / run["processor_seconds"],
        }
        for kind, run in best.items()
    ]


def _batch(ours: Contender, server: psutil.Process, kind: str, body: bytes) -> dict[str, float]:
    start, processor = time.perf_counter(), _processor_seconds(server)
    with httpx.stream(
        "POST",
        f"{ours.address}/predict/batch",
        content=body,
        headers={"Content-Type": MEDIA_TYPES[kind]},
        timeout=300,
    ) as answer:
        size = sum(len(part) for part in answer.iter_bytes())
    if answer.status_code != 200 or not size:
        sys.exit(f"a batch in {kind} was answered with {answer.status_code}")
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": _processor_seconds(server) - processor,
    }


def _processor_seconds(server: psutil.Process) -> float:
    return sum(sum(p.cpu_times()[:2]) for p in (server, *server.children(recursive=True)))


def beside_a_batch(ours: Contender, server: psutil.Process, served: ServedModel) -> Load:
    """Single requests, 100 a second, while Parquet batches run."""
    body = batch_bodies(served)["Parquet"]
    done: list[Load] = []

    def singles() -> None:
        done.append(open_loop(ours.port, ours.path, ours.bodies, 5, BESIDE_RATE))

    thread = Thread(target=singles)
    thread.start()
    while thread.is_alive():
        _batch(ours, server, "Parquet", body)
    thread.join()
    return done[0]


def beside_swaps(ours: Contender, root: Path, seconds: float) -> Load:
    """Single requests, 500 a second, while the model is swapped and a report on drift is made."""
    done: list[Load] = []

    def singles() -> None:
        done.append(open_loop(ours.port, ours.path, ours.bodies, seconds, OPEN_RATE))

    def report() -> None:
        # It has read the champion's reference when the next swap comes.
        httpx.post(f"{ours.address}/monitoring/drift", json={"days": 1}, timeout=120).raise_for_status()

    threads = [Thread(target=singles), Thread(target=report)]
    for thread in threads:
        thread.start()
    threads[0].join(SWAP_SECONDS)
    version = 2
    while threads[0].is_alive():
        served = swap(root, version, ours.address)
        if not served.endswith(f"_v{version}"):
            sys.exit(f"after a swap to version {version}, {served} serves")
        version += 1
        threads[0].join(SWAP_SECONDS)
    threads[1].join()
    return done[0]


def sync_milliseconds(folder: Path) -> dict[str, float]:
    """What the disk takes to make 4 KiB durable: no answer can come before one of these."""
    taken = []
    with (folder / "synced").open("wb") as file:
        for _ in range(200):
            file.write(bytes(4096))
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(1000 * (time.perf_counter() - start))
    return {"p50": statistics.median(taken), "p99": sorted(taken)[-2]}


def median(loads: list[Load]) -> Load:
    """Each figure's median over the rounds."""
    return Load(
        *(statistics.median(getattr(load, name) for load in loads) for name in ("rate", "p50", "p99")),
        wrong=sum(load.wrong for load in loads),
    )


def tables(report: dict[str, Any]) -> str:
    """Write the results as Markdown."""
    single = report["single"]
    ours = single[OURS]["rate"]
    lines = ["| server | req/s | p50, ms | p99, ms | the service is | aim |", "|---|---|---|---|---|---|"]
    for name, load in single.items():
        ratio = "" if name == OURS else f"{ours / load['rate']:.2f} x"
        aim = f">= {RATIOS[name]:g}" if name in RATIOS else ""
        lines.append(
            f"| {name} | {load['rate']:,.0f} | {load['p50']:.2f} | {load['p99']:.2f} | {ratio} | {aim} |"
        )
    lines += ["", "| requests to the service | req/s | p50, ms | p99, ms |", "|---|---|---|---|"]
    for name in ("open loop", "beside a batch", "beside swaps"):
        load = report[name.replace(" ", "_")]
        lines.append(f"| {name} | {load['rate']:,.0f} | {load['p50']:.2f} | {load['p99']:.2f} |")
    lines += [
        "",
        "| batch | rows | rows/s | rows per processor second | aim, rows/s |",
        "|---|---|---|---|---|",
    ]
    for found in report["batches"]:
        aim = LEAST_ROWS.get(found["format"])
        lines.append(
            f"| {found['format']} | {found['rows']:,} | {found['rows_per_second']:,.0f} "
            f"| {found['rows_per_processor_second']:,.0f} | {f'{aim:,}' if aim else ''} |"
        )
    return "\n".join(lines)


def missed(report: dict[str, Any]) -> list[str]:
    """Name the aims that were not reached."""
    single = report["single"]
    found = []
    for name, aim in RATIOS.items():
        ratio = single[OURS]["rate"] / single[name]["rate"]
        if ratio < aim:
            found.append(f"{ratio:.2f} of {name}, aim {aim:g}")
    for name, most in MOST_P99.items():
        p99 = single[OURS]["p99"] if name == "single" else report[name]["p99"]
        if p99 > most:
            found.append(f"p99 of {p99:.1f} ms ({name.replace('_', ' ')}), aim {most:g}")
    for batch in report["batches"]:
        aim = LEAST_ROWS.get(batch["format"], 0)
        if batch["rows_per_second"] < aim:
            found.append(f"{batch['rows_per_second']:,.0f} rows/s in {batch['format']}, aim {aim:,}")
    return found


def _machine() -> dict[str, Any]:
    packages = ("bentoml", "fastapi", "mlflow", "onnxruntime", "pyarrow", "uvicorn")
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def main() -> None:
    """Serve, ask, print the tables and write the JSON file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of load on each server in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for every figure")
    chosen = parser.parse_args()
    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as servers:
        root, folder = Path(scratch, "root"), Path(scratch)
        print("fitting the model ...", file=sys.stderr)
        served = make_model(root, max(BATCHES.values()))
        entrants = contenders(served, root, folder)
        processes = [servers.enter_context(running(contender, folder)) for contender in entrants]
        rounds = single_requests(entrants, chosen.rounds, chosen.seconds)
        ours, server = entrants[0], processes[0]
        print("open loop ...", file=sys.stderr)
        opened = open_loop(ours.port, ours.path, ours.bodies, chosen.seconds, OPEN_RATE)
        print("batches ...", file=sys.stderr)
        report = {
            "machine": _machine(),
            "load_average": {"before": load_before, "after": os.getloadavg()},
            "sync": sync_milliseconds(folder),
            "single": {name: asdict(median(loads)) for name, loads in rounds.items()},
            "rounds": {name: [asdict(load) for load in loads] for name, loads in rounds.items()},
            "open_loop": asdict(opened),
            "batches": batches(ours, server, served, chosen.rounds),
            "beside_a_batch": asdict(beside_a_batch(ours, server, served)),
            "beside_swaps": asdict(beside_swaps(ours, root, max(chosen.seconds, 20))),
        }
    report["missed"] = missed(report)
    print(tables(report))
    print()
    before, after = (report["load_average"][when][0] for when in ("before", "after"))
    print(f"Load of the machine: {before:.1f} before, {after:.1f} at the end, on {os.cpu_count()} cores.")
    sync = report["sync"]
    print(f"A sync of the disk: p50 {sync['p50']:.2f} ms, p99 {sync['p99']:.2f} ms.")
    print("Aims missed: " + ("; ".join(report["missed"]) or "none") + ".")
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
