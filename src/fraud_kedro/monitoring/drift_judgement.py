"""From a window and a reference to the verdict."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.monitoring.drift_options import DriftOptions
from fraud_kedro.monitoring.drift_reference import DriftReference
from fraud_kedro.monitoring.drift_tests import (
    Distance,
    distance,
    holm,
    rate_p_value,
    risen_p_value,
    shares_p_value,
    stability_index,
    total_variation,
)
from fraud_kedro.monitoring.drift_verdict import (
    Alarm,
    ColumnDrift,
    Direction,
    DriftVerdict,
    Verdict,
    WindowRecord,
)
from fraud_kedro.monitoring.drift_window import DriftWindow, counts_by_name, covers_a_day

# A distance that is at least so much a difference of means has a direction.
_MOSTLY = 0.5
_NAMED_COLUMNS = 3


class _Found(NamedTuple):
    verdict: Verdict
    reason: str


def judge(
    window: DriftWindow, reference: DriftReference, options: DriftOptions, *, run_id: str
) -> DriftVerdict:
    """Judge whether a window's transactions look like the reference's.

    Parameters
    ----------
    window : DriftWindow
    reference : DriftReference
    options : DriftOptions
    run_id : str
    """
    too_few = _too_few(window, reference, options)
    notes: list[str] = []
    columns: tuple[ColumnDrift, ...] = ()
    alarms: dict[str, Alarm] = {}
    if too_few is None:
        columns = _columns(window, reference, options)
        alarms = {
            **_score_alarms(window, reference, options, notes),
            **_hour_alarm(window, reference, options, notes),
        }
    drifted = [column for column in columns if column.is_drifted]
    importance = float(sum(column.importance for column in drifted))
    share = len(drifted) / len(columns) if columns else 0.0
    are_many = importance >= options.drifted_importance or share >= options.drifted_share
    left_out = 1 - window.compared / window.rows if window.rows else 0.0
    if left_out > options.left_out_share:
        notes.append(
            f"{window.rows - window.compared:,} of {window.rows:,} rows are left out: "
            f"{window.other_schema:,} have other features than the champion reads, of "
            f"{window.without_features:,} retention has taken the features."
        )
    found = _found(too_few, alarms, drifted, are_many=are_many, is_partial=left_out > options.left_out_share)
    return DriftVerdict(
        id=run_id,
        created=datetime.now(UTC),
        verdict=found.verdict,
        drift_detected=found.verdict == "drift",
        reason=found.reason,
        model_version=reference.model_version,
        reference_rows=len(reference.rows),
        window=_window_record(window),
        drifted_columns=len(drifted),
        drifted_share=share,
        drifted_importance=importance,
        alarms=alarms,
        columns=columns,
        false_alarm_budget=sum(options.false_alarms.model_dump().values()),
        notes=tuple(notes),
    )


def _too_few(window: DriftWindow, reference: DriftReference, options: DriftOptions) -> str | None:
    if len(reference.rows) < options.least_rows:
        return (
            f"The champion's reference is worth {len(reference.rows):,} rows, and at least "
            f"{options.least_rows:,} are needed."
        )
    if window.compared >= options.least_rows:
        return None
    days = (window.until - window.since).total_seconds() / 86_400
    fitting = "" if window.compared == window.rows else f", {window.compared:,} of which can be compared"
    return (
        f"{window.rows:,} transactions arrived in the last {days:g} days{fitting}; at least "
        f"{options.least_rows:,} are needed."
    )


def _columns(
    window: DriftWindow, reference: DriftReference, options: DriftOptions
) -> tuple[ColumnDrift, ...]:
    """Compare every feature but time, which the mix of hours stands for."""
    schema, effects = reference.schema, options.effects
    numbers = [number for number, name in enumerate(schema.features) if name != schema.time]
    if not numbers:
        return ()
    found = [distance(reference.rows[:, n], window.sample[:, n]) for n in numbers]
    adjusted = holm(np.array([each.p_value for each in found]))
    zeros = (reference.rows == 0).sum(axis=0)
    rows = len(reference.rows)
    zeros_adjusted = holm(
        np.array([rate_p_value(zeros[n], rows, int(window.zeros[n]), window.compared) for n in numbers])
    )
    columns = []
    for place, n in enumerate(numbers):
        each = found[place]
        before, now = zeros[n] / rows, window.zeros[n] / window.compared
        moved = adjusted[place] <= options.false_alarms.columns and (
            each.wasserstein >= effects.wasserstein or each.statistic >= effects.ks
        )
        emptied = zeros_adjusted[place] <= options.false_alarms.zeros and abs(now - before) >= effects.zeros
        columns.append(
            ColumnDrift(
                column=schema.features[n],
                importance=float(reference.importance[n]),
                statistic=each.statistic,
                p_value=each.p_value,
                adjusted_p_value=float(adjusted[place]),
                threshold=options.false_alarms.columns,
                distance=each.wasserstein,
                distance_threshold=effects.wasserstein,
                direction=_direction(each, is_drifted=bool(moved or emptied)),
                zeros_before=float(before),
                zeros_now=float(now),
                zeros_p_value=float(zeros_adjusted[place]),
                is_drifted=bool(moved or emptied),
            )
        )
    return tuple(sorted(columns, key=lambda column: -column.importance))


def _direction(found: Distance, *, is_drifted: bool) -> Direction:
    if not is_drifted:
        return "same"
    if abs(found.shift) < _MOSTLY * found.wasserstein:
        return "other shape"
    return "higher" if found.shift > 0 else "lower"


def _score_alarms(
    window: DriftWindow, reference: DriftReference, options: DriftOptions, notes: list[str]
) -> dict[str, Alarm]:
    """Watch the champion's own scores: how many are flagged, how many are high, their distribution."""
    if window.scored < options.least_rows:
        notes.append(
            f"Scores are not judged: {window.scored:,} rows were scored by {reference.model_version}, at "
            f"least {options.least_rows:,} are needed."
        )
        return {}
    base, rows = reference.base_rows, window.scored
    counts = {
        "flagged": (reference.flagged_share, window.flagged),
        "probable_frauds": (reference.probable_share, window.probable),
    }
    adjusted = holm(np.array([rate_p_value(share * base, base, now, rows) for share, now in counts.values()]))
    alarms = {}
    for (name, (share, now)), p_value in zip(counts.items(), adjusted, strict=True):
        factor = _factor(share * base, base, now, rows)
        threshold = options.false_alarms.alerts
        if name == "probable_frauds" and factor > 1:
            p_value, threshold = (
                risen_p_value(share * base, base, now, rows),
                options.false_alarms.more_frauds,
            )
        alarms[name] = _alarm(
            "binomial",
            p_value,
            threshold,
            max(factor, 1 / factor),
            options.effects.alerts,
            before=share,
            now=now / rows,
        )
    before = reference.score_shares * base
    alarms["scores"] = _alarm(
        "psi",
        shares_p_value(before, window.score_counts.astype(np.float64)),
        options.false_alarms.scores,
        stability_index(before, window.score_counts.astype(np.float64)),
        options.effects.psi,
    )
    return alarms


