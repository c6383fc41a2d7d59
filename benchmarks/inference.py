"""What a score costs: the libraries, their graphs in onnxruntime, and trees compiled to C, side by side.

``python benchmarks/inference.py [--rows N] [--json PATH]``

Every algorithm is fitted here on simulated rows, with the parameters it has by
default, and calibrated. The same rows are then scored, one at a time, by the
thousand and all 284,807 at once, by

- the library: its scikit-learn interface, as most programs call it, and its own
  quicker call where it has one,
- onnxruntime with the exported graph and its default options on as many threads,
- onnxruntime with the exported graph as the scorer runs it: a session on one
  thread, and large batches split over threads,
- the same trees compiled to C by treelite and tl2cgen, if those are installed
  (``pip install treelite tl2cgen``; they need a C compiler).

The contenders take turns, and the best of their rounds counts: what else runs on
the machine then hits all of them. A contender whose probabilities are not those
of the native model ends the program with exit code 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnxruntime as ort
import polars as pl
import xgboost
from numpy.typing import NDArray
from scipy.special import expit
from sklearn import config_context

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.model import EnsembleModel, FraudModel, ScoringModel, to_onnx
from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, get_algorithm
from fraud_kedro.champion.scorer import SplitRows, session_options
from fraud_kedro.evaluation.calibration import PlattCalibration
from fraud_kedro.schema import ResolvedSchema
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.simulator import column_types, simulate

ROWS = 284_807
FITTED_ROWS = 100_000
SINGLE_ROWS = 500
BATCH = 1_000
ROUNDS = 5
LARGE_ROUNDS = 3
TOLERANCE = 1e-5
SEED = 1
CALIBRATION = PlattCalibration(slope=0.9, intercept=-0.1)

# What the figures should be; the table says where they are not.
SINGLE_TIMES_FASTER = 20.0
SINGLE_MICROSECONDS = 15.0
BATCH_TIMES_FASTER = 1.5

LIBRARY, QUICK_CALL = "library, scikit-learn interface", "library, its own call"
EXPORTED, SHIPPED = "onnxruntime, default options", "onnxruntime, as the scorer"
COMPILED = "compiled trees (tl2cgen)"

Scores = NDArray[np.floating[Any]]
Score = Callable[[NDArray[np.float32]], Scores]


@dataclass(frozen=True)
class Contender:
    """One way to score; `expected` is what it should give for rows, if not calibrated probabilities."""

    name: str
    score: Score
    expected: Score
    threads: int


def drawn_table(rows: int) -> tuple[ResolvedSchema, NDArray[np.float32], NDArray[np.int8]]:
    """Simulated rows as a model reads them, and their labels."""
    table = pl.concat(list(simulate(SimulationOptions(rows=rows, seed=SEED))))
    features = tuple(name for name in column_types() if name != "Class")
    schema = ResolvedSchema(
        time="Time", time_use="hour_of_day", amount="Amount", label="Class", features=features
    )
    matrix = schema.model_matrix(table.select(features).to_numpy())
    return schema, matrix, table["Class"].to_numpy().astype(np.int8)


def fitted_models(schema: ResolvedSchema, data: LabelledMatrix) -> dict[str, ScoringModel]:
    """Every algorithm with its default parameters, and the ensemble of them."""
    models: dict[str, ScoringModel] = {}
    for name in ALGORITHM_NAMES:
        print(f"fitting {name} ...", file=sys.stderr)
        estimator = get_algorithm(name).fit(data, {}, seed=SEED, n_jobs=2)
        models[name] = FraudModel(name, estimator, CALIBRATION, schema)
    members = tuple(model for model in models.values() if isinstance(model, FraudModel))
    models["ensemble"] = EnsembleModel(members, CALIBRATION)
    return models


def contenders(model: ScoringModel, data: LabelledMatrix, threads: int, folder: Path) -> Iterator[Contender]:
    """Every way to score a model on so many threads."""
    if isinstance(model, EnsembleModel):
        yield Contender("the members' libraries", model.probability, model.probability, threads)
    elif isinstance(model, FraudModel):
        yield from native(model, data, threads)
    graph = to_onnx(model).SerializeToString(deterministic=True)
    exported = ort.SessionOptions()
    exported.intra_op_num_threads = threads
    yield Contender(EXPORTED, scored_by(graph, exported), model.probability, threads)
    shipped = scored_by(graph, session_options())
    yield Contender(
        SHIPPED, shipped if threads == 1 else SplitRows(shipped, threads), model.probability, threads
    )
    if isinstance(model, FraudModel) and model.tree_ensembles():
        yield from compiled(model, threads, folder)


def scored_by(graph: bytes, options: ort.SessionOptions) -> Score:
    """Score with a session of these options."""
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    run = session.run
    return lambda rows: np.asarray(run(["probability"], {"features": rows})[0])


def uncalibrated(model: FraudModel) -> Score:
    """The probability as the library itself gives it."""
    if model.algorithm in ("lightgbm", "xgboost"):
        return lambda rows: expit(get_algorithm(model.algorithm).log_odds(model.estimator, rows))

    def shares(rows: NDArray[np.float32]) -> Scores:
        # The project's log-odds of a forest are of smoothed shares.
        with config_context(assume_finite=True):
            return np.asarray(model.estimator.predict_proba(rows)[:, 1])

    return shares


def native(model: FraudModel, data: LabelledMatrix, threads: int) -> Iterator[Contender]:
    """The library's calls; each is compared with its own algorithm's uncalibrated probability."""
    estimator, probability = model.estimator, uncalibrated(model)
    if model.algorithm == "lightgbm":
        booster: lightgbm.Booster = estimator
        # Its scikit-learn class takes no booster, but goes on from one: a round more, of no weight.
        few = np.flatnonzero(np.arange(len(data)) % 50 == 0)
        classifier = lightgbm.LGBMClassifier(
            n_estimators=1, learning_rate=1e-12, n_jobs=threads, verbosity=-1, min_child_samples=1
        ).fit(data.features[few], data.labels[few], init_model=booster)
        yield Contender(
            LIBRARY, lambda rows: np.asarray(classifier.predict_proba(rows))[:, 1], probability, threads
        )
        yield Contender(
            QUICK_CALL,
            lambda rows: np.asarray(booster.predict(rows, num_threads=threads)),
            probability,
            threads,
        )
    elif model.algorithm == "xgboost":
        own: xgboost.Booster = estimator
        own.set_param({"nthread": threads})
        wrapped = xgboost.XGBClassifier(n_jobs=threads)
        wrapped.load_model(own.save_raw("ubj"))
        yield Contender(LIBRARY, lambda rows: wrapped.predict_proba(rows)[:, 1], probability, threads)
        yield Contender(QUICK_CALL, lambda rows: np.asarray(own.inplace_predict(rows)), probability, threads)
    else:
        if hasattr(estimator, "n_jobs"):
            estimator.n_jobs = threads

        yield Contender(
            LIBRARY, lambda rows: np.asarray(estimator.predict_proba(rows))[:, 1], probability, threads
        )


def compiled(model: FraudModel, threads: int, folder: Path) -> Iterator[Contender]:
    """The trees as C, compiled once for all numbers of threads."""
    if not has_compiler():
        return
    import tl2cgen
    import treelite

    estimator = model.estimator
    library = folder / f"{model.algorithm}.so"
    if not library.exists():
        print(f"compiling {model.algorithm} ...", file=sys.stderr)
        trees = {
            "lightgbm": treelite.frontend.from_lightgbm,
            "xgboost": treelite.frontend.from_xgboost,
            "random_forest": treelite.sklearn.import_model,
        }[model.algorithm](estimator)
        tl2cgen.export_lib(
            trees, toolchain="gcc", libpath=str(library), params={"parallel_comp": 8}, verbose=False
        )
    predictor = tl2cgen.Predictor(str(library), nthread=threads)

    def score(rows: NDArray[np.float32]) -> Scores:
        return np.asarray(predictor.predict(tl2cgen.DMatrix(rows)))[:, 0, -1]

    yield Contender(COMPILED, score, uncalibrated(model), threads)


def has_compiler() -> bool:
    """Whether trees can be compiled here."""
    packages = all(importlib.util.find_spec(name) is not None for name in ("treelite", "tl2cgen"))
    return packages and shutil.which("gcc") is not None


def measure(model: ScoringModel, data: LabelledMatrix, folder: Path) -> list[dict[str, Any]]:
    """Every contender on every size of batch, on one thread and on two."""
    results = []
    for threads in (1, 2):
        ways = list(contenders(model, data, threads, folder))
        for way in ways:
            check(model.algorithm, way, data.features[:20_000])
        sizes = (1, BATCH, len(data)) if threads == 1 else (BATCH, len(data))
        for size in sizes:
            seconds = side_by_side(ways, data.features, size)
            for way in ways:
                wall, processor = seconds[way.name]
                results.append(
                    {
                        "algorithm": model.algorithm,
                        "contender": way.name,
                        "threads": way.threads,
                        "rows": size,
                        "seconds": wall,
                        "processor_seconds": processor,
                    }
                )
    return results


def check(algorithm: str, way: Contender, rows: NDArray[np.float32]) -> None:
    """End the program if a contender does not score as the native model does."""
    difference = float(np.abs(way.score(rows) - way.expected(rows)).max())
    if not difference <= TOLERANCE:
        sys.exit(f"{algorithm}: {way.name} is {difference:.2g} away from the native model")


def side_by_side(
    ways: list[Contender], rows: NDArray[np.float32], size: int
) -> dict[str, tuple[float, float]]:
    """Seconds of one call by the clock and by the processor: the best of rounds in which all take turns."""
    best: dict[str, tuple[float, float]] = {}
    for _ in range(LARGE_ROUNDS if size > BATCH else ROUNDS):
        for way in ways:
            found = _single(way, rows) if size == 1 else _batch(way, rows, size)
            before = best.get(way.name, (np.inf, np.inf))
            best[way.name] = (min(found[0], before[0]), min(found[1], before[1]))
    return best


def _single(way: Contender, rows: NDArray[np.float32]) -> tuple[float, float]:
    """Median by the clock and mean by the processor of calls with one row each, all different."""
    calls = SINGLE_ROWS if way.name != LIBRARY and "libraries" not in way.name else SINGLE_ROWS // 10
    parts = [rows[[index]] for index in range(calls)]
    for part in parts[:20]:
        way.score(part)
    seconds = []
    processor = time.process_time()
    for part in parts:
        start = time.perf_counter()
        way.score(part)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)), (time.process_time() - processor) / calls


def _batch(way: Contender, rows: NDArray[np.float32], size: int) -> tuple[float, float]:
    part = rows[:size]
    start, processor = time.perf_counter(), time.process_time()
    way.score(part)
    return time.perf_counter() - start, time.process_time() - processor


def measure_options(model: ScoringModel, rows: NDArray[np.float32]) -> list[dict[str, Any]]:
    """The scorer's session options, and each of them changed."""
    graph = to_onnx(model).SerializeToString(deterministic=True)
    variants: dict[str, Callable[[ort.SessionOptions], Any]] = {
        "as the scorer": lambda options: None,
        "no memory pattern": lambda options: setattr(options, "enable_mem_pattern", False),
        "no memory arena": lambda options: setattr(options, "enable_cpu_mem_arena", False),
        "no graph optimisation": lambda options: setattr(
            options, "graph_optimization_level", ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        ),
        "two threads": lambda options: setattr(options, "intra_op_num_threads", 2),
        "two threads, no spinning": _two_quiet_threads,
    }
    ways = []
    for name, change in variants.items():
        options = session_options()
        change(options)
        ways.append(Contender(name, scored_by(graph, options), model.probability, 1))
    seconds = side_by_side(ways, rows, 1)
    return [
        {"options": name, "seconds": wall, "processor_seconds": processor}
        for name, (wall, processor) in seconds.items()
    ]


