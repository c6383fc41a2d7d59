"""The page about drift: Evidently's report on a sample, below the verdict."""

from __future__ import annotations

import html
import json
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from evidently import BinaryClassification, DataDefinition, Dataset, Report
from evidently.core.report import Snapshot
from evidently.presets import ClassificationPreset, DataDriftPreset, DataSummaryPreset
from numpy.typing import NDArray

from fraud_kedro.monitoring.drift_options import DriftOptions
from fraud_kedro.monitoring.drift_reference import SCORE, DriftReference
from fraud_kedro.monitoring.drift_verdict import DriftVerdict
from fraud_kedro.monitoring.drift_window import DriftWindow
from fraud_kedro.monitoring.labelled_window import LabelledWindow
from fraud_kedro.monitoring.settled import LEAST_OF_A_CLASS

# Nothing from another host, wherever the page is opened. Evidently's scripts and styles are inside it.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)

_STYLE = "font-family:sans-serif;padding:1em 2em;border-bottom:1px solid #ccc"


class DriftPage(NamedTuple):
    """Evidently's reports.

    Attributes
    ----------
    page : str
        HTML that needs nothing else.
    evidently : dict
        Their numbers: of ``columns`` and of ``classification``; absent where there
        are too few rows to draw.
    """

    page: str
    evidently: dict[str, Any]


def draw_page(
    window: DriftWindow,
    labelled: LabelledWindow,
    reference: DriftReference,
    verdict: DriftVerdict,
    options: DriftOptions,
) -> DriftPage:
    """Draw, with Evidently, the columns of window and reference side by side, and what labels say.

    Its distances are those of the verdict but for the smaller sample; its own
    verdict on the data set is not: see ``docs/monitoring.md``.
    """
    columns = None if verdict.verdict == "insufficient_data" else _columns(window, reference, options)
    classification = _classification(labelled)
    reports = {"columns": columns, "classification": classification}
    told = f"{_banner(verdict)}{_labels_section(labelled, classification)}"
    if columns is None:
        page = _document(_head(), told)
    else:
        page = columns.get_html_str(as_iframe=False)
        page = page.replace("<head>", f"<head>{_head()}", 1).replace("<body>", f"<body>{told}", 1)
    return DriftPage(page, {name: json.loads(each.json()) for name, each in reports.items() if each})


def _columns(window: DriftWindow, reference: DriftReference, options: DriftOptions) -> Snapshot:
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
    return Report([preset, DataSummaryPreset()]).run(
        current_data=Dataset.from_pandas(current, data_definition=definition),
        reference_data=Dataset.from_pandas(before, data_definition=definition),
    )


def _classification(labelled: LabelledWindow) -> Snapshot | None:
    if min(labelled.frauds, labelled.legitimate) < LEAST_OF_A_CLASS:
        return None
    frame = pd.DataFrame({"label": labelled.labels, "flagged": labelled.flagged, SCORE: labelled.scores})
    definition = DataDefinition(
        numerical_columns=[SCORE],
        categorical_columns=["label", "flagged"],
        classification=[
            BinaryClassification(
                target="label", prediction_labels="flagged", prediction_probas=SCORE, pos_label=1
            )
        ],
    )
    return Report([ClassificationPreset()]).run(
        current_data=Dataset.from_pandas(frame, data_definition=definition), reference_data=None
    )


def _labels_section(labelled: LabelledWindow, classification: Snapshot | None) -> str:
    told = (
        f"{len(labelled.labels):,} transactions of this champion from {_moment(labelled.since)} to "
        f"{_moment(labelled.until)} have settled labels, {labelled.frauds:,} of them frauds. Later ones "
        "still wait for theirs."
    )
    if classification is None:
        told += f" Figures need {LEAST_OF_A_CLASS} frauds and as many legitimate ones."
        return f'<section style="{_STYLE}"><p>{told}</p></section>'
    # A document of its own: Evidently's scripts draw one report in each.
    drawn = html.escape(classification.get_html_str(as_iframe=False))
    style = "width:100%;height:60em;border:0"
    frame = f'<iframe title="Figures by labels" style="{style}" srcdoc="{drawn}"></iframe>'
    return f'<details style="{_STYLE}"><summary>What labels say: {told}</summary>{frame}</details>'


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
    return f'<header style="{_STYLE}">{"".join(lines)}</header>'


def _moment(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
