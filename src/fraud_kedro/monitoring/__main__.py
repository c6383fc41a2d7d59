"""``python -m fraud_kedro.monitoring``: figures of the prediction log as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fraud_kedro.champion.bundle import Bundle, Registration, read_bundle
from fraud_kedro.champion.registry import Registry
from fraud_kedro.errors import BundleError, FraudKedroError
from fraud_kedro.locations import (
    LOG_VARIABLE,
    RUN_ID,
    champion_folder,
    drift_page,
    log_url,
    root_folder,
    tracking_uri,
)
from fraud_kedro.prediction_log import PredictionReader, open_for_reading

MOST_DAYS = 36_500


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands.

    Returns
    -------
    int
        0, or 1 after an error that is written in one line.
    """
    chosen = _parser().parse_args(arguments)
    try:
        print(json.dumps(chosen.run(chosen), allow_nan=False))
    except ModuleNotFoundError as error:
        print(f"Error: {error}. Install the extra `monitoring`.", file=sys.stderr)
        return 1
    except FraudKedroError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _comparison(chosen: argparse.Namespace) -> dict[str, object]:
    # Here, so that what is missing can be said.
    from fraud_kedro.monitoring.comparison import compare_versions

    with _log() as reader:
        return compare_versions(
            reader,
            since=datetime.now(UTC) - timedelta(days=chosen.days),
            most_rows=chosen.rows,
            repetitions=chosen.repetitions,
        )


def _performance(chosen: argparse.Namespace) -> dict[str, object]:
    from fraud_kedro.evaluation.thresholds import Costs
    from fraud_kedro.monitoring.performance import performance_over_time
    from fraud_kedro.monitoring.settled import LabelOptions

    with _log() as reader:
        found = performance_over_time(
            reader,
            days=chosen.days,
            by=chosen.by,
            labels=LabelOptions(maturity_days=chosen.maturity_days, unlabelled=chosen.unlabelled),
            costs=Costs(review_cost=chosen.review_cost, false_decline_cost=chosen.false_decline_cost),
            amount=chosen.amount,
            most_rows=chosen.rows,
            repetitions=chosen.repetitions,
        )
    return found.model_dump(mode="json")


@contextmanager
def _log() -> Iterator[PredictionReader]:
    # From the environment alone: a command line is seen by every user of the machine, passwords too.
    reader = open_for_reading(log_url(root_folder()))
    try:
        yield reader
    finally:
        reader.close()


def _drift(chosen: argparse.Namespace) -> dict[str, object]:
    from fraud_kedro.monitoring.drift import run_drift
    from fraud_kedro.monitoring.drift_files import new_run_id
    from fraud_kedro.monitoring.drift_options import DriftOptions
    from fraud_kedro.monitoring.settled import LabelOptions

    root = root_folder()
    with _log() as reader, _champion(root, chosen.version) as bundle:
        verdict = run_drift(
            reader,
            bundle,
            drift_page(root),
            DriftOptions(days=chosen.days),
            LabelOptions(maturity_days=chosen.maturity_days, unlabelled=chosen.unlabelled),
            run_id=chosen.run_id or new_run_id(),
        )
    return verdict.model_dump(mode="json")


@contextmanager
def _champion(root: Path, version: int | None) -> Iterator[Bundle]:
    """The local copy of the champion, or from the registry where that is another version."""
    problem = None
    try:
        local = read_bundle(champion_folder(root))
    except BundleError as error:
        if version is None:
            raise
        problem = error
    else:
        number = local.registration.version if local.registration else 0
        if version in (None, number):
            yield local
            return
    if version == 0:
        raise problem or BundleError(f"The bundle at {champion_folder(root)} is not the one that serves.")
    registry = Registry(tracking_uri(root), fail_fast=True)
    with tempfile.TemporaryDirectory(prefix="fraud-reference-", ignore_cleanup_errors=True) as folder:
        found = registry.version(version or 0)
        bundle = registry.download(found, Path(folder) / "bundle")
        yield replace(bundle, registration=Registration(version=found.version, run_id=found.run_id or ""))


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days <= MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{text} is invalid. It should be above 0, and at most {MOST_DAYS}")
    return days


def _between(least: float, most: float, kind: type[int] | type[float] = float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is invalid. It should be {least:g} to {most:g}")
        return value

    return number


def _run_id(text: str) -> str:
    if not RUN_ID.fullmatch(text):
        raise argparse.ArgumentTypeError("it should be 1 to 40 letters, digits and hyphens")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fraud_kedro.monitoring",
        description=f"Figures of the prediction log ({LOG_VARIABLE}, by default below the root) as JSON.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    comparison = commands.add_parser("comparison", help="versions side by side, from log and labels")
    comparison.set_defaults(run=_comparison)
    performance = commands.add_parser("performance", help="performance over time, by settled labels")
    performance.set_defaults(run=_performance)
    for command, rows in ((comparison, 200_000), (performance, 500_000)):
        command.add_argument("--days", type=_days, default=30, help="of predictions (default 30)")
        command.add_argument(
            "--rows",
            type=_between(1, 10_000_000, int),
            default=rows,
            help=f"newest predictions read at most (default {rows})",
        )
    repetitions = _between(10, 10_000, int)
    comparison.add_argument(
        "--repetitions", type=repetitions, default=500, help="bootstrap draws of an interval (default 500)"
    )
    performance.add_argument(
        "--repetitions", type=repetitions, default=200, help="bootstrap draws of an interval (default 200)"
    )
    performance.add_argument("--by", choices=["day", "week"], default="day", help="period (default day)")
    performance.add_argument("--amount", help="name of the amount; without it nothing is said of costs")
    price = _between(0, 1e12)
    performance.add_argument("--review-cost", type=price, default=3.0, help="(default 3)")
    performance.add_argument("--false-decline-cost", type=price, default=20.0, help="(default 20)")
    drift = commands.add_parser("drift", help="the verdict on drift; its report is kept below the root")
    drift.add_argument("--days", type=_days, default=30, help="of predictions (default 30)")
    drift.add_argument(
        "--version",
        type=_between(0, sys.maxsize, int),
        help="of the champion, where the local copy may be another",
    )
    drift.add_argument("--run-id", type=_run_id, help="what the report is called (default: by the time)")
    drift.set_defaults(run=_drift)
    for command in (performance, drift):
        command.add_argument(
            "--maturity-days",
            type=_between(0, 3650),
            default=30,
            help="wait for a label (default 30 days)",
        )
        command.add_argument(
            "--unlabelled",
            choices=["legitimate", "unknown"],
            default="legitimate",
            help="what silence means after that (default legitimate)",
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
