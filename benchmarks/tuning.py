"""The search for parameters, beside the tutorial's way and an AutoML tool.

``python benchmarks/tuning.py [--table PATH] [--rows N] [--seconds S] [--repetitions N] [--json PATH]``

Three programs get the same rows, the same cores and the same seconds:

- ``this project``: what `kedro run --pipeline=tuning` does, without MLflow, and the
  choice of the training pipeline among the best of each study and their ensemble.
- ``baseline: cross_val_score``: an Optuna study per algorithm over the same
  spaces, whose objective is `cross_val_score` over five folds of a scikit-learn
  estimator, with Optuna's sampler as it comes. A fifth of a trial cannot be
  stopped, so it overruns.
- ``baseline: FLAML``, if it is installed (``pip install flaml``; the project does
  not need it and its lock does not have it).

Each has a process of its own. Whenever a program had found something better by
its own judgement, that model is fitted on all rows of the search and judged on
rows no program has seen, after the search and outside of its time: of a given
table a random 30 % of each class, beside a simulated one 150,000 rows more, drawn
anew in each repetition.

Average precision is weighted where the table has weights. The other programs'
own judgement knows no weights; fits of `cross_val_score` have those the space chooses.

Beside the JSON file lies a page with the curves.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_kedro.algorithms.base import LabelledMatrix, Parameters
from fraud_kedro.algorithms.registry import get_algorithm
from fraud_kedro.evaluation.bootstrap import bootstrap, interval
from fraud_kedro.evaluation.measures import ranking
from fraud_kedro.evaluation.metrics import ScoredRows, average_precision
from fraud_kedro.evaluation.selection import PairedFigures, harmful_members, paired_figures
from fraud_kedro.pipelines.model_input import labelled_matrix
from fraud_kedro.schema import ResolvedSchema, TransactionSchema

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "benchmarks" / "results" / "tuning.json"
OURS, PLAIN, AUTOML = "this project", "baseline: cross_val_score", "baseline: FLAML"

_JUDGED_SHARE, _JUDGED_ROWS = 0.3, 150_000
_SEED = 1
_RESAMPLES = 200
_FIGURE = "average_precision"
_HELD_OUT = 0.25
_PLAIN_FOLDS = 5
# No program ends by it.
_ENDLESS = 1_000_000


@dataclass(frozen=True)
class Found:
    """A model that was the best so far.

    Attributes
    ----------
    seconds : float
        After the start of the search.
    own_value : float
        What the program itself took it to be worth.
    what : str
    score : callable
        Fits it on all rows of the search and scores others.
    """

    seconds: float
    own_value: float
    what: str
    score: Callable[[NDArray[np.float32]], NDArray[np.float64]]


@dataclass(frozen=True)
class Task:
    """What each program gets."""

    frame: pl.DataFrame
    schema: ResolvedSchema
    seconds: float
    threads: int
    seed: int

    def rows(self) -> LabelledMatrix:
        """The rows to search on."""
        return labelled_matrix(self.frame, self.schema)


Program = Callable[[Task, Path], tuple[float, list[Found]]]


def search_ours(task: Task, folder: Path) -> tuple[float, list[Found]]:
    """Tune every algorithm as the pipeline does, then choose among the best and their ensemble."""
    from fraud_kedro.algorithms.registry import ALGORITHM_NAMES
    from fraud_kedro.evaluation.thresholds import ExpectedCost, ThresholdPolicy
    from fraud_kedro.pipelines.data_processing.splits import SplitOptions
    from fraud_kedro.pipelines.tuning.nodes import draw_search_rows
    from fraud_kedro.pipelines.tuning.options import SearchBudget, TotalBudget, TuningOptions
    from fraud_kedro.pipelines.tuning.study import Search
    from fraud_kedro.pipelines.tuning.trial import parameters_of

    started = time.time()
    options = TuningOptions(
        storage=f"sqlite:///{folder / 'studies.db'}",
        n_jobs=task.threads,
        budget=TotalBudget(seconds=task.seconds),
    )
    split = SplitOptions.model_validate({"kind": "stratified"})
    rows = draw_search_rows(task.frame, task.schema, split, options, task.seed)
    tried: list[tuple[float, float, str, Parameters]] = []
    for name in ALGORITHM_NAMES:
        budget = SearchBudget(trials=_ENDLESS)
        policy = ThresholdPolicy(ExpectedCost())
        study = Search(get_algorithm(name), rows, options, policy, budget, task.seed).run()
        tried += [
            (trial.datetime_complete.timestamp() - started, trial.value, name, parameters_of(trial))
            for trial in study.trials
            if trial.value is not None and trial.state.name == "COMPLETE"
        ]
    everything = task.rows()
    # The last of an algorithm is its best.
    best = {name: parameters for _, _, name, parameters in sorted(tried, key=lambda trial: trial[1])}
    chosen = choose(best, everything, task)
    seconds = time.time() - started

    def scorer(name: str, parameters: dict[str, Any]) -> Callable[..., NDArray[np.float64]]:
        def score(features: NDArray[np.float32]) -> NDArray[np.float64]:
            algorithm = get_algorithm(name)
            fitted = algorithm.fit(everything, parameters, seed=task.seed, n_jobs=task.threads)
            return algorithm.log_odds(fitted, features)

        return score

    ordered = sorted(tried, key=lambda trial: trial[0])
    found = [Found(at, value, name, scorer(name, parameters)) for at, value, name, parameters in ordered]
    members = [scorer(name, parameters) for name, parameters in chosen.items()]
    value = max(value for _, value, name, _ in tried if name in chosen)
    what = " and ".join(chosen)
    last = Found(
        seconds, value, what, lambda features: np.mean([score(features) for score in members], axis=0)
    )
    return seconds, [*better_and_better(found), last]


def choose(best: Mapping[str, Parameters], rows: LabelledMatrix, task: Task) -> dict[str, Parameters]:
    """Choose the ensemble or one of its members on held-out rows, as the training pipeline does."""
    generator = np.random.default_rng(task.seed)
    held_out = np.zeros(len(rows), dtype=bool)
    for label in (0, 1):
        members = np.flatnonzero(rows.labels == label)
        held_out[generator.choice(members, round(len(members) * _HELD_OUT), replace=False)] = True
    seen, judged = rows.take(np.flatnonzero(~held_out)), rows.take(np.flatnonzero(held_out))
    scores = {}
    for name, parameters in best.items():
        algorithm = get_algorithm(name)
        fitted = algorithm.fit(seen, parameters, seed=task.seed, n_jobs=task.threads)
        scores[name] = algorithm.log_odds(fitted, judged.features)
    harmful = harmful_members(
        scores, judged.labels, judged.weights, _FIGURE, repetitions=_RESAMPLES, seed=task.seed
    )
    kept = {name: parameters for name, parameters in best.items() if name not in harmful}
    mean = np.mean([scores[name] for name in kept], axis=0)
    figures = _compared({**scores, "mean": mean}, judged)
    first = max(scores, key=lambda name: figures.values[name])
    return {first: best[first]} if figures.lead(first, "mean").is_clear else kept


def search_plainly(task: Task, folder: Path) -> tuple[float, list[Found]]:
    """Tune every algorithm as tutorials do."""
    import optuna
    from sklearn.base import clone
    from sklearn.model_selection import cross_val_score

    from fraud_kedro.algorithms.parameters import fit_weights
    from fraud_kedro.algorithms.registry import ALGORITHM_NAMES, get_algorithm

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = task.rows()
    started = time.perf_counter()
    found: list[Found] = []
    for position, name in enumerate(ALGORITHM_NAMES):

        def objective(trial: optuna.Trial, name: str = name) -> float:
            parameters = get_algorithm(name).suggest(trial)
            weights = fit_weights(rows, parameters.pop("fit_weights"))
            estimator, prefix = scikit_learn_estimator(name, parameters, task.seed, task.threads)
            fit_parameters = {f"{prefix}sample_weight": weights}
            value = cross_val_score(
                estimator,
                rows.features,
                rows.labels,
                cv=_PLAIN_FOLDS,
                scoring="average_precision",
                params=fit_parameters,
            ).mean()

            def score(features: NDArray[np.float32]) -> NDArray[np.float64]:
                fitted = clone(estimator).fit(rows.features, rows.labels, **fit_parameters)
                return np.asarray(fitted.predict_proba(features)[:, 1], dtype=np.float64)

            found.append(Found(time.perf_counter() - started, float(value), name, score))
            return float(value)

        left = task.seconds - (time.perf_counter() - started)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=task.seed))
        # At least one trial each, as in the other program.
        study.optimize(
            objective, n_trials=_ENDLESS, timeout=max(1.0, left / (len(ALGORITHM_NAMES) - position))
        )
    return time.perf_counter() - started, better_and_better(found)


def scikit_learn_estimator(name: str, parameters: dict[str, Any], seed: int, threads: int) -> tuple[Any, str]:
    """An estimator with the names scikit-learn's interfaces use, and the prefix of its fit's arguments."""
    if name == "lightgbm":
        from lightgbm import LGBMClassifier

        names = {
            "num_boost_round": "n_estimators",
            "min_data_in_leaf": "min_child_samples",
            "min_sum_hessian_in_leaf": "min_child_weight",
            "lambda_l2": "reg_lambda",
            "feature_fraction": "colsample_bytree",
            "bagging_fraction": "subsample",
        }
        renamed = {names.get(key, key): value for key, value in parameters.items()}
        return LGBMClassifier(
            **renamed, subsample_freq=1, random_state=seed, n_jobs=threads, verbosity=-1
        ), ""
    if name == "xgboost":
        from xgboost import XGBClassifier

        renamed = {"n_estimators": parameters["num_boost_round"], **parameters}
        del renamed["num_boost_round"]
        return XGBClassifier(**renamed, random_state=seed, n_jobs=threads), ""
    balance = {"class_weight": None if parameters["class_weight"] == "none" else parameters["class_weight"]}
    if name == "random_forest":
        from sklearn.ensemble import RandomForestClassifier

        settings = {**parameters, **balance}
        return RandomForestClassifier(**settings, random_state=seed, n_jobs=threads), ""
    if name == "logistic_regression":
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        classifier = LogisticRegression(C=parameters["C"], max_iter=1000, **balance)
        return make_pipeline(StandardScaler(), classifier), "logisticregression__"
    raise SystemExit(f"{name} is a new algorithm: tell benchmarks/tuning.py its scikit-learn estimator.")


def search_by_flaml(task: Task, folder: Path) -> tuple[float, list[Found]]:
    """Let FLAML choose library and parameters."""
    from flaml import AutoML

    rows = task.rows()
    log = folder / "flaml.log"
    automl = AutoML()
    started = time.perf_counter()
    automl.fit(
        rows.features,
        rows.labels,
        task="classification",
        metric="ap",
        time_budget=task.seconds,
        n_jobs=task.threads,
        seed=task.seed,
        log_file_name=str(log),
        verbose=0,
    )
    seconds = time.perf_counter() - started
    records = [record for line in log.read_text().splitlines() if "record_id" in (record := json.loads(line))]

    def scorer(record: dict[str, Any]) -> Callable[..., NDArray[np.float64]]:
        def score(features: NDArray[np.float32]) -> NDArray[np.float64]:
            model = automl
            # The last one it has fitted itself.
            if record is not records[-1]:
                model = AutoML()
                model.retrain_from_log(
                    str(log),
                    rows.features,
                    rows.labels,
                    task="classification",
                    record_id=record["record_id"],
                    train_full=True,
                    n_jobs=task.threads,
                )
            return np.asarray(model.predict_proba(features)[:, 1], dtype=np.float64)

        return score

    found = [
        Found(record["wall_clock_time"], 1 - record["validation_loss"], record["learner"], scorer(record))
        for record in records
    ]
    return seconds, found


PROGRAMS: dict[str, Program] = {OURS: search_ours, PLAIN: search_plainly, AUTOML: search_by_flaml}


def better_and_better(found: Sequence[Found]) -> list[Found]:
    """Those that were the best so far, by the program's own judgement."""
    best: list[Found] = []
    for one in found:
        if not best or one.own_value > best[-1].own_value:
            best.append(one)
    return best


