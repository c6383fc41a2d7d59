"""Simulated against real, side by side.

``python -m fraud_kedro.simulation.fidelity --real PATH [--json OUT] [--page PAGE]``
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fraud_kedro.errors import MissingInputError, SchemaError
from fraud_kedro.simulation import distributions
from fraud_kedro.simulation.command import run
from fraud_kedro.simulation.learnability import WEIGHT_COLUMN, cross_validate, hold_out, models
from fraud_kedro.simulation.options import SimulationOptions
from fraud_kedro.simulation.simulator import column_types, simulate
from fraud_kedro.simulation.statistics import ulb_statistics

AUC_TOLERANCE, AVERAGE_PRECISION_TOLERANCE, QUANTILE_TOLERANCE = 0.03, 0.05, 0.05
_ROWS_PER_CLASS = 50_000
_DISTANCE_LEVELS = (0.1, 0.5, 0.9, 0.99)
_OPENING_MARK, _CLOSING_MARK = "<!-- fidelity -->", "<!-- /fidelity -->"
_CLASSES = {"legitimate": False, "fraud": True}


def read_real(path: Path) -> pl.DataFrame:
    """Read the real rows, Parquet or CSV.

    Raises
    ------
    MissingInputError
        If there is no such file.
    SchemaError
        If a column of the ULB table or ``sample_weight`` is missing.
    """
    if not path.exists():
        raise MissingInputError(
            f"No real rows at {path}: give a Parquet or CSV file of ULB transactions with a {WEIGHT_COLUMN}."
        )
    table = pl.read_csv(path, infer_schema_length=None) if ".csv" in path.suffixes else pl.read_parquet(path)
    missing = [name for name in (*column_types(), WEIGHT_COLUMN) if name not in table.columns]
    if missing:
        raise SchemaError(f"{path} lacks the column(s) {', '.join(missing)}.")
    return table


def simulated(**options: Any) -> pl.DataFrame:
    """Draw a whole table of the given `SimulationOptions`."""
    return pl.concat(simulate(SimulationOptions.parse(**options)))


def compare(
    real: pl.DataFrame,
    names: Collection[str],
    *,
    seeds: Sequence[int],
    repeats: int,
    full_table: bool,
    n_jobs: int,
) -> dict[str, Any]:
    """Measure scores and distributions of simulated and real rows.

    Parameters
    ----------
    real : polars.DataFrame
        A weighted sample of the real table.
    names : collection of str
        The models, of `learnability.models`.
    seeds : sequence of int
        One simulated table of the sample's size and class counts for each.
    repeats : int
        Repetitions of the cross-validation on the real rows; simulated tables
        get one each.
    full_table : bool
        Whether to learn a table of the full size as well.

    Returns
    -------
    dict
        ``scores``, ``quantiles``, ``hours``, ``correlations``, ``distances`` and,
        if asked for, ``full_table``: what the JSON file holds.
    """
    frauds = int(real[ulb_statistics().label_column].sum())
    size = {"rows": real.height, "frauds": frauds, "duplicates": 0}
    tables = [simulated(seed=seed, **size) for seed in seeds]
    return {
        "scores": _scores(real, tables, names, repeats=repeats, n_jobs=n_jobs),
        **_distributions(real, simulated(rows=2 * _ROWS_PER_CLASS, frauds=_ROWS_PER_CLASS, duplicates=0)),
        "distances": {
            name: {
                "levels": _DISTANCE_LEVELS,
                "real": _distances([real], of_fraud=of_fraud),
                "simulated": _distances(tables, of_fraud=of_fraud),
            }
            for name, of_fraud in _CLASSES.items()
        },
        "full_table": _full_table(names, n_jobs) if full_table else None,
        "seeds": list(seeds),
    }


def _scores(
    real: pl.DataFrame,
    tables: Sequence[pl.DataFrame],
    names: Collection[str],
    *,
    repeats: int,
    n_jobs: int,
) -> dict[str, dict[str, Any]]:
    on_real = cross_validate(real, names, repeats=repeats, seed=0, n_jobs=n_jobs)
    runs = [
        cross_validate(table, names, repeats=1, seed=seed, n_jobs=n_jobs) for seed, table in enumerate(tables)
    ]
    scores = {}
    for name, figures in on_real.items():
        found = np.array([run[name] for run in runs])
        mean = found.mean(axis=0)
        auc, average_precision = np.abs(mean - figures)
        scores[name] = {
            "real": figures,
            "simulated": mean.tolist(),
            "standard_error": (found.std(axis=0, ddof=1) / np.sqrt(len(found))).tolist(),
            "within": bool(auc <= AUC_TOLERANCE and average_precision <= AVERAGE_PRECISION_TOLERANCE),
        }
    return scores


def _distributions(real: pl.DataFrame, table: pl.DataFrame) -> dict[str, Any]:
    quantiles, hours, correlations = {}, {}, {}
    for name, of_fraud in _CLASSES.items():
        quantiles[name] = distributions.quantile_deviations(table, of_fraud=of_fraud)
        found = distributions.hour_shares(table, of_fraud=of_fraud)
        hours[name] = {
            "real": distributions.hour_shares(real, of_fraud=of_fraud).tolist(),
            "simulated": found.tolist(),
        }
        correlations[name] = distributions.correlation_deviation(table, of_fraud=of_fraud)
    return {"quantiles": quantiles, "hours": hours, "correlations": correlations}


def _distances(tables: Sequence[pl.DataFrame], *, of_fraud: bool) -> list[float]:
    """Quantiles of the joint distances, means over tables: they depend on the number of rows."""
    found = [distributions.joint_distances(table, of_fraud=of_fraud) for table in tables]
    return [float(value) for value in np.mean([np.quantile(d, _DISTANCE_LEVELS) for d in found], axis=0)]


def _full_table(names: Collection[str], n_jobs: int) -> dict[str, Any]:
    return hold_out(simulated().unique(maintain_order=True), names, seed=0, n_jobs=n_jobs)


def markdown(report: dict[str, Any]) -> str:
    """Write what `compare` found as tables for ``docs/simulator.md``."""
    lines = [
        "| model | AUC, real | AUC, simulated | average precision, real | average precision, simulated |"
        " within tolerance |",
        "|---|---|---|---|---|---|",
    ]
    for name, score in report["scores"].items():
        (auc, precision), (error, precision_error) = score["simulated"], score["standard_error"]
        lines.append(
            f"| {name} | {score['real'][0]:.3f} | {auc:.3f} ± {error:.3f} | {score['real'][1]:.3f} "
            f"| {precision:.3f} ± {precision_error:.3f} | {'yes' if score['within'] else 'no'} |"
        )
    lines += ["", "| class | column furthest from its quantiles | deviation | mean over columns |"]
    lines.append("|---|---|---|---|")
    for name, deviations in report["quantiles"].items():
        worst = max(deviations, key=deviations.__getitem__)
        mean = np.mean(list(deviations.values()))
        lines.append(f"| {name} | {worst} | {deviations[worst]:.2%} | {mean:.2%} |")
    lines += [
        "",
        "| class | largest difference of an hour's share | mean error of a correlation |",
        "|---|---|---|",
    ]
    for name, hours in report["hours"].items():
        gap = np.abs(np.subtract(hours["real"], hours["simulated"])).max()
        lines.append(f"| {name} | {gap:.4f} | {report['correlations'][name]:.3f} |")
    levels = " | ".join(f"{level:.0%}" for level in _DISTANCE_LEVELS)
    lines += ["", f"| squared joint distance | {levels} |", "|---|" + "---|" * len(_DISTANCE_LEVELS)]
    for name, distance in report["distances"].items():
        lines += [
            f"| {name}, {kind} | " + " | ".join(f"{value:.1f}" for value in distance[kind]) + " |"
            for kind in ("real", "simulated")
        ]
    if report["full_table"]:
        lines += [
            "",
            "| full simulated table, random 20 % as test | AUC | average precision |",
            "|---|---|---|",
        ]
        lines += [f"| {name} | {a:.3f} | {p:.3f} |" for name, (a, p) in report["full_table"].items()]
    return "\n".join(lines) + "\n"


def write_into(page: Path, tables: str) -> None:
    """Replace what stands between the two marks of a Markdown page.

    Raises
    ------
    MissingInputError
        If the page or a mark is not there.
    """
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    before, opening, rest = text.partition(_OPENING_MARK)
    _, closing, after = rest.partition(_CLOSING_MARK)
    if not (opening and closing):
        raise MissingInputError(
            f"{page} is no page with the marks {_OPENING_MARK} and {_CLOSING_MARK}: "
            "put them where the tables belong."
        )
    page.write_text(f"{before}{opening}\n{tables}{closing}{after}", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Compare simulated with real transactions and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m fraud_kedro.simulation.fidelity", description=main.__doc__
    )
    parser.add_argument("--real", type=Path, required=True, help="real rows with sample_weight")
    parser.add_argument(
        "--models", nargs="+", choices=list(models(0, 1)), default=list(models(0, 1)), metavar="NAME"
    )
    parser.add_argument("--seeds", type=int, default=20, help="simulated tables of the sample's size")
    parser.add_argument("--repeats", type=int, default=10, help="cross-validations of the real rows")
    parser.add_argument("--full-table", action="store_true", help="learn a full table too (minutes)")
    parser.add_argument("--jobs", type=int, default=1, help="threads of the models")
    parser.add_argument("--json", type=Path, help="file for every figure")
    parser.add_argument("--page", type=Path, help="Markdown page whose tables are replaced")
    chosen = parser.parse_args(arguments)
    report = compare(
        read_real(chosen.real),
        chosen.models,
        seeds=range(chosen.seeds),
        repeats=chosen.repeats,
        full_table=chosen.full_table,
        n_jobs=chosen.jobs,
    )
    tables = markdown(report)
    print(tables)
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if chosen.page:
        write_into(chosen.page, tables)


if __name__ == "__main__":
    run(main)
