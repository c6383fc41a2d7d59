"""``python -m fraud_kedro.monitoring``: figures of the prediction log as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime, timedelta

from fraud_kedro.errors import FraudKedroError
from fraud_kedro.locations import prediction_log_url, root_folder
from fraud_kedro.prediction_log import open_for_reading

LOG_VARIABLE = "FRAUD_LOG_URL"


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands.

    Returns
    -------
    int
        0, or 1 after an error that is written in one line.
    """
    chosen = _parser().parse_args(arguments)
    try:
        print(json.dumps(_comparison(chosen), allow_nan=False))
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
    reader = open_for_reading(os.environ.get(LOG_VARIABLE) or prediction_log_url(root_folder()))
    try:
        return compare_versions(
            reader,
            since=datetime.now(UTC) - timedelta(days=chosen.days),
            most_rows=chosen.rows,
            repetitions=chosen.repetitions,
        )
    finally:
        reader.close()


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
    return parser


if __name__ == "__main__":
    sys.exit(main())
