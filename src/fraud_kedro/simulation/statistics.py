"""What is known of the real table, and the command that packs it.

``python -m fraud_kedro.simulation.statistics PROFILE OUT`` checks a profile
(class-conditional quantiles, normal-score correlations, hourly shares) and
writes the statistics file that ships with the package.
"""

from __future__ import annotations

import argparse
import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraud_kedro.errors import DataError, MissingInputError
from fraud_kedro.simulation.command import run

STATISTICS_FILE = "ulb_statistics.json"
HOURS_PER_DAY = 24

_CITATION = (
    "Machine Learning Group, Université Libre de Bruxelles, and Worldline: Credit Card Fraud Detection, "
    "transactions of European cardholders in two days of September 2013"
)
_LICENSE = "Database Contents License (DbCL) 1.0"


class ClassStatistics(BaseModel):
    """How the transactions of one class are distributed.

    Attributes
    ----------
    sample_size : int
        Number of real transactions the statistics were taken from.
    quantiles : dict of str to tuple of float
        Each column's values at `TableStatistics.quantile_levels`, in the
        column's own unit.
    normal_score_correlation : tuple of tuple of float
        Correlation of the columns' normal scores (the normal quantile of a
        value's rank), in the order of `TableStatistics.columns`.
    hour_of_day_share : tuple of float
        Share of the transactions in each hour of the day, summing to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_size: int = Field(gt=0)
    quantiles: dict[str, tuple[float, ...]]
    normal_score_correlation: tuple[tuple[float, ...], ...]
    hour_of_day_share: tuple[float, ...] = Field(min_length=HOURS_PER_DAY, max_length=HOURS_PER_DAY)

    @property
    def correlation(self) -> NDArray[np.float64]:
        """`normal_score_correlation` as an array of shape (n_columns, n_columns)."""
        return np.array(self.normal_score_correlation)

    @property
    def quantile_matrix(self) -> NDArray[np.float64]:
        """Quantiles of shape (n_columns, n_levels)."""
        return np.array(list(self.quantiles.values()))


class TableStatistics(BaseModel):
    """Derived statistics of a table of transactions; no row of it.

    Attributes
    ----------
    source, license : str
        Whose table it is and under which terms.
    rows, distinct_rows, frauds, distinct_frauds : int
        Counts of the full table, with and without exact duplicates.
    time_span_seconds : int
        Seconds between the first and the last transaction.
    time_column, amount_column, label_column : str
        Names of the columns that are more than a number.
    columns : tuple of str
        The drawn columns, in the table's order: everything but time and label.
    quantile_levels : tuple of float
        Ascending, from 0 to 1.
    legitimate, fraud : ClassStatistics
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    license: str
    rows: int
    distinct_rows: int
    frauds: int
    distinct_frauds: int
    time_span_seconds: int
    time_column: str
    amount_column: str
    label_column: str
    columns: tuple[str, ...]
    quantile_levels: tuple[float, ...]
    legitimate: ClassStatistics
    fraud: ClassStatistics

    @model_validator(mode="after")
    def _check(self) -> Self:
        levels = np.array(self.quantile_levels)
        if levels[0] != 0 or levels[-1] != 1 or np.any(np.diff(levels) <= 0):
            raise ValueError("quantile_levels must rise from 0 to 1")
        for name in ("legitimate", "fraud"):
            statistics: ClassStatistics = getattr(self, name)
            if tuple(statistics.quantiles) != self.columns:
                raise ValueError(
                    f"{name}: the quantiles must be those of {list(self.columns)}, in this order"
                )
            falling = [
                column
                for column, values in statistics.quantiles.items()
                if len(values) != len(levels) or np.any(np.diff(values) < 0)
            ]
            if falling:
                raise ValueError(f"{name}: quantiles that are too few or fall: {falling}")
            correlation = statistics.correlation
            if correlation.shape != (len(self.columns),) * 2 or not np.allclose(correlation, correlation.T):
                raise ValueError(f"{name}: normal_score_correlation must be symmetric over the columns")
            if not np.allclose(np.diag(correlation), 1) or np.linalg.eigvalsh(correlation)[0] <= 0:
                raise ValueError(
                    f"{name}: normal_score_correlation is not a positive definite correlation matrix"
                )
            if not np.isclose(sum(statistics.hour_of_day_share), 1) or min(statistics.hour_of_day_share) < 0:
                raise ValueError(f"{name}: hour_of_day_share must be shares that sum to 1")
        return self

    @property
    def levels(self) -> NDArray[np.float64]:
        """`quantile_levels` as an array of shape (n_levels,)."""
        return np.array(self.quantile_levels)