def measure_here(name: str, task: Task, judged: pl.DataFrame, folder: Path) -> None:
    """Run one program in this process; leave its figures and scores in the folder."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    matrix = labelled_matrix(judged, task.schema)
    seconds, found = PROGRAMS[name](task, folder)
    steps, scores = [], []
    for one in found:
        started = time.perf_counter()
        scores.append(one.score(matrix.features))
        steps.append(
            {
                "seconds": one.seconds,
                "own_value": one.own_value,
                "what": one.what,
                "fit_seconds": time.perf_counter() - started,
                "judged": average_precision(ScoredRows(matrix.labels, scores[-1], matrix.weights)),
            }
        )
    np.save(folder / "scores.npy", np.array(scores))
    (folder / "steps.json").write_text(json.dumps({"seconds": seconds, "steps": steps}), encoding="utf-8")


def measure(name: str, work: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Run one program in a fresh process."""
    if name == AUTOML and find_spec("flaml") is None:
        return {"program": name, "failure": "not installed (pip install flaml)"}
    folder = work / str(list(PROGRAMS).index(name))
    folder.mkdir()
    command = [sys.executable, __file__, "--one", name, "--work", str(work), "--target", str(folder)]
    done = subprocess.run(  # noqa: S603
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        last = done.stdout.strip().rsplit("\n", 1)[-1]
        return {"program": name, "failure": f"ended with code {done.returncode}: {last}"}
    found = json.loads((folder / "steps.json").read_text(encoding="utf-8"))
    return {"program": name, **found, "scores": np.load(folder / "scores.npy")}


def step_at(result: dict[str, Any], seconds: float) -> int | None:
    """Number of the model that was the best after so many seconds, None if there was none."""
    reached = [n for n, step in enumerate(result["steps"]) if step["seconds"] <= seconds]
    return reached[-1] if reached else None


def seconds_to(result: dict[str, Any], value: float) -> float | None:
    """When the best model so far was first worth so much on the judged rows, None if never."""
    return next((step["seconds"] for step in result["steps"] if step["judged"] >= value), None)


def compare(results: list[dict[str, Any]], judged: LabelledMatrix) -> dict[str, Any]:
    """What is asked of this project, against each of the others that ran."""
    by_name = {one["program"]: one for one in results if "failure" not in one}
    if OURS not in by_name:
        return {}
    ours = by_name[OURS]

    def difference(step: int, other: dict[str, Any]) -> list[float]:
        scores = {"ours": ours["scores"][step], "other": other["scores"][-1]}
        value, ends = _compared(scores, judged).difference("ours", "other")
        return [value, *(ends or (float("nan"), float("nan")))]

    comparison: dict[str, Any] = {}
    for name in by_name.keys() - {OURS}:
        other = by_name[name]
        comparison[name] = {"at_the_end": difference(len(ours["steps"]) - 1, other)}
        reached = seconds_to(ours, other["steps"][-1]["judged"])
        comparison[name]["share_of_its_time_to_its_final_value"] = reached and reached / other["seconds"]
        tenth = step_at(ours, other["seconds"] / 10)
        comparison[name]["after_a_tenth_of_its_time"] = None if tenth is None else difference(tenth, other)
    return comparison


def _compared(scores: Mapping[str, NDArray[np.float64]], rows: LabelledMatrix) -> PairedFigures:
    scored = {name: _scored(rows, each) for name, each in scores.items()}
    measured = {name: (each, ranking(each)) for name, each in scored.items()}
    return paired_figures(measured, _FIGURE, repetitions=_RESAMPLES, seed=_SEED)


def _scored(judged: LabelledMatrix, scores: NDArray[np.float64]) -> ScoredRows:
    return ScoredRows(judged.labels, scores, judged.weights)


def measure_repetition(
    frame: pl.DataFrame, schema: ResolvedSchema, seed: int, chosen: argparse.Namespace
) -> dict[str, Any]:
    """Draw the judged rows and run every program on the others."""
    fraud = frame[schema.label].to_numpy() == 1
    generator = np.random.default_rng(seed)
    is_judged = np.zeros(frame.height, dtype=bool)
    share = _JUDGED_SHARE if chosen.table else _JUDGED_ROWS / (chosen.rows + _JUDGED_ROWS)
    for rows in (np.flatnonzero(fraud), np.flatnonzero(~fraud)):
        is_judged[generator.choice(rows, round(len(rows) * share), replace=False)] = True
    parts = {"search": frame.filter(~is_judged), "judged": frame.filter(is_judged)}
    judged = labelled_matrix(parts["judged"], schema)
    with tempfile.TemporaryDirectory(prefix="fraud-tuning-benchmark-") as scratch:
        work = Path(scratch)
        for name, part in parts.items():
            part.write_parquet(work / f"{name}.parquet")
        (work / "schema.json").write_text(schema.model_dump_json(), encoding="utf-8")
        arguments = ["--seconds", str(chosen.seconds), "--threads", str(chosen.threads), "--seed", str(seed)]
        results = []
        for name in PROGRAMS:
            result = measure(name, work, arguments)
            _say(f"{name}: {result.get('failure') or _told(result)}")
            results.append(result)
    comparison = compare(results, judged)
    for result in results:
        if "failure" not in result:
            final = _scored(judged, result.pop("scores")[-1])
            drawn = bootstrap(final, [ranking(final)], repetitions=_RESAMPLES, seed=_SEED)
            result["interval"] = interval(drawn[_FIGURE])
    counts = {
        name: {"rows": part.height, "frauds": int(part[schema.label].sum())} for name, part in parts.items()
    }
    return {"seed": seed, "parts": counts, "results": results, "comparison": comparison}


def _told(result: dict[str, Any]) -> str:
    last = result["steps"][-1]
    return f"{result['seconds']:.0f} s, {last['what']}, {last['judged']:.4f} on the judged rows"


def markdown(repetitions: list[dict[str, Any]]) -> str:
    """Write the results as two tables: the programs, and the comparisons."""
    lines = [
        "| draw | program | seconds | the best | its own value | judged | 95 % interval | its fit, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    compared = [
        "| draw | this project beside | at the end | after a tenth of its time | its value, after |",
        "|---|---|---|---|---|",
    ]
    for number, repetition in enumerate(repetitions, start=1):
        for one in repetition["results"]:
            start = f"| {number} | {one['program']} |"
            if "failure" in one:
                lines.append(f"{start} {one['failure']} | | | | | |")
                continue
            last, (low, high) = one["steps"][-1], one["interval"]
            lines.append(
                f"{start} {one['seconds']:.0f} | {last['what']} | {last['own_value']:.4f} "
                f"| {last['judged']:.4f} | {low:.3f} to {high:.3f} | {last['fit_seconds']:.1f} |"
            )
        for name, found in sorted(repetition["comparison"].items()):
            share = found["share_of_its_time_to_its_final_value"]
            compared.append(
                f"| {number} | {name} | {_difference(found['at_the_end'])} "
                f"| {_difference(found['after_a_tenth_of_its_time'])} "
                f"| {'not reached' if share is None else f'{share:.2f}'} |"
            )
    return "\n".join([*lines, "", *compared])


def _difference(found: Sequence[float] | None) -> str:
    if found is None:
        return "no model yet"
    difference, low, high = found
    return f"{difference:+.4f} ({low:+.3f} to {high:+.3f})"


def curves(repetitions: list[dict[str, Any]]) -> Any:
    """Value on the judged rows against time, a panel for each repetition."""
    import plotly.graph_objects as go  # type: ignore[import-untyped]
    from plotly.subplots import make_subplots  # type: ignore[import-untyped]

    figure = make_subplots(rows=len(repetitions), cols=1, shared_xaxes=True)
    colours = dict(zip(PROGRAMS, ("#1f77b4", "#d62728", "#2ca02c"), strict=True))
    for row, repetition in enumerate(repetitions, start=1):
        for one in repetition["results"]:
            if "failure" in one:
                continue
            steps = one["steps"]
            line = go.Scatter(
                # The last model stays the best until the program ends.
                x=[*(step["seconds"] for step in steps), max(one["seconds"], steps[-1]["seconds"])],
                y=[*(step["judged"] for step in steps), steps[-1]["judged"]],
                text=[*(step["what"] for step in steps), "end"],
                name=one["program"],
                legendgroup=one["program"],
                showlegend=row == 1,
                line={"shape": "hv", "color": colours[one["program"]]},
                mode="lines+markers",
            )
            figure.add_trace(line, row=row, col=1)
    figure.update_xaxes(type="log")
    figure.update_xaxes(title="seconds of search", row=len(repetitions))
    figure.update_yaxes(title="average precision")
    figure.update_layout(
        title="The best model so far, judged on rows no program searched on",
        height=150 + 350 * len(repetitions),
    )
    return figure


def read_table(path: Path | None, rows: int) -> tuple[pl.DataFrame, ResolvedSchema]:
    """Read a table with the roles of the configuration, or draw one."""
    from omegaconf import OmegaConf

    from fraud_kedro.simulation.options import SimulationOptions
    from fraud_kedro.simulation.simulator import simulate

    if path is None:
        frame = pl.concat(simulate(SimulationOptions(rows=rows + _JUDGED_ROWS, seed=_SEED)))
    else:
        frame = pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)
    roles = OmegaConf.load(PROJECT / "conf" / "base" / "parameters_data_processing.yml").schema
    schema = TransactionSchema.model_validate(OmegaConf.to_container(roles)).resolve(frame.columns)
    # None on both sides.
    return frame.unique(maintain_order=True), schema


