"""From the prediction log to a verdict on drift and its report."""

from __future__ import annotations

import logging

from fraud_kedro.champion.bundle import Bundle
from fraud_kedro.monitoring.drift import read_labelled, read_window
from fraud_kedro.monitoring.drift_files import DriftReport, new_run_id
from fraud_kedro.monitoring.drift_judgement import judge
from fraud_kedro.monitoring.drift_options import DriftOptions
from fraud_kedro.monitoring.drift_reference import DriftReference, reference_of
from fraud_kedro.monitoring.drift_verdict import DriftVerdict
from fraud_kedro.monitoring.drift_window import DriftWindow
from fraud_kedro.monitoring.labelled_window import LabelledWindow
from fraud_kedro.monitoring.settled import LabelOptions
from fraud_kedro.prediction_log import PredictionReader

logger = logging.getLogger(__name__)


def read_reference(champion_bundle: Bundle, seed: int) -> DriftReference:
    """Take from the champion's bundle what transactions are compared with."""
    return reference_of(champion_bundle, seed=seed)


def count_window(
    prediction_log: PredictionReader, drift_reference: DriftReference, monitoring: DriftOptions, seed: int
) -> DriftWindow:
    """Count the answered transactions of the last days, and draw a sample of them."""
    window = read_window(prediction_log, drift_reference, monitoring, seed=seed)
    logger.info("%s transactions since %s", f"{window.rows:,}", f"{window.since:%Y-%m-%d %H:%M}")
    return window


def judge_drift(
    drift_window: DriftWindow, drift_reference: DriftReference, monitoring: DriftOptions
) -> DriftVerdict:
    """Judge whether these transactions look like the reference's."""
    verdict = judge(drift_window, drift_reference, monitoring, run_id=new_run_id())
    level = logging.INFO if verdict.verdict == "ok" else logging.WARNING
    logger.log(level, "%s: %s", verdict.verdict, verdict.reason)
    return verdict


def read_settled(
    prediction_log: PredictionReader,
    drift_reference: DriftReference,
    monitoring: DriftOptions,
    labels: LabelOptions,
) -> LabelledWindow:
    """Read the champion's newest transactions whose labels are settled."""
    return read_labelled(prediction_log, drift_reference, monitoring, labels)


def draw_drift(
    drift_window: DriftWindow,
    labelled_window: LabelledWindow,
    drift_reference: DriftReference,
    drift_verdict: DriftVerdict,
    monitoring: DriftOptions,
) -> DriftReport:
    """Draw Evidently's page below the verdict, and what labels say."""
    # Its import takes seconds that no other pipeline need wait for.
    from fraud_kedro.monitoring.drift_page import draw_page

    drawn = draw_page(drift_window, labelled_window, drift_reference, drift_verdict, monitoring)
    return DriftReport(drift_verdict, drawn.page, drawn.evidently, monitoring.keep_reports)