@cache
def ulb_statistics() -> TableStatistics:
    """Read the statistics that ship with the package.

    Returns
    -------
    TableStatistics
        Of the ULB credit-card table; read once per process.
    """
    file = resources.files("fraud_kedro.simulation") / STATISTICS_FILE
    return TableStatistics.model_validate_json(file.read_text(encoding="utf-8"))


def statistics_of_profile(profile: dict[str, Any]) -> TableStatistics:
    """Check a profile of the ULB table and bring it into the package's form.

    Parameters
    ----------
    profile : dict
        ``quantile_levels``, ``rows``, ``distinct_rows``, ``frauds``,
        ``distinct_frauds``, ``time_span_seconds`` and, under ``classes``, for
        ``legitimate`` and ``fraud`` each ``sample_size``, ``quantiles``,
        ``normal_score_correlation``, ``correlation_order`` and
        ``hour_of_day_share``.

    Returns
    -------
    TableStatistics

    Raises
    ------
    DataError
        If a part is missing, or quantiles, correlations or shares are none.
    """
    try:
        classes = profile["classes"]
        columns = tuple(classes["legitimate"]["correlation_order"])
        if tuple(classes["fraud"]["correlation_order"]) != columns:
            raise ValueError("correlation_order differs between the classes")
        return TableStatistics(
            source=_CITATION,
            license=_LICENSE,
            **{name: profile[name] for name in ("rows", "distinct_rows", "frauds", "distinct_frauds")},
            time_span_seconds=profile["time_span_seconds"],
            time_column="Time",
            amount_column="Amount",
            label_column="Class",
            columns=columns,
            quantile_levels=tuple(profile["quantile_levels"]),
            **{name: _class_statistics(classes[name], columns) for name in ("legitimate", "fraud")},
        )
    except KeyError as error:
        raise DataError(f"The profile has no {error}: it must hold what `ulb_profile.json` holds.") from error
    except ValueError as error:
        raise DataError(f"The profile cannot be used: {error}") from error


def _class_statistics(profile: dict[str, Any], columns: tuple[str, ...]) -> ClassStatistics:
    shares = np.array(profile["hour_of_day_share"], dtype=float)
    return ClassStatistics(
        sample_size=profile["sample_size"],
        quantiles={column: tuple(profile["quantiles"][column]) for column in columns},
        normal_score_correlation=tuple(map(tuple, profile["normal_score_correlation"])),
        # Published with four digits, so they miss 1 by a rounding.
        hour_of_day_share=tuple((shares / shares.sum()).round(6).tolist()),
    )


def main(arguments: list[str] | None = None) -> None:
    """Derive the statistics file from a profile."""
    parser = argparse.ArgumentParser(
        prog="python -m fraud_kedro.simulation.statistics", description=main.__doc__
    )
    parser.add_argument("profile", type=Path, help="JSON with class-conditional statistics")
    parser.add_argument("out", type=Path, help="statistics file to write")
    paths = parser.parse_args(arguments)
    if not paths.profile.exists():
        raise MissingInputError(
            f"No profile at {paths.profile}: give a JSON file of class-conditional statistics."
        )
    try:
        profile = json.loads(paths.profile.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{paths.profile} is no JSON: {error}.") from error
    statistics = statistics_of_profile(profile)
    paths.out.write_text(statistics.model_dump_json() + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
