"""What is worth a warning: a table that is usable, but not as tables used to be."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from fraud_kedro.options import Options
from fraud_kedro.schema import ResolvedSchema
from fraud_kedro.validation.report import Finding
from fraud_kedro.validation.survey import Survey

logger = logging.getLogger(__name__)


def _ordered(band: tuple[float, float]) -> tuple[float, float]:
    if band[0] > band[1]:
        raise ValueError(f"the band {list(band)} is invalid: its low end should not lie above its high end")
    return band


Band = Annotated[tuple[float, float], AfterValidator(_ordered)]


class Expectations(Options):
    """The ``expectations`` parameters.

    Attributes
    ----------
    fraud_share : (low, high)
        Where the share of frauds should lie; weighted, where the table has weights.
    duplicate_share : float
        Above this share of exact duplicates something is odd.
    outside_share : float
        Above this share of a column's values outside its range the column has
        drifted.
    ranges : dict of str to (low, high)
        By column or pattern. A column not named here is compared with the range
        it had in the table before.
    """

    fraud_share: Band = (0.0001, 0.1)
    duplicate_share: float = Field(default=0.02, ge=0, le=1)
    outside_share: float = Field(default=0.001, ge=0, le=1)
    ranges: dict[str, Band] = Field(default_factory=dict)

    def ranges_of(self, resolved: ResolvedSchema) -> dict[str, tuple[float, float]]:
        """The declared ranges, by column."""
        found: dict[str, tuple[float, float]] = {}
        for pattern, band in self.ranges.items():
            for column in resolved.features:
                if fnmatchcase(column, pattern):
                    found.setdefault(column, band)
        return found

    def warnings(self, found: Survey, resolved: ResolvedSchema) -> tuple[Finding, ...]:
        """What of a survey is not as expected."""
        allowed = self.outside_share * found.rows
        warnings = [finding for finding in found.out_of_range if finding.count > allowed]
        share = found.weights[1] / total if (total := sum(found.weights)) else 0.0
        low, high = self.fraud_share
        if not low <= share <= high:
            check = (
                f"marks {share:.3%} of the transactions as fraud, where {low:.3%} to {high:.3%} are expected,"
            )
            warnings.append(Finding(column=resolved.label, check=check, count=found.frauds))
        return tuple(warnings)

    def warn_of_duplicates(self, duplicates: int, rows: int, table: str) -> None:
        """Say so if many of a table's rows were exact copies.

        Parameters
        ----------
        duplicates, rows : int
            Rows that were dropped, and rows that are left.
        table : str
            Its path or name.
        """
        share = duplicates / (duplicates + rows)
        if share > self.duplicate_share:
            logger.warning(
                "%s: %s rows (%.1f %%) repeated an earlier one in all features and the label "
                "and were dropped. If they are transactions of their own, set `duplicates.compare_time`.",
                table,
                f"{duplicates:,}",
                100 * share,
            )


def ranges_of_profile(file: str | None, resolved: ResolvedSchema) -> dict[str, tuple[float, float]]:
    """The ranges that the features had in the table before, if there was one of the same features.

    Time is left out: it moves on by itself.
    """
    if file is None or not Path(file).exists():
        return {}
    profile: Mapping[str, object] = json.loads(Path(file).read_text(encoding="utf-8"))
    ranges = profile.get("ranges")
    if not isinstance(ranges, dict):
        return {}
    return {c: (ranges[c][0], ranges[c][1]) for c in resolved.features if c in ranges and c != resolved.time}