def _machine() -> dict[str, Any]:
    packages = ["optuna", "scikit-learn", "lightgbm", "numpy"]
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages + ["flaml"] * (find_spec("flaml") is not None)},
    }


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--table", type=Path, help="Parquet or CSV with the configured roles; else simulated")
    parser.add_argument("--rows", type=int, default=60_000, help="to search on, of the simulated table")
    parser.add_argument("--seconds", type=float, default=60, help="of each program's search")
    parser.add_argument("--repetitions", type=int, default=1, help="of the draw of the judged rows")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each program")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file for every figure")
    parser.add_argument("--one", choices=list(PROGRAMS), help=argparse.SUPPRESS)
    for hidden, kind in (("--work", Path), ("--target", Path), ("--seed", int)):
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    return parser


def _here(chosen: argparse.Namespace) -> None:
    schema = ResolvedSchema.model_validate_json((chosen.work / "schema.json").read_text(encoding="utf-8"))
    task = Task(
        pl.read_parquet(chosen.work / "search.parquet"), schema, chosen.seconds, chosen.threads, chosen.seed
    )
    measure_here(chosen.one, task, pl.read_parquet(chosen.work / "judged.parquet"), chosen.target)


def main() -> None:
    """Measure the programs, print the tables, write the JSON file and the page with the curves."""
    chosen = _parser().parse_args()
    if chosen.one is not None:
        _here(chosen)
        return
    frame, schema = read_table(chosen.table, chosen.rows)
    machine = _machine()
    repetitions = [
        measure_repetition(frame, schema, _SEED + number, chosen) for number in range(chosen.repetitions)
    ]
    print(markdown(repetitions))
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    page = chosen.json.with_suffix(".html")
    curves(repetitions).write_html(page, include_plotlyjs=True)
    print(f"\nCurves: {page}")
    report = {
        "machine": machine,
        "seconds": chosen.seconds,
        "threads": chosen.threads,
        "table": "simulated" if chosen.table is None else chosen.table.name,
        "repetitions": repetitions,
    }
    chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    failed = [
        one for r in repetitions for one in r["results"] if "failure" in one and one["program"] != AUTOML
    ]
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
