"""What a run tells at its end, and what `kedro champion show` prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from fraud_kedro.champion.bundle import Metric
from fraud_kedro.champion.registry import RegisteredVersion
from fraud_kedro.pipelines.export.options import Promotion
from fraud_kedro.pipelines.export.promotion_section import limit_rows
from fraud_kedro.pipelines.training.options import Comparison

_SHOWN = {
    "average_precision": "AP",
    "roc_auc": "AUC",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
}
# Wide enough for the table where the output is a file or a pipe.
_PLAIN_WIDTH = 120


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_PLAIN_WIDTH)


def print_comparison(comparison: Comparison) -> None:
    """Figures of each candidate with that of the objective, and which differences are noise."""
    table = Table(title="Candidates, the champion-elect first")
    table.add_column("algorithm")
    table.add_column("rows")
    shown = {**_SHOWN, comparison.figure: _SHOWN.get(comparison.figure, comparison.figure)}
    for title in shown.values():
        table.add_column(title, justify="right")
    table.add_column("AP 95 % interval")
    for candidate in comparison.candidates:
        table.add_row(candidate.algorithm, "validation", *_cells(candidate.validation, shown))
        table.add_row("", "test", *_cells(candidate.test, shown), end_section=True)
    console = _console()
    console.print(table)
    if comparison.reason:
        console.print(f"{comparison.champion} is chosen: {comparison.reason}.", markup=False, highlight=False)
    if verdict := comparison.verdict(comparison.champion):
        console.print(verdict, markup=False, highlight=False)


def _cells(figures: Mapping[str, Metric], shown: Iterable[str]) -> list[str]:
    interval = figures["average_precision"]
    ends = "" if interval.low is None else f"{interval.low:.3f} to {interval.high:.3f}"
    return [*(f"{figures[name].value:.4f}" if name in figures else "" for name in shown), ends]


def print_promotion(promotion: Promotion, *, root: str, env: str | None) -> None:
    """The gate's decision, and where to look next."""
    console = _console()
    name = f"fraud_detection_{promotion.algorithm}_v{promotion.version}"
    meaning = {
        "promoted": "is the champion",
        "challenger": "is challenger, "
        + (
            f"version {promotion.reigning_version} stays the champion"
            if promotion.reigning_version
            else "there is no champion yet"
        ),
        "rejected": "was rejected",
    }[promotion.outcome]
    console.print(f"\n{name} {meaning}: {promotion.reason}.", markup=False, highlight=False)
    for title, found, at_most in limit_rows(promotion):
        console.print(f"  {title:<60} {found}, at most {at_most}", markup=False, highlight=False)
    serve = "make serve" if root == "data" else f"FRAUD_ROOT={root} make serve"
    overlay = f" --env {env}" if env and env not in ("base", "local") else ""
    steps = {
        serve: "answers on 127.0.0.1:8000",
        f"kedro mlflow ui{overlay}": "shows runs, trials and versions",
        f"kedro viz run{overlay}": "shows the pipelines",
        f"kedro champion show{overlay}": "lists versions and aliases",
    }
    for command, meaning in steps.items():
        console.print(f"  {command:<36} {meaning}", markup=False, highlight=False)


def print_versions(versions: Sequence[RegisteredVersion], history: Sequence[Mapping[str, Any]]) -> None:
    """The registry's versions, newest first, and the latest moves of aliases."""
    table = Table(title="Versions of fraud_detection")
    for title in ("version", "algorithm", "data", "test AP", "aliases", "gate"):
        table.add_column(title)
    for version in versions:
        tags = version.tags
        table.add_row(
            str(version.version),
            tags.get("algorithm", ""),
            tags.get("data_source", ""),
            tags.get("test_average_precision", ""),
            ", ".join(version.aliases),
            tags.get("promotion", ""),
        )
    console = _console()
    console.print(table)
    for move in history[-5:]:
        console.print(
            f"{move['when']} {move['alias']} -> {move['version'] or 'none'} by {move['by']}: {move['why']}",
            markup=False,
            highlight=False,
        )
