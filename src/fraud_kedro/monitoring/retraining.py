"""Whether to train anew: a rule over drift, performance and age, and a guard that holds it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from fraud_kedro.champion.bundle import Metric
from fraud_kedro.monitoring.drift_verdict import DriftVerdict
from fraud_kedro.monitoring.performance_report import Performance
from fraud_kedro.monitoring.retraining_history import HistoryEntry
from fraud_kedro.options import Options


class DriftRule(Options):
    """When drift asks for a new model.

    Attributes
    ----------
    verdicts : tuple of str
        Those that do; none of them switches the rule off.
    max_age_days : float
        An older verdict says nothing.
    """

    verdicts: tuple[Literal["warn", "drift"], ...] = ("drift",)
    max_age_days: float = Field(default=7.0, gt=0)


class PerformanceRule(Options):
    """When what labels say asks for a new model.

    Attributes
    ----------
    figures : tuple of str
        Any of them that is worse than the champion's own test figure: below the
        lower end of its interval, and with an upper end below its value.
    days : float
        The transactions that are looked at.
    by : {"day", "week"}
        The periods of the report.
    least_of_a_class : int
        Settled frauds, and legitimate transactions, that a figure needs.
    repetitions : int
        Of the bootstrap.
    """

    figures: tuple[Literal["recall", "average_precision", "precision"], ...] = ("recall", "average_precision")
    days: float = Field(default=60.0, gt=0, le=3650)
    by: Literal["day", "week"] = "day"
    least_of_a_class: int = Field(default=10, ge=2)
    repetitions: int = Field(default=200, ge=10)


class AgeRule(Options):
    """When its age asks for a new model; null switches the rule off."""

    max_days: float | None = Field(default=90.0, gt=0)


class Guard(Options):
    """What stops a loop that trains for ever.

    Attributes
    ----------
    promotions : int
        At most so many in `period_days`.
    period_days : float
    cooldown_days : float
        After a retraining that was refused, or failed.
    """

    promotions: int = Field(default=2, ge=1)
    period_days: float = Field(default=7.0, gt=0)
    cooldown_days: float = Field(default=1.0, ge=0)


class RetrainingRule(Options):
    """The ``retraining.rule`` parameters."""

    drift: DriftRule = DriftRule()
    performance: PerformanceRule = PerformanceRule()
    age: AgeRule = AgeRule()
    guard: Guard = Guard()


class Reigning(Options):
    """What the rule needs to know of the champion.

    Attributes
    ----------
    model_version : str
        As the log has it.
    created : datetime
        When it was exported.
    metrics : dict of str to Metric
        On its test rows.
    """

    model_version: str
    created: datetime
    metrics: dict[str, Metric]


class Decision(Options):
    """Whether to train anew, and why.

    Attributes
    ----------
    retrain : bool
    reason : str
        One sentence.
    triggers : dict of str to str
        What asks for it, by rule: drift, performance, age.
    unknown : dict of str to str
        What could not be judged, by rule.
    held_back : str or None
        What the guard says, where it stopped what a rule asked for.
    """

    decided_at: datetime
    retrain: bool
    reason: str
    champion: str
    triggers: dict[str, str] = Field(default_factory=dict)
    unknown: dict[str, str] = Field(default_factory=dict)
    held_back: str | None = None


def decide(
    performance: Performance,
    drift: DriftVerdict | None,
    champion: Reigning,
    history: Sequence[HistoryEntry],
    rule: RetrainingRule,
    now: datetime,
) -> Decision:
    """Decide whether to train anew.

    Parameters
    ----------
    performance : Performance
    drift : DriftVerdict or None
        None where nobody has looked.
    champion : Reigning
    history : sequence of HistoryEntry
        What was decided and done before, in that order.
    rule : RetrainingRule
    now : datetime

    Returns
    -------
    Decision
    """
    triggers: dict[str, str] = {}
    unknown: dict[str, str] = {}
    judged = {
        "drift": _drifted(drift, champion, rule.drift, now),
        "performance": _worse(performance, champion, rule.performance),
        "age": _old(champion, rule.age, now),
    }
    for name, (is_trigger, sentence) in judged.items():
        if is_trigger:
            triggers[name] = sentence
        elif is_trigger is None:
            unknown[name] = sentence
    held_back = _held_back(history, rule.guard, now) if triggers else None
    return Decision(
        decided_at=now,
        retrain=bool(triggers) and held_back is None,
        reason=_reason(triggers, unknown, held_back),
        champion=champion.model_version,
        triggers=triggers,
        unknown=unknown,
        held_back=held_back,
    )


def _reason(triggers: Mapping[str, str], unknown: Mapping[str, str], held_back: str | None) -> str:
    if triggers:
        asked = "; ".join(triggers.values())
        return f"{asked}. Not now: {held_back}." if held_back else f"{asked}."
    left = f" (not known: {'; '.join(unknown.values())})" if unknown else ""
    return f"nothing asks for a new model{left}."


def _drifted(
    drift: DriftVerdict | None, champion: Reigning, rule: DriftRule, now: datetime
) -> tuple[bool | None, str]:
    if not rule.verdicts:
        return False, ""
    if drift is None:
        return None, "nobody has looked for drift"
    looked = drift.window.until
    if looked < now - timedelta(days=rule.max_age_days):
        return None, f"the last look for drift, {looked:%Y-%m-%d}, is too old"
    if looked <= champion.created or drift.model_version != champion.model_version:
        return None, "the last look for drift was at another champion"
    if drift.verdict == "insufficient_data":
        return None, f"too little data to see drift ({drift.reason})"
    if drift.verdict in rule.verdicts:
        return True, f"the data have drifted ({drift.reason})"
    return False, ""


def _worse(performance: Performance, champion: Reigning, rule: PerformanceRule) -> tuple[bool | None, str]:
    if not rule.figures:
        return False, ""
    scored = performance.of_version(champion.model_version)
    if scored is None:
        return None, f"{champion.model_version} has scored nothing in the last {rule.days:g} days"
    if scored.figures is None:
        return None, (scored.figures_problem or "").rstrip(".")
    for name in rule.figures:
        expected, found = champion.metrics.get(name), getattr(scored.figures, name)
        if expected is None or expected.low is None or found.high is None:
            continue
        if found.value < expected.low and found.high < expected.value:
            return True, (
                f"{name.replace('_', ' ')} is {found.value:.3f} ({found.low:.3f} to {found.high:.3f}) on "
                f"{scored.frauds} frauds, {expected.value:.3f} ({expected.low:.3f} to {expected.high:.3f}) "
                "was expected"
            )
    return False, ""


def _old(champion: Reigning, rule: AgeRule, now: datetime) -> tuple[bool, str]:
    age = (now - champion.created) / timedelta(days=1)
    if rule.max_days is None or age <= rule.max_days:
        return False, ""
    return True, f"the champion is {age:.0f} days old, more than {rule.max_days:g}"


def _held_back(history: Sequence[HistoryEntry], guard: Guard, now: datetime) -> str | None:
    done = [entry for entry in history if entry.outcome is not None]
    begin = now - timedelta(days=guard.period_days)
    promoted = [entry for entry in done if entry.outcome == "promoted" and entry.at > begin]
    if len(promoted) >= guard.promotions:
        return (
            f"{len(promoted)} retrainings were promoted in the last {guard.period_days:g} days, and "
            f"retraining.rule.guard.promotions allows {guard.promotions}; someone should look"
        )
    if done and done[-1].outcome != "promoted":
        until = done[-1].at + timedelta(days=guard.cooldown_days)
        if until > now:
            return (
                f"the last retraining ended as {done[-1].outcome} ({done[-1].reason}), so none before "
                f"{until:%Y-%m-%d %H:%M} UTC"
            )
    return None
