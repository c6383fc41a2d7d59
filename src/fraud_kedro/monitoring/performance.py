"""Performance over time, by what labels have settled; an estimate where they have not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud_kedro.champion.bundle import Thresholds
from fraud_kedro.evaluation.bootstrap import bootstrap, interval
from fraud_kedro.evaluation.measures import Measure, costs_of_decisions, decisions, measure, ranking
from fraud_kedro.evaluation.metrics import ScoredRows
from fraud_kedro.evaluation.thresholds import Costs
from fraud_kedro.monitoring.performance_report import (
    Declined,
    Estimate,
    Figure,
    Figures,
    Performance,
    Period,
    Scored,
    ScoredPeriod,
)
from fraud_kedro.monitoring.settled import DECLINED, LEAST_OF_A_CLASS, LabelOptions, settled_labels
from fraud_kedro.prediction_log import PredictionReader

LENGTHS = {"day": timedelta(days=1), "week": timedelta(days=7)}
# A Monday.
_FIRST = datetime(1970, 1, 5, tzinfo=UTC)

MOST_ROWS = 1_000_000
_ROWS_AT_ONCE = 20_000
SEED = 0

# What was decided, as a score: the thresholds were whatever they were then.
_MADE = Thresholds(flag=0.5, decline=1.0, policy="made")
_SCORE_OF = {"approve": 0.0, "review": 0.5, DECLINED: 1.0}

_COLUMNS = ("timestamp", "model_version", "probability", "prediction", "decision")


@dataclass(frozen=True)
class _Rows:
    """Transactions of the log, the newest first; NaN for what is not known."""

    arrived: NDArray[np.datetime64]
    version: NDArray[Any]
    score: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    decision: NDArray[Any]
    label: NDArray[np.float64]
    amount: NDArray[np.float64]
    mature: NDArray[np.bool_]
    settled: NDArray[np.float64]

    def take(self, rows: NDArray[Any]) -> _Rows:
        return _Rows(**{name: values[rows] for name, values in vars(self).items()})


def performance_over_time(
    reader: PredictionReader,
    *,
    days: float,
    by: Period,
    labels: LabelOptions,
    costs: Costs,
    amount: str | None,
    repetitions: int,
    as_of: datetime | None = None,
    most_rows: int = MOST_ROWS,
    least_of_a_class: int = LEAST_OF_A_CLASS,
) -> Performance:
    """Measure every version that answered in the last days, in all and by period.

    Parameters
    ----------
    reader : PredictionReader
    days : float
    by : {"day", "week"}
        In UTC, by arrival; weeks begin on Monday.
    labels : LabelOptions
    costs : Costs
        Prices of a review and a false decline; a missed fraud costs its amount.
    amount : str or None
        Name of the feature that is the amount; without it, nothing is said of costs.
    repetitions : int
        Of the bootstrap.
    as_of : datetime, optional
        What was known then; now by default.
    most_rows : int
        The newest so many transactions are read at most.
    least_of_a_class : int
        Settled frauds, and legitimate transactions, that figures need.

    Returns
    -------
    Performance
    """
    now = as_of or datetime.now(UTC)
    since = now - timedelta(days=days)
    read = reader.labelled(
        since=since,
        columns=_COLUMNS,
        numbers=[] if amount is None else [amount],
        known_by=now,
        answers_only=True,
        limit=most_rows + 1,
    )
    rows = _in_columns(read, amount, now, labels)
    is_all = len(rows.score) <= most_rows
    rows = rows.take(np.arange(min(len(rows.score), most_rows)))

    def scored(part: _Rows) -> dict[str, Any]:
        return _scored(part, costs, repetitions, least_of_a_class)

    has_rows = len(rows.score) > 0
    return Performance(
        as_of=now,
        since=_moment(rows.arrived.min()) if has_rows else since,
        until=_moment(rows.arrived.max()) if has_rows else now,
        by=by,
        rows=len(rows.score),
        is_all=is_all,
        labels=labels,
        prices=Costs(review_cost=costs.review_cost, false_decline_cost=costs.false_decline_cost),
        labels_without_prediction=reader.labels_without_prediction(),
        from_the_future=int((rows.arrived > _utc(now)).sum()),
        versions=tuple(Scored(**scored(part)) for part in _by_version(rows)),
        periods=tuple(_periods(rows, LENGTHS[by], scored)),
    )


def _in_columns(
    read: Iterator[Mapping[str, Any]], amount: str | None, now: datetime, options: LabelOptions
) -> _Rows:
    """Read some thousands of rows at a time: as columns they take less than a third of the memory."""
    parts = [_columns([], amount, now, options)]
    while part := [*islice(read, _ROWS_AT_ONCE)]:
        parts.append(_columns(part, amount, now, options))
    return _Rows(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})


def _columns(
    read: list[Mapping[str, Any]], amount: str | None, now: datetime, options: LabelOptions
) -> _Rows:
    def numbers(name: str) -> NDArray[np.float64]:
        return np.array([np.nan if row[name] is None else row[name] for row in read], dtype=np.float64)

    def texts(name: str) -> NDArray[Any]:
        # One object for each name, not for each row.
        return np.array([sys.intern(row[name]) for row in read], dtype=object)

    arrived = np.array([_utc(row["timestamp"]) for row in read], dtype="datetime64[us]")
    label, decision = numbers("label"), texts("decision")
    mature = arrived <= _utc(options.mature_from(now))
    return _Rows(
        arrived=arrived,
        version=texts("model_version"),
        score=numbers("probability"),
        flagged=numbers("prediction") == 1,
        decision=decision,
        label=label,
        amount=np.full(len(read), np.nan) if amount is None else numbers(amount),
        mature=mature,
        settled=settled_labels(label, decision, mature, options),
    )


def _by_version(rows: _Rows) -> Iterator[_Rows]:
    for name in sorted(set(rows.version)):
        yield rows.take(rows.version == name)


def _periods(
    rows: _Rows, length: timedelta, scored: Callable[[_Rows], dict[str, Any]]
) -> Iterator[ScoredPeriod]:
    number = (rows.arrived - _utc(_FIRST)) // np.timedelta64(length)
    for each in np.unique(number):
        start = _FIRST + int(each) * length
        for part in _by_version(rows.take(number == each)):
            yield ScoredPeriod(start=start, end=start + length, **scored(part))


def _scored(rows: _Rows, costs: Costs, repetitions: int, least: int) -> dict[str, Any]:
    settled = rows.take(np.isfinite(rows.settled))
    declined = rows.take(rows.decision == DECLINED)
    problem = _missing(settled, int((~rows.mature).sum()), least)
    return {
        "model_version": str(rows.version[0]),
        "predictions": len(rows.score),
        "flagged": int(rows.flagged.sum()),
        "settled": len(settled.score),
        "waiting": int((~rows.mature).sum()),
        "frauds": int(settled.settled.sum()),
        "declined": Declined(
            transactions=len(declined.score),
            reviewed=int(np.isfinite(declined.label).sum()),
            frauds=int(np.nansum(declined.label)),
        ),
        "basis": "estimate" if problem else "labels",
        "figures": None if problem else _figures(settled, costs, repetitions),
        "figures_problem": problem,
        "estimate": estimated(rows.score, rows.flagged, _made(rows), rows.amount, costs),
    }


def _missing(settled: _Rows, waiting: int, least: int) -> str | None:
    frauds = int(settled.settled.sum())
    legitimate = len(settled.score) - frauds
    if min(frauds, legitimate) >= least:
        return None
    return (
        f"Too few settled transactions: {least} frauds and {least} legitimate ones are needed, {frauds} and "
        f"{legitimate} there are; {waiting} still wait for their labels."
    )


def _figures(settled: _Rows, costs: Costs, repetitions: int) -> Figures:
    labels = settled.settled.astype(np.int8)
    weights = np.ones(len(labels))
    has_amounts = bool(np.isfinite(settled.amount).all())
    made = ScoredRows(labels, _made(settled), weights, settled.amount if has_amounts else None)
    ranked = ScoredRows(labels, settled.score, weights)
    of_decisions: list[Measure] = [decisions(made, _MADE)]
    if has_amounts:
        of_decisions.append(costs_of_decisions(made, _MADE, costs))
    values: dict[str, float] = {}
    intervals: dict[str, tuple[float, float] | None] = {}
    for rows, measures in ((made, of_decisions), (ranked, [ranking(ranked)])):
        values |= measure(rows, measures)
        drawn = bootstrap(rows, measures, repetitions=repetitions, seed=SEED)
        intervals |= {name: interval(draws) for name, draws in drawn.items()}
    return Figures(
        **{name: _figure(values[name], intervals[name]) for name in Figures.model_fields if name in values}
    )


def _figure(value: float, ends: tuple[float, float] | None) -> Figure:
    low, high = (None, None) if ends is None else ends
    return Figure(value=value, low=low, high=high)


def estimated(
    scores: NDArray[np.float64],
    flagged: NDArray[np.bool_],
    made: NDArray[np.float64],
    amounts: NDArray[np.float64],
    costs: Costs,
) -> Estimate:
    """What calibrated probabilities promise: each is a share of a fraud.

    Parameters
    ----------
    scores : ndarray of shape (n_transactions,), calibrated probability of fraud
    flagged : ndarray of shape (n_transactions,)
    made : ndarray of shape (n_transactions,)
        0 where it was approved, .5 where it was reviewed, 1 where it was declined.
    amounts : ndarray of shape (n_transactions,)
        NaN where they are not known.
    costs : Costs

    Notes
    -----
    Confidence-based performance estimation (Białek and others, 2023, "Estimating
    Model Performance Under Covariate Shift Without Labels"): it sees that the
    transactions have become other ones, and it cannot see that what makes a fraud has.
    Average precision takes the precision at a fraud's place given that it is one: with
    that of the place alone it is too low where frauds are few.
    """
    expected = float(scores.sum())
    caught = float(scores[flagged].sum())
    ranked = np.sort(scores)[::-1]
    # Of a fraud at this place: itself, and the frauds that are expected before it.
    precision_at = (1 + np.cumsum(ranked) - ranked) / np.arange(1, len(ranked) + 1)
    cost = savings = None
    if len(amounts) and np.isfinite(amounts).all():
        missed = float((scores * amounts)[made == 0].sum())
        spent = costs.review_cost * (made == 0.5).sum()
        spent += costs.false_decline_cost * (1 - scores[made == 1]).sum()
        cost = float(missed + spent) / len(scores)
        savings = _ratio(float((scores * amounts).sum() - missed - spent), float((scores * amounts).sum()))
    return Estimate(
        frauds=expected,
        recall=_ratio(caught, expected),
        precision=_ratio(caught, float(flagged.sum())),
        average_precision=_ratio(float((ranked * precision_at).sum()), expected),
        expected_cost=cost,
        savings=savings,
    )


def _made(rows: _Rows) -> NDArray[np.float64]:
    return np.array([_SCORE_OF[name] for name in rows.decision], dtype=np.float64)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _moment(utc: np.datetime64) -> datetime:
    moment: datetime = utc.astype(datetime)
    return moment.replace(tzinfo=UTC)


def _utc(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")
