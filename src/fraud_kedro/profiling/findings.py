"""What in a profile is worth a look before a model is trained on the table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from fraud_kedro.profiling.profile import ColumnProfile, DataProfile

# A column that alone separates the classes so well is more often a leak than a discovery.
SUSPICIOUS_AUC = 0.99
SUSPICIOUS_KS = 0.95
# With fewer rows of a class, chance separates columns as well.
_ENOUGH_ROWS = 20
_NEARLY_ALL = 0.99
_MANY_DUPLICATES = 0.05
_FEW_FRAUDS = 100
_NAMES_SHOWN = 12


class Finding(BaseModel):
    """Something worth a look.

    Attributes
    ----------
    kind : {"leak", "data", "label"}
        A column that gives the label away, what columns hold, how labels lie.
    text : str
        One sentence.
    columns : tuple of str
        The columns it is about.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["leak", "data", "label"]
    text: str
    columns: tuple[str, ...] = ()


def findings(profile: DataProfile) -> tuple[Finding, ...]:
    """Everything worth a look, the gravest first."""
    return tuple([*_leaks(profile), *_column_findings(profile), *_label_findings(profile)])


def _leaks(profile: DataProfile) -> Iterator[Finding]:
    for column in profile.columns:
        if _gives_the_label_away(column):
            yield Finding(
                kind="leak",
                columns=(column.name,),
                text=f"{column.name} alone separates the classes almost perfectly (AUC {column.auc:.3f}, "
                f"KS {column.ks:.3f}). Is it known when the transaction is decided, or only afterwards?",
            )


def _gives_the_label_away(column: ColumnProfile) -> bool:
    if column.auc is None or column.ks is None or column.legitimate is None or column.fraud is None:
        return False
    if min(column.legitimate.count, column.fraud.count) < _ENOUGH_ROWS:
        return False
    return max(column.auc, 1 - column.auc) >= SUSPICIOUS_AUC or column.ks >= SUSPICIOUS_KS


def _column_findings(profile: DataProfile) -> Iterator[Finding]:
    missing = [name for name, count in profile.missing.items() if count]
    if missing:
        yield _about(missing, "with missing or infinite values", sum(profile.missing[n] for n in missing))
    constant = [column.name for column in profile.columns if column.distinct == 1]
    if constant:
        yield _about(constant, "with one value in every row: nothing can be learned from that")
    zeros = [column.name for column in profile.columns if _is_nearly_all_zeros(column)]
    if zeros:
        yield _about(zeros, f"with 0 in at least {_NEARLY_ALL:.0%} of the rows")
    for names in _copies(column for column in profile.columns if column.distinct != 1):
        yield _about(names, "with the same distribution in both classes: copies of one another")


def _is_nearly_all_zeros(column: ColumnProfile) -> bool:
    classes = [part for part in (column.legitimate, column.fraud) if part is not None]
    zeros, rows = sum(part.zeros for part in classes), sum(part.count for part in classes)
    return column.distinct != 1 and zeros >= _NEARLY_ALL * rows > 0


def _copies(columns: Iterable[ColumnProfile]) -> list[list[str]]:
    alike: dict[str, list[str]] = defaultdict(list)
    for column in columns:
        alike[column.model_copy(update={"name": ""}).model_dump_json()].append(column.name)
    return [names for names in alike.values() if len(names) > 1]


def _label_findings(profile: DataProfile) -> Iterator[Finding]:
    total = profile.label_rate
    read = total.rows + profile.duplicates
    if profile.duplicates > _MANY_DUPLICATES * read:
        yield Finding(
            kind="data",
            text=f"{profile.duplicates:,} of {read:,} rows repeated an earlier one and were left out.",
        )
    if total.frauds < _FEW_FRAUDS:
        yield Finding(
            kind="label", text=f"Only {total.frauds:,} frauds: every figure about them has a wide interval."
        )
    late = _periods_without_labels(profile)
    if late:
        yield Finding(
            kind="label",
            text=f"The last {late} of {len(profile.periods)} periods have less than half of the usual label "
            "rate: perhaps their labels have not arrived yet.",
        )


def _periods_without_labels(profile: DataProfile) -> int:
    """Periods at the end whose whole interval lies below half of the overall rate."""
    late = 0
    for period in reversed(profile.periods):
        here, usual = period.rate.share, profile.label_rate.share
        if here is None or usual is None or here.high >= usual.value / 2:
            break
        late += 1
    return late


def _about(names: Sequence[str], what: str, cells: int | None = None) -> Finding:
    shown = ", ".join(names[:_NAMES_SHOWN])
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    columns = "column" if len(names) == 1 else "columns"
    count = f" ({cells:,} in all)" if cells is not None else ""
    return Finding(
        kind="data", columns=tuple(names), text=f"{len(names)} {columns} {what}{count}: {shown}{more}."
    )
