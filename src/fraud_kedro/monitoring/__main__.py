"""``python -m fraud_kedro.monitoring``: figures of the prediction log as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fraud_kedro.champion.bundle import Bundle, Registration, read_bundle
from fraud_kedro.champion.registry import Registry
from fraud_kedro.errors import BundleError, FraudKedroError
from fraud_kedro.locations import (
    LOG_VARIABLE,
    champion_folder,
    drift_page,
    log_url,
    root_folder,
    tracking_uri,
)
from fraud_kedro.prediction_log import open_for_reading

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

    # From the environment alone: a command line is seen by every user of the machine, passwords too.
    reader = open_for_reading(log_url(root_folder()))
    try:
        return compare_versions(
            reader,
            since=datetime.now(UTC) - timedelta(days=chosen.days),
            most_rows=chosen.rows,
            repetitions=chosen.repetitions,
        )
    finally:
        reader.close()


def _drift(chosen: argparse.Namespace) -> dict[str, object]:
    os.nice(chosen.nice)
    from fraud_kedro.monitoring.drift import run_drift
    from fraud_kedro.monitoring.drift_files import new_run_id
    from fraud_kedro.monitoring.drift_options import DriftOptions

    root = root_folder()
    reader = open_for_reading(log_url(root))
    try:
        with _champion(root, chosen.version) as bundle:
            verdict = run_drift(
                reader,
                bundle,
                drift_page(root),
                DriftOptions(days=chosen.days),
                run_id=chosen.run_id or new_run_id(),
            )
        return verdict.model_dump(mode="json")
    finally:
        reader.close()


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fraud_kedro.monitoring",
        description=f"Figures of the prediction log ({LOG_VARIABLE}, by default below the root) as JSON.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    comparison = commands.add_parser("comparison", help="versions side by side, from log and labels")
    comparison.add_argument("--days", type=float, default=30, help="of predictions (default 30)")
    comparison.add_argument(
        "--rows", type=int, default=200_000, help="newest predictions read at most (default 200000)"
    )
    comparison.add_argument(
        "--repetitions", type=int, default=500, help="bootstrap draws of an interval (default 500)"
    )
    comparison.set_defaults(run=_comparison)
    drift = commands.add_parser("drift", help="the verdict on drift; its report is kept below the root")
    drift.add_argument("--days", type=_days, default=30, help="of predictions (default 30)")
    drift.add_argument("--version", type=int, help="of the champion, where the local copy may be another")
    drift.add_argument("--run-id", help="what the report is called (default: by the time)")
    drift.add_argument("--nice", type=int, default=0, help="lower the priority by so much (default 0)")
    drift.set_defaults(run=_drift)
    return parser


if __name__ == "__main__":
    sys.exit(main())
