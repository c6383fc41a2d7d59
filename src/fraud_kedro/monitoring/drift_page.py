"""The page about drift: Evidently's report on a sample, below the verdict."""

from __future__ import annotations

import html
import json
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
from numpy.typing import NDArray

from fraud_kedro.monitoring.drift_options import DriftOptions
from fraud_kedro.monitoring.drift_reference import SCORE, DriftReference
from fraud_kedro.monitoring.drift_verdict import DriftVerdict
from fraud_kedro.monitoring.drift_window import DriftWindow

# Nothing from another host, wherever the page is opened. Evidently's scripts and styles are inside it.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)


class DriftPage(NamedTuple):
    """Evidently's report.

    Attributes
    ----------
    page : str
        HTML that needs nothing else.
    evidently : dict
        Its numbers; empty where there are too few rows to draw.
    """

    page: str
    evidently: dict[str, Any]


def draw_page(
    window: DriftWindow, reference: DriftReference, verdict: DriftVerdict, options: DriftOptions
) -> DriftPage:
    """Draw every column of window and reference but time side by side, with Evidently.

    Its distances are those of the verdict but for the smaller sample; its own
    verdict on the data set is not: see ``docs/monitoring.md``.
    """
    if verdict.verdict == "insufficient_data":
        return DriftPage(_document(_head(), _banner(verdict)), {})
    current = _frame(window.sample, window.sample_scores, reference, options.report_rows)
    before = _frame(reference.rows, reference.scores, reference, options.report_rows)
    if current[SCORE].isna().all():
        current, before = current.drop(columns=SCORE), before.drop(columns=SCORE)
    definition = DataDefinition(numerical_columns=list(current.columns))
    preset = DataDriftPreset(
        num_method="wasserstein",
        num_threshold=options.effects.wasserstein,
        drift_share=options.drifted_share,
        include_tests=False,
    )
    snapshot = Report([preset]).run(
        current_data=Dataset.from_pandas(current, data_definition=definition),
        reference_data=Dataset.from_pandas(before, data_definition=definition),
    )
    drawn = snapshot.get_html_str(as_iframe=False)
    drawn = drawn.replace("<head>", f"<head>{_head()}", 1).replace("<body>", f"<body>{_banner(verdict)}", 1)
    return DriftPage(drawn, json.loads(snapshot.json()))


def _frame(
    rows: NDArray[np.float64], scores: NDArray[np.float64], reference: DriftReference, most: int
) -> pd.DataFrame:
    # Neither is in an order: the first rows are as good as any.
    frame = pd.DataFrame(rows[:most], columns=list(reference.schema.features))
    # A calendar position drifts for ever; the verdict has the mix of hours.
    return frame.drop(columns=reference.schema.time, errors="ignore").assign(**{SCORE: scores[:most]})


def _head() -> str:
    return f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}"><title>Drift</title>'


def _document(head: str, body: str) -> str:
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="UTF-8">{head}</head><body>{body}</body></html>'
    )


def _banner(verdict: DriftVerdict) -> str:
    window = verdict.window
    lines = [
        f"<h1 style='margin:0;font-size:1.4em'>Drift: {html.escape(verdict.verdict.replace('_', ' '))}</h1>",
        f"<p>{html.escape(verdict.reason)}</p>",
        f"<p>{window.compared:,} transactions from {_moment(window.since)} to {_moment(window.until)} beside "
        f"{verdict.reference_rows:,} of the reference of {html.escape(verdict.model_version)}.</p>",
        *(f"<p>{html.escape(note)}</p>" for note in verdict.notes),
    ]
    if verdict.columns:
        lines.append(
            "<p>Below, Evidently draws a sample of the columns with their distances. Its line on the whole "
            "data set is not the verdict.</p>"
        )
    style = "font-family:sans-serif;padding:1em 2em;border-bottom:1px solid #ccc"
    return f'<header style="{style}">{"".join(lines)}</header>'


def _moment(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