def _factor(before: float, of_before: float, now: int, of_now: int) -> float:
    """How many times as often; half a case is added to both, so that none is not infinitely fewer."""
    return ((now + 0.5) / of_now) / ((before + 0.5) / of_before)


def _hour_alarm(
    window: DriftWindow, reference: DriftReference, options: DriftOptions, notes: list[str]
) -> dict[str, Alarm]:
    hours: NDArray[np.float64] = window.hours.astype(np.float64)
    if reference.hours is None:
        notes.append("The mix of hours is not judged: the bundle does not tell that of a whole day.")
    elif hours.sum() < options.least_rows:
        notes.append("The mix of hours is not judged: the log does not tell when transactions happened.")
    elif not covers_a_day(window):
        notes.append(
            f"The mix of hours is not judged: the window's transactions cover {window.hours_covered:.1f} "
            "hours, less than a day."
        )
    else:
        return {
            "hours": _alarm(
                "chi-square",
                shares_p_value(reference.hours, hours),
                options.false_alarms.hours,
                total_variation(reference.hours, hours),
                options.effects.hours,
            )
        }
    return {}


def _alarm(
    test: str,
    p_value: float,
    threshold: float,
    effect: float,
    effect_threshold: float,
    *,
    before: float | None = None,
    now: float | None = None,
) -> Alarm:
    return Alarm(
        test=test,
        before=before,
        now=now,
        p_value=float(p_value),
        threshold=threshold,
        effect=effect,
        effect_threshold=effect_threshold,
        is_raised=bool(p_value <= threshold and effect >= effect_threshold),
    )


def _found(
    too_few: str | None,
    alarms: dict[str, Alarm],
    drifted: list[ColumnDrift],
    *,
    are_many: bool,
    is_partial: bool,
) -> _Found:
    if too_few is not None:
        return _Found("insufficient_data", too_few)
    told = [_told(name, alarm) for name, alarm in alarms.items() if alarm.is_raised]
    of_columns = _told_columns(drifted) if drifted else ""
    if told or are_many:
        clauses = [of_columns, *told] if of_columns else [told[0][0].upper() + told[0][1:], *told[1:]]
        return _Found("drift", f"{'; '.join(clauses)}.")
    if of_columns:
        return _Found("warn", f"{of_columns}, which hardly moves the score.")
    if is_partial:
        return _Found("warn", "What could be compared has not drifted, but much of the log could not be.")
    return _Found("ok", "Nothing has changed by more than chance and by as much as would matter.")


def _told_columns(drifted: list[ColumnDrift]) -> str:
    names = [f"{column.column} ({_told_change(column)})" for column in drifted[:_NAMED_COLUMNS]]
    more = len(drifted) - len(names)
    ending = f" and {more} more" if more > 0 else ""
    verb = "has" if len(drifted) == 1 else "have"
    return f"{', '.join(names)}{ending} {verb} drifted"


def _told_change(column: ColumnDrift) -> str:
    if abs(column.zeros_now - column.zeros_before) > max(column.statistic, column.distance) / 2:
        return f"zeros in {column.zeros_now:.1%} of the rows, {column.zeros_before:.1%} before"
    return f"{column.direction} by {column.distance:.2f} standard deviations"


def _told(name: str, alarm: Alarm) -> str:
    if alarm.before is not None and alarm.now is not None:
        what = {"flagged": "flagged transactions", "probable_frauds": "scores of one half and more"}[name]
        return f"{what} are {alarm.now:.3%} of all, {alarm.before:.3%} before"
    if name == "hours":
        return f"{alarm.effect:.0%} of the transactions happen at another hour of the day"
    return f"scores are distributed otherwise (stability index {alarm.effect:.2f})"


def _window_record(window: DriftWindow) -> WindowRecord:
    return WindowRecord(
        since=window.since,
        until=window.until,
        rows=window.rows,
        compared=window.compared,
        without_features=window.without_features,
        other_schema=window.other_schema,
        sampled=len(window.sample),
        scored_by_champion=window.scored,
        hours_covered=round(window.hours_covered, 3),
        model_versions=counts_by_name(window.versions),
    )
