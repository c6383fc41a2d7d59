"""The profile as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from fraud_kedro.profiling.findings import findings
from fraud_kedro.profiling.profile import (
    HOURS,
    QUANTILE_LEVELS,
    ClassProfile,
    ColumnProfile,
    DataProfile,
    HourShares,
    PeriodRate,
)
from fraud_kedro.profiling.wording import bin_label, decimals, moment, number, share

# Drawings are this high and as wide as they have slots; the page stretches them.
_HEIGHT = 100
_TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Bars:
    """Two classes over common slots, as paths of an SVG that is `width` wide.

    Attributes
    ----------
    top : float
        The share that reaches the upper end.
    legitimate, fraud : str
        Outlines, closed along the lower end.
    rims : tuple of int
        Where slots outside of the edges are set apart.
    """

    width: int
    top: float
    legitimate: str
    fraud: str
    rims: tuple[int, ...] = ()


@dataclass(frozen=True)
class ColumnView:
    """A column in the table and among the small drawings."""

    column: ColumnProfile
    anchor: str
    roles: str
    missing: int
    bars: Bars
    first: str
    last: str
    described: str


@dataclass(frozen=True)
class PeriodView:
    """A period: its words, and where its rate is drawn."""

    when: str
    period: PeriodRate
    level: float | None
    low: float
    high: float
    volume: float


@dataclass(frozen=True)
class RateView:
    """The label rate over time."""

    periods: tuple[PeriodView, ...]
    top: float
    overall: float
    first: str
    last: str
    most_rows: int


def profile_page(profile: DataProfile, *, title: str, source: str) -> str:
    """Write the profile as HTML: no script, nothing loaded from anywhere.

    Parameters
    ----------
    profile : DataProfile
    title : str
        Heading of the page.
    source : str
        Where the rows come from.

    Returns
    -------
    str
    """
    environment = Environment(
        loader=PackageLoader("fraud_kedro.profiling", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, share=share, decimals=decimals)
    views = [_column_view(profile, index) for index in range(len(profile.columns))]
    return environment.get_template(_TEMPLATE).render(
        profile=profile,
        title=title,
        source=source,
        findings=findings(profile),
        columns=views,
        by_separation=sorted(views, key=lambda view: -(view.column.ks or 0.0)),
        levels=[f"{level:.0%}" for level in QUANTILE_LEVELS],
        rate=_rate_view(profile),
        hours=_hour_bars(profile.hours) if profile.hours else None,
        first_moment=moment(profile.periods[0].start, profile.roles.time_origin),
        last_moment=moment(profile.periods[-1].end, profile.roles.time_origin),
        height=_HEIGHT,
    )


def _column_view(profile: DataProfile, index: int) -> ColumnView:
    column = profile.columns[index]
    roles = {"time": profile.roles.time, "amount": profile.roles.amount}
    held = [role for role, name in roles.items() if name == column.name]
    if column.name not in profile.roles.features:
        held.append("not a feature")
    starts = column.edges[:-1] if column.scale == "values" else column.edges
    return ColumnView(
        column=column,
        anchor=f"column-{index}",
        roles=", ".join(held),
        missing=profile.missing[column.name],
        bars=_column_bars(column),
        first=number(starts[0] if starts else None),
        last=number(starts[-1] if starts else None),
        described=_describe(column),
    )


def _describe(column: ColumnProfile) -> str:
    """The drawing in words, for those who do not see it."""
    middle = QUANTILE_LEVELS.index(0.5)
    parts = []
    for name, part in (("legitimate", column.legitimate), ("fraud", column.fraud)):
        if part is None:
            parts.append(f"no {name} value")
            continue
        fullest = max(range(len(part.bins)), key=part.bins.__getitem__)
        parts.append(
            f"{name} median {number(part.quantiles[middle])}, most often {bin_label(column, fullest)}"
        )
    return f"Distribution of {column.name} by class: {'; '.join(parts)}."


def _column_bars(column: ColumnProfile) -> Bars:
    classes = [part for part in (column.legitimate, column.fraud) if part is not None]
    outside = [any(part.bins[end] for part in classes) for end in (0, -1)]
    # A gap of one slot sets what lies outside of the edges apart.
    before, after = (2 if there else 0 for there in outside)
    width = before + max(len(column.edges) - 1, 1) + after

    def slots(part: ClassProfile | None) -> list[float]:
        if part is None:
            return [0.0] * width
        shares = [rows / part.count for rows in part.bins]
        return [
            *([shares[0], 0.0] if before else []),
            *shares[1:-1],
            *([0.0, shares[-1]] if after else []),
        ]

    rims = tuple(place for place, there in ((1, before), (width - 2, after)) if there)
    return _bars(slots(column.legitimate), slots(column.fraud), rims)


def _hour_bars(hours: HourShares) -> Bars:
    legitimate, fraud = (
        [rows / max(sum(counts), 1) for rows in counts] for counts in (hours.legitimate, hours.fraud)
    )
    return _bars(legitimate[:HOURS], fraud[:HOURS])


def _bars(legitimate: Sequence[float], fraud: Sequence[float], rims: tuple[int, ...] = ()) -> Bars:
    top = max([*legitimate, *fraud, 1e-9])
    return Bars(
        width=len(legitimate),
        top=top,
        legitimate=_outline(legitimate, top),
        fraud=_outline(fraud, top),
        rims=rims,
    )


def _outline(shares: Sequence[float], top: float) -> str:
    """Steps along the shares, from the lower left to the lower right corner."""
    path, level = [f"M0 {_HEIGHT}"], float(_HEIGHT)
    for place, value in enumerate(shares):
        height = round(_HEIGHT * (1 - value / top), 1)
        if height != level:
            path.append(f"H{place}V{height:g}")
            level = height
    path.append(f"H{len(shares)}V{_HEIGHT}")
    return "".join(path)


def _rate_view(profile: DataProfile) -> RateView:
    overall = profile.label_rate.estimate
    usual = overall.value if overall else 0.0
    estimates = [period.rate.estimate for period in profile.periods]
    values = [estimate.value for estimate in estimates if estimate]
    # A period of few rows has an interval that would flatten all the others.
    highest = sorted(estimate.high for estimate in estimates if estimate)
    typical = highest[int(0.9 * (len(highest) - 1))] if highest else 0.0
    top = max([1.1 * typical, *(1.1 * value for value in values), 1.2 * usual, 1e-9])
    most_rows = max(period.rate.rows for period in profile.periods)
    origin = profile.roles.time_origin

    def place(value: float) -> float:
        return round(_HEIGHT * (1 - min(value / top, 1)), 2)

    return RateView(
        periods=tuple(
            PeriodView(
                when=f"{moment(period.start, origin)} to {moment(period.end, origin)}",
                period=period,
                level=place(estimate.value) if estimate else None,
                low=place(estimate.low) if estimate else _HEIGHT,
                high=place(estimate.high) if estimate else _HEIGHT,
                volume=round(_HEIGHT * period.rate.rows / max(most_rows, 1), 2),
            )
            for period, estimate in zip(profile.periods, estimates, strict=True)
        ),
        top=top,
        overall=place(usual),
        first=moment(profile.periods[0].start, origin),
        last=moment(profile.periods[-1].end, origin),
        most_rows=most_rows,
    )
