"""What can be asked of the simulator."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from fraud_kedro.errors import FraudKedroError
from fraud_kedro.options import Options
from fraud_kedro.simulation.drift import Drift, Scale, Shift, Zeroed
from fraud_kedro.simulation.statistics import TableStatistics, ulb_statistics

MAXIMUM_ROWS = 1_000_000_000


class SimulationError(FraudKedroError):
    """The simulator was asked for a table it cannot draw."""


def _problems(error: ValidationError) -> str:
    """Name every option that is wrong, what it was and what is allowed, in one line."""
    return "; ".join(
        f"{_place(problem['loc'])}{problem['msg'].removeprefix('Value error, ')}{_received(problem)}"
        for problem in error.errors(include_url=False)
    )


def _place(location: tuple[int | str, ...]) -> str:
    return f"{'.'.join(map(str, location))}: " if location else ""


def _received(problem: ErrorDetails) -> str:
    # The input of a check over all options is all options.
    return f" (got {problem['input']!r})" if problem["loc"] else ""


def _as_tuple(value: Any) -> Any:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)


class OutsideOptions(Options):
    """Options that come from outside: a catalog entry, a command line."""

    purpose: ClassVar[str]

    @classmethod
    def parse(cls, **options: Any) -> Self:
        """Check options that come from outside.

        Raises
        ------
        SimulationError
            Naming every option that is wrong, what it was and what is allowed.
        """
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            raise SimulationError(f"The simulator cannot {cls.purpose}: {_problems(error)}.") from error


class SimulationOptions(OutsideOptions):
    """The size and kind of a simulated table.

    Attributes
    ----------
    rows : int, default 284,807
        Transactions, duplicates included.
    fraud_rate : float, default 492 / 284,807
        Share of the rows that are fraud.
    frauds : int, optional
        Number of frauds, in place of `fraud_rate`. Either way the number is
        exact: ``round(rows * fraud_rate)`` without drift.
    seed : int, default 0
        The same options and seed give the same table.
    duplicates : int, optional
        How many of the rows repeat another row exactly. The default is what the
        real table has, 1,081, in proportion to `rows`.
    drift : tuple of Drift
        Changes from some time on; YAML may give one mapping or a list.
    """

    purpose: ClassVar[str] = "draw this table"

    rows: Annotated[int, Field(strict=True, ge=1, le=MAXIMUM_ROWS)] = 284_807
    fraud_rate: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    frauds: Annotated[int, Field(strict=True, ge=0)] | None = None
    seed: Annotated[int, Field(strict=True, ge=0)] = 0
    duplicates: Annotated[int, Field(strict=True, ge=0)] | None = None
    drift: Annotated[tuple[Drift, ...], BeforeValidator(_as_tuple)] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fraud_rate is not None and self.frauds is not None:
            raise ValueError("give `fraud_rate` or `frauds`, not both")
        if self.frauds is not None and self.frauds > self.rows:
            raise ValueError(f"{self.frauds:,} frauds do not fit into {self.rows:,} rows")
        statistics = ulb_statistics()
        possible = sum(self.duplicate_counts(statistics))
        if self.duplicates is not None and self.duplicates > possible:
            raise ValueError(
                f"{self.duplicates:,} duplicates are too many: a row is repeated once, by one of its class, "
                f"so at most {possible:,} of these {self.rows:,} rows can be"
            )
        for change in self.drift:
            if isinstance(change, Shift | Scale | Zeroed) and change.column not in statistics.columns:
                raise ValueError(
                    f"drift: there is no column {change.column!r} to change. "
                    f"It should be one of: {', '.join(statistics.columns)}"
                )
            if change.start >= statistics.time_span_seconds:
                raise ValueError(
                    f"drift: `from` is {change.start:g}, "
                    f"but the table ends before second {statistics.time_span_seconds:,}"
                )
        return self

    def fraud_count(self, statistics: TableStatistics) -> int:
        """Count the frauds of a table without drift, duplicates included."""
        if self.frauds is not None:
            return self.frauds
        rate = statistics.frauds / statistics.rows if self.fraud_rate is None else self.fraud_rate
        return round(self.rows * rate)

    def duplicate_counts(self, statistics: TableStatistics) -> tuple[int, int]:
        """Count repeated legitimate rows and repeated frauds, in the real table's proportion.

        Returns
        -------
        tuple of int
            Never more than half of either class.
        """
        frauds = self.fraud_count(statistics)
        legitimate = self.rows - frauds
        repeated = statistics.rows - statistics.distinct_rows
        repeated_frauds = statistics.frauds - statistics.distinct_frauds
        total = round(self.rows * repeated / statistics.rows) if self.duplicates is None else self.duplicates
        of_frauds = frauds * repeated_frauds / statistics.frauds
        of_legitimate = legitimate * (repeated - repeated_frauds) / (statistics.rows - statistics.frauds)
        share = of_frauds / (of_frauds + of_legitimate)
        fraud_part = min(max(round(total * share), total - legitimate // 2), frauds // 2)
        return min(total - fraud_part, legitimate // 2), fraud_part
