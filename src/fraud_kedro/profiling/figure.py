"""The profile as an interactive figure, for kedro-viz and MLflow."""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]
from plotly.subplots import make_subplots  # type: ignore[import-untyped]

from fraud_kedro.profiling.profile import ClassProfile, ColumnProfile, DataProfile
from fraud_kedro.profiling.wording import bin_label, moment, number, share
from fraud_kedro.schema import SECONDS_PER_DAY

# These stand out on kedro-viz's dark and light ground; it colours the first axes by itself alone.
_LEGITIMATE, _FRAUD = "#4c8fd0", "#e0662f"
_GRID = "rgba(128, 128, 128, 0.3)"
_TICKS = 5


def profile_figure(profile: DataProfile) -> go.Figure:
    """One column by class, chosen from a list, and below it the label rate over time.

    The list is in the table's order; the column that separates the classes most
    is shown first.

    Returns
    -------
    Figure
        With a trace for each class and one for the rate.
    """
    chosen = max(range(len(profile.columns)), key=lambda index: profile.columns[index].ks or 0.0)
    column = profile.columns[chosen]
    figure = make_subplots(rows=2, cols=1, vertical_spacing=0.2)
    for name, colour, part in (
        ("legitimate", _LEGITIMATE, column.legitimate),
        ("fraud", _FRAUD, column.fraud),
    ):
        bars = go.Bar(
            name=name,
            y=_shares(part),
            customdata=_labels(column),
            marker_color=colour,
            hovertemplate=f"%{{customdata}}: %{{y:.2%}}<extra>{name}</extra>",
        )
        figure.add_trace(bars, row=1, col=1)
    figure.add_trace(_rate_over_time(profile), row=2, col=1)
    figure.update_layout(
        bargap=0.05,
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
        updatemenus=[
            {
                "active": chosen,
                "buttons": [_button(other) for other in profile.columns],
                "x": 0,
                "xanchor": "left",
                "y": 1.02,
                "yanchor": "bottom",
                "bgcolor": "#ffffff",
                "font": {"color": "#1b1f24"},
            }
        ],
        xaxis=_ticks(column),
        xaxis2_title_text="days since second 0" if profile.roles.time_origin is None else None,
    )
    figure.update_xaxes(gridcolor=_GRID, zerolinecolor=_GRID)
    figure.update_yaxes(gridcolor=_GRID, zerolinecolor=_GRID)
    weighted = ", weighted" if profile.roles.sample_weight else ""
    figure.update_yaxes(title_text="share of class", tickformat=".0%", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(
        title_text=f"label rate{weighted}", tickformat=".2~%", rangemode="tozero", row=2, col=1
    )
    return figure


def _rate_over_time(profile: DataProfile) -> go.Scatter:
    # A period without rows has no rate.
    known = [(period, rate) for period in profile.periods if (rate := period.rate.estimate) is not None]
    origin = profile.roles.time_origin
    texts = [
        f"{moment(period.start, origin)} to {moment(period.end, origin)}<br>{period.rate.frauds:,} of "
        f"{period.rate.rows:,}: {share(rate.value)} ({share(rate.low)} to {share(rate.high)})"
        for period, rate in known
    ]
    return go.Scatter(
        x=[_axis_value((period.start + period.end) / 2, origin) for period, _ in known],
        y=[rate.value for _, rate in known],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [rate.high - rate.value for _, rate in known],
            "arrayminus": [rate.value - rate.low for _, rate in known],
            "thickness": 1,
            "width": 0,
        },
        mode="markers",
        marker={"color": _FRAUD, "size": 5},
        customdata=texts,
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )


def _axis_value(seconds: float, origin: datetime | None) -> str | float:
    return seconds / SECONDS_PER_DAY if origin is None else moment(seconds, origin)


def _button(column: ColumnProfile) -> dict[str, Any]:
    parts = (column.legitimate, column.fraud)
    bars = {"y": [_shares(part) for part in parts], "customdata": [_labels(column)] * len(parts)}
    return {
        # plotly reads tags and entities in labels.
        "label": escape(column.name, quote=False),
        "method": "update",
        # A whole axis would lose what else is said of it.
        "args": [bars, {f"xaxis.{key}": value for key, value in _ticks(column).items()}, [0, 1]],
    }


def _shares(part: ClassProfile | None) -> list[float]:
    return [round(rows / part.count, 6) for rows in part.bins] if part is not None else []


def _labels(column: ColumnProfile) -> list[str]:
    return [bin_label(column, index) for index in range(len(column.edges) + 1)] if column.edges else []


def _ticks(column: ColumnProfile) -> dict[str, Any]:
    """Bins are drawn at equal widths; a few edges carry their values."""
    if not column.edges:
        return {"tickvals": [], "ticktext": []}
    last = len(column.edges) - 1
    chosen = sorted({round(last * step / (_TICKS - 1)) for step in range(_TICKS)})
    if column.scale == "values":
        return {
            "tickvals": [i + 1 for i in chosen if i < last],
            "ticktext": [number(column.edges[i]) for i in chosen if i < last],
        }
    return {"tickvals": [i + 0.5 for i in chosen], "ticktext": [number(column.edges[i]) for i in chosen]}
