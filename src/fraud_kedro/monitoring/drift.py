"""Drift from end to end: the log is read, compared with a bundle's reference, judged, drawn and kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from fraud_kedro.champion.bundle import Bundle
from fraud_kedro.monitoring.drift_files import DriftReport, keep_report
from fraud_kedro.monitoring.drift_judgement import judge
from fraud_kedro.monitoring.drift_options import DriftOptions
from fraud_kedro.monitoring.drift_reference import DriftReference, reference_of
from fraud_kedro.monitoring.drift_verdict import DriftVerdict
from fraud_kedro.monitoring.drift_window import DriftWindow, logged_rows, summarise
from fraud_kedro.monitoring.labelled_window import LabelledWindow, read_labelled_window
from fraud_kedro.monitoring.settled import LabelOptions
from fraud_kedro.prediction_log import PredictionReader


def run_drift(
    reader: PredictionReader,
    bundle: Bundle,
    page: Path,
    options: DriftOptions,
    labels: LabelOptions,
    *,
    run_id: str,
    seed: int = 0,
) -> DriftVerdict:
    """Judge the last days and keep the report.

    Parameters
    ----------
    reader : PredictionReader
    bundle : Bundle
        Of the champion.
    page : Path
        Where the newest page goes.
    options : DriftOptions
    labels : LabelOptions
        When labels are settled.
    run_id : str
    seed : int

    Raises
    ------
    DriftError
        If the bundle brings nothing to compare with, or the report cannot be kept.
    PredictionLogError
        If the log cannot be read.
    """
    # Evidently's import takes seconds, which pipelines beside this one need not wait for.
    from fraud_kedro.monitoring.drift_page import draw_page

    reference = reference_of(bundle, seed=seed)
    window = read_window(reader, reference, options, seed=seed)
    verdict = judge(window, reference, options, run_id=run_id)
    labelled = read_labelled(reader, reference, options, labels)
    drawn = draw_page(window, labelled, reference, verdict, options)
    keep_report(page, DriftReport(verdict, drawn.page, drawn.evidently, options.keep_reports))
    return verdict


def read_window(
    reader: PredictionReader, reference: DriftReference, options: DriftOptions, *, seed: int
) -> DriftWindow:
    """Go through the predictions that arrived in the last days.

    By arrival, the service's own clock: that of a terminal may be years ahead.
    """
    until = datetime.now(UTC)
    since = until - timedelta(days=options.days)
    return summarise(
        logged_rows(reader, since, until),
        reference,
        since=since,
        until=until,
        sample_rows=options.sample_rows,
        seed=seed,
    )


def read_labelled(
    reader: PredictionReader, reference: DriftReference, options: DriftOptions, labels: LabelOptions
) -> LabelledWindow:
    """Read as many days of the champion's settled transactions."""
    return read_labelled_window(
        reader, reference.model_version, labels, days=options.days, most_rows=options.labelled_rows
    )
