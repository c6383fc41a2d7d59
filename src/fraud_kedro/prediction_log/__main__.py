"""``python -m fraud_kedro.prediction_log``: the log's size and age, and pruning by hand."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from fraud_kedro.errors import FraudKedroError
from fraud_kedro.locations import prediction_log_url, root_folder
from fraud_kedro.prediction_log.database import connect
from fraud_kedro.prediction_log.reader import open_for_reading
from fraud_kedro.prediction_log.retention import Retention


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives its exit code."""
    parser = argparse.ArgumentParser(prog="python -m fraud_kedro.prediction_log", description=__doc__)
    parser.add_argument("--url", help="the log's SQLAlchemy URL (FRAUD_LOG_URL, or SQLite below FRAUD_ROOT)")
    commands = parser.add_subparsers(dest="command")
    show = commands.add_parser("show", help="print size and age (the default)")
    show.add_argument("--json", action="store_true", help="print JSON")
    prune = commands.add_parser("prune", help="take the features out of old rows now")
    prune.add_argument(
        "--days", type=_days, required=True, help="age from which features go; the rest of a row stays"
    )
    options = parser.parse_args(arguments)
    url = options.url or os.environ.get("FRAUD_LOG_URL") or prediction_log_url(root_folder())
    try:
        if options.command == "prune":
            _prune(url, options.days)
        else:
            _show(url, as_json=getattr(options, "json", False))
    except FraudKedroError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _days(text: str) -> float:
    days = float(text)
    # A datetime goes back no further.
    if not 0 <= days <= 365_000:
        raise argparse.ArgumentTypeError(f"{text} is not a number of days from 0 to 365000")
    return days


def _show(url: str, *, as_json: bool) -> None:
    reader = open_for_reading(url)
    try:
        found: dict[str, Any] = {"url": reader.shown_url, **reader.summary()}
    finally:
        reader.close()
    if as_json:
        print(json.dumps(found, default=str))
        return
    for name, value in found.items():
        print(f"{name.replace('_', ' '):<22} {value}")


def _prune(url: str, days: float) -> None:
    # Which refuses a log of another release.
    open_for_reading(url).close()
    engine = connect(url, create=False)
    try:
        rows = Retention(engine, days).prune()
    finally:
        engine.dispose()
    print(f"{rows} rows older than {days:g} days have lost their features.")


if __name__ == "__main__":
    sys.exit(main())