def _two_quiet_threads(options: ort.SessionOptions) -> None:
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")


def tables(results: list[dict[str, Any]], options: list[dict[str, Any]]) -> str:
    """Write the results as Markdown."""
    lines = [
        "| algorithm | contender | threads | one row, µs | 1,000 rows, ms | all rows, s | processor, s |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((r["algorithm"], r["contender"], r["threads"]) for r in results)
    cell = {(r["algorithm"], r["contender"], r["threads"], _size(r)): r for r in results}
    for algorithm, contender, threads in keys:
        single, batch, large = (
            cell.get((algorithm, contender, threads, s)) for s in ("single", "batch", "all")
        )
        figures = (
            _figure(single, "seconds", 1e6, 1),
            _figure(batch, "seconds", 1e3, 2),
            _figure(large, "seconds", 1, 2),
            _figure(large, "processor_seconds", 1, 2),
        )
        lines.append(f"| {algorithm} | {contender} | {threads} | {' | '.join(figures)} |")
    lines += ["", "| session options, one row | µs | processor, µs |", "|---|---|---|"]
    lines += [
        f"| {o['options']} | {1e6 * o['seconds']:.1f} | {1e6 * o['processor_seconds']:.1f} |" for o in options
    ]
    return "\n".join(lines)


def _figure(result: dict[str, Any] | None, key: str, scale: float, digits: int) -> str:
    return "" if result is None else f"{scale * result[key]:.{digits}f}"


def _size(result: dict[str, Any]) -> str:
    return {1: "single", BATCH: "batch"}.get(result["rows"], "all")


def ratios(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many times faster the shipped graph is than each call of the library, by the processor's clock."""
    found = []
    for shipped in (r for r in results if r["contender"] == SHIPPED):
        for other in results:
            same = all(shipped[key] == other[key] for key in ("algorithm", "threads", "rows"))
            if same and other["contender"] != SHIPPED:
                ratio = other["processor_seconds"] / shipped["processor_seconds"]
                wall = other["seconds"] / shipped["seconds"]
                keys = ("algorithm", "threads", "rows")
                found.append(
                    {**{key: shipped[key] for key in keys}, "against": other["contender"]}
                    | {"times_faster": wall, "times_less_processor_time": ratio}
                )
    return found


def aims(results: list[dict[str, Any]], against: list[dict[str, Any]]) -> str:
    """Say for each model and aim what was reached."""
    lines = [
        f"| algorithm | one row against {LIBRARY} (aim {SINGLE_TIMES_FASTER:g}) | one row, µs "
        f"(aim at most {SINGLE_MICROSECONDS:g}) | all rows against the library's fastest call, one thread "
        f"(aim {BATCH_TIMES_FASTER:g}) | the same on two threads |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(r["algorithm"] for r in results):
        own = [r for r in against if r["algorithm"] == name and r["against"] not in (COMPILED, EXPORTED)]
        single = max(r["times_faster"] for r in own if r["rows"] == 1)
        microseconds = 1e6 * next(
            r["seconds"] for r in results if (r["algorithm"], r["contender"], r["rows"]) == (name, SHIPPED, 1)
        )
        # By the processor's clock: another program's turn is nobody's fault.
        one, two = (
            min(r["times_less_processor_time"] for r in own if r["rows"] > BATCH and r["threads"] == threads)
            for threads in (1, 2)
        )
        lines.append(f"| {name} | {single:.0f} | {microseconds:.1f} | {one:.2f} | {two:.2f} |")
    return "\n".join(lines)


def _machine() -> dict[str, Any]:
    packages = ("numpy", "onnxruntime", "lightgbm", "scikit-learn", "xgboost-cpu", "treelite", "tl2cgen")
    versions = {name: version(name) for name in packages if _installed(name)}
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **versions,
    }


def _installed(name: str) -> bool:
    try:
        version(name)
    except ImportError:
        return False
    return True


def main() -> None:
    """Fit, measure every contender, print the tables and write the JSON file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the largest batch")
    parser.add_argument("--json", type=Path, help="file for every figure")
    chosen = parser.parse_args()
    schema, features, labels = drawn_table(chosen.rows)
    data = LabelledMatrix(features, labels, np.ones(len(labels)))
    models = fitted_models(schema, data.take(np.arange(min(FITTED_ROWS, len(data)))))
    if not has_compiler():
        print("compiled trees: treelite, tl2cgen or gcc not installed", file=sys.stderr)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            print(f"measuring {name} ...", file=sys.stderr)
            results += measure(model, data, Path(folder))
    options = measure_options(models["lightgbm"], features)
    against = ratios(results)
    print(tables(results, options))
    print()
    print(aims(results, against))
    if chosen.json:
        report = {"machine": _machine(), "results": results, "options": options, "ratios": against}
        chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
