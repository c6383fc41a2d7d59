"""What the API's pages say of its answers, as pydantic models."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fraud_kedro.champion.bundle import DataSource, Metric, Thresholds
from fraud_kedro.prediction_log.tables import MAX_ID_LENGTH


class _Document(BaseModel):
    # Fields called model_... are meant.
    model_config = ConfigDict(protected_namespaces=())


class Prediction(_Document):
    """The answer to one transaction."""

    transaction_id: str = Field(description="The client's, or a new one (UUIDv7).")
    prediction: Literal[0, 1] = Field(description="1 (fraud) from the flag threshold on.")
    probability: float = Field(ge=0, le=1, description="Calibrated probability of fraud.")
    decision: Literal["approve", "review", "decline"]
    model_version: str
    timestamp: datetime = Field(description="Arrival, UTC.")


class Reason(_Document):
    """One feature's part in a score."""

    feature: str
    value: float = Field(description="As the model reads it: float32, time reduced.")
    contribution: float = Field(description="In log-odds; positive towards fraud.")


class ExplainedPrediction(Prediction):
    """The answer with ``explain=true``."""

    reasons: list[Reason] | None = Field(
        description="The largest contributions of either sign, the largest first. base, these contributions "
        "and rest add up to the log-odds of the probability."
    )
    base: float | None = Field(description="Log-odds of a usual transaction.")
    rest: float | None = Field(description="The other features' contributions together.")
    reasons_problem: str | None = Field(description="Why there are no reasons; null where there are.")


class Problem(_Document):
    """One thing wrong with a request."""

    type: str
    loc: list[str | int] = Field(description="Where: body, row of a batch, field.")
    msg: str


class Problems(_Document):
    """Everything wrong with a request."""

    detail: list[Problem]


class Refusal(_Document):
    """Why a request is not answered."""

    detail: str


class RowProblems(_Document):
    """Why a transaction of a batch has no prediction."""

    row: int = Field(description="Position in the request, from 0.")
    transaction_id: str | None
    detail: list[Problem]


class BatchPredictions(_Document):
    """The answer to a batch."""

    predictions: list[ExplainedPrediction | Prediction] = Field(
        description="In the order of the request, without rows that failed."
    )
    errors: list[RowProblems]


class LabelGiven(_Document):
    """What became of a transaction."""

    transaction_id: str = Field(min_length=1, max_length=MAX_ID_LENGTH)
    label: Literal[0, 1] = Field(description="1 for fraud, 0 for legitimate.")
    labelled_at: datetime | None = Field(
        default=None, description="When that was known; UTC, unless it has an offset. Now by default."
    )


class Feedback(_Document):
    """Late labels, each transaction once."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"labels": [{"transaction_id": "an-id", "label": 1}]},
        }
    )

    labels: list[LabelGiven] = Field(min_length=1)


class FeedbackTaken(_Document):
    """What was made of labels."""

    received: int
    stored: int
    unchanged: int = Field(description="Labels that the log held already.")
    corrections: int = Field(description="Stored ones that changed what their transaction is.")
    unknown: list[str] = Field(
        description="Transactions without a prediction so far. Their labels are kept: they may come first."
    )


class LossWindow(_Document):
    """What is answered and not committed, in the mode `background`."""

    predictions: int = Field(description="Now.")
    at_most: int = Field(description="FRAUD_LOG_WAITING_LIMIT; beyond it, requests are refused.")
    seconds: float = Field(description="How long the oldest of them has waited at most.")


class LogHealth(_Document):
    """The state of the prediction log."""

    status: Literal["ok", "spilling", "failing", "closed"]
    waiting: int = Field(description="Predictions that wait for their commit.")
    problem: str | None
    mode: Literal["durable", "background"] = Field(
        description="Whether an answer waits for its commit (FRAUD_LOG_MODE)."
    )
    on_failure: Literal["refuse", "spill"] = Field(description="FRAUD_LOG_ON_FAILURE.")
    spilled_bytes: int = Field(description="What waits in the spill file for the database.")
    loss_window: LossWindow | None = Field(
        description="What this process would lose if it were killed now; null where nothing."
    )


class RoleServed(_Document):
    """What serves in a role beside the champion's."""

    model_version: str | None = Field(description="null where no version serves.")
    version: int | None
    loaded: datetime | None
    share: float = Field(description="Of the transactions that it answers; the shadow answers none.")
    problem: str | None = Field(description="Why the version that was named does not serve.")


class RolesServed(_Document):
    """What serves beside the champion."""

    challenger: RoleServed
    shadow: RoleServed


class Health(_Document):
    """The state of the process that answers."""

    status: Literal["ok", "degraded", "unready"] = Field(
        description="degraded: predictions are answered, but something needs attention."
    )
    model_version: str | None
    algorithm: str | None
    trained_on: DataSource | None = Field(description="Which data trained the model: simulated or real.")
    model_source: Literal["registry", "local bundle"] | None
    model_loaded: datetime | None
    model_problem: str | None = Field(description="Why the newest champion is not what serves.")
    roles: RolesServed
    prediction_log: LogHealth
    uptime_seconds: float


class ModelDescription(_Document):
    """The model that serves."""

    model_version: str
    algorithm: str
    version: int
    run_id: str | None
    source: Literal["registry", "local bundle"]
    loaded: datetime
    created: datetime
    trained_on: DataSource
    refit: str
    features: list[str]
    time_use: str
    time_format: str = Field(description="How requests write time: seconds, or iso8601 timestamps.")
    thresholds: Thresholds
    metrics: dict[str, Metric]
    parameters: dict[str, Any]
    versions: dict[str, str]
    roles: RolesServed


class Figure(_Document):
    """A figure with its 95 % bootstrap interval, null where too few draws define it."""

    value: float
    low: float | None
    high: float | None


class Figures(_Document):
    """What labels say of a version; of two, the shadow's figure minus the champion's."""

    recall: Figure
    precision: Figure
    average_precision: Figure


class VersionFigures(_Document):
    """What one version did in one role."""

    model_version: str
    role: Literal["champion", "challenger", "shadow"]
    predictions: int
    decisions: dict[str, int]
    mean_score: float
    flagged_share: float
    labelled: int
    frauds: int
    figures: Figures | None
    figures_problem: str | None = Field(description="How many labels are needed, and how many have come.")


class PairFigures(_Document):
    """Shadow and champion on the transactions that both scored."""

    shadow: str
    champion: str
    transactions: int
    mean_score_difference: float
    same_decision_share: float
    labelled: int
    frauds: int
    differences: Figures | None
    differences_problem: str | None


class ModelComparison(_Document):
    """Versions side by side, from the prediction log and the labels that have come."""

    since: datetime
    until: datetime
    rows: int = Field(description="Predictions and shadow scores looked at, the newest.")
    is_all: bool = Field(description="false where older ones within the days were left out.")
    versions: list[VersionFigures]
    pairs: list[PairFigures]


class DriftRequest(_Document):
    """Which predictions are judged."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"days": 30}})

    days: int = Field(default=30, ge=1, le=366, description="Those that arrived in the last so many days.")


class DriftRunning(_Document):
    """A run that takes longer."""

    id: str = Field(description="Ask for it at /monitoring/drift/{id}.")
    status: Literal["running"]


class DriftWindow(_Document):
    """Which predictions were looked at."""

    since: datetime
    until: datetime
    rows: int
    compared: int = Field(description="Whose features are those that the champion reads.")
    without_features: int = Field(description="Left out, since retention has taken their features.")
    other_schema: int = Field(description="Left out, since they have other features.")
    sampled: int = Field(description="Whose features were compared; counts are over all.")
    scored_by_champion: int
    hours_covered: float
    model_versions: dict[str, int]


class DriftAlarm(_Document):
    """One thing that is watched over the whole window."""

    test: str
    before: float | None
    now: float | None
    p_value: float
    threshold: float = Field(description="The family's budget of false alarms.")
    effect: float
    effect_threshold: float
    is_raised: bool = Field(description="Both significant and large.")


class DriftColumn(_Document):
    """One feature."""

    column: str
    importance: float = Field(description="Its part in the movement of the score.")
    test: str
    statistic: float
    p_value: float
    adjusted_p_value: float = Field(description="For all columns together.")
    threshold: float
    distance: float = Field(description="Wasserstein, in standard deviations of the reference.")
    distance_threshold: float
    direction: Literal["higher", "lower", "other shape", "same"]
    zeros_before: float
    zeros_now: float
    zeros_p_value: float
    is_drifted: bool


class DriftSummary(_Document):
    """The verdict on drift."""

    id: str
    created: datetime
    verdict: Literal["ok", "warn", "drift", "insufficient_data"]
    drift_detected: bool = Field(description="Whether the verdict is drift.")
    reason: str
    model_version: str = Field(description="The champion whose reference it is.")
    reference_rows: int
    window: DriftWindow
    drifted_columns: int
    drifted_share: float
    drifted_importance: float
    alarms: dict[str, DriftAlarm]
    columns: list[DriftColumn]
    false_alarm_budget: float
    notes: list[str]


class PerformanceFigures(_Document):
    """What labels say; costs are null where amounts are not logged."""

    recall: Figure
    precision: Figure
    average_precision: Figure
    expected_cost: Figure | None = Field(description="Mean cost of a transaction.")
    savings: Figure | None = Field(description="Share of the frauds' amounts that was saved.")


class PerformanceEstimate(_Document):
    """What the calibrated probabilities promise before labels come: as true as the calibration is."""

    frauds: float
    recall: float | None
    precision: float | None
    average_precision: float | None
    expected_cost: float | None
    savings: float | None


class DeclinedTransactions(_Document):
    """They never mature: only reviewed ones have a label, and count in the figures."""

    transactions: int
    reviewed: int
    frauds: int


class VersionPerformance(_Document):
    """One version's transactions."""

    model_version: str
    predictions: int
    flagged: int
    settled: int = Field(description="Known to be one thing or the other.")
    waiting: int = Field(description="Too young for that.")
    frauds: int = Field(description="Among the settled ones.")
    declined: DeclinedTransactions
    basis: Literal["labels", "estimate"] = Field(description="Whether there are figures, or the estimate.")
    figures: PerformanceFigures | None
    figures_problem: str | None
    estimate: PerformanceEstimate


class PeriodPerformance(VersionPerformance):
    """Those that arrived in one period, UTC."""

    start: datetime
    end: datetime


class LabelPolicy(_Document):
    """How long a transaction waits for its label, and what it is without one."""

    maturity_days: float
    unlabelled: Literal["legitimate", "unknown"]


class Prices(_Document):
    """What decisions cost; a missed fraud costs its amount."""

    review_cost: float
    false_decline_cost: float


class Performance(_Document):
    """Performance over time, from the prediction log and the labels that have come."""

    as_of: datetime
    since: datetime
    until: datetime
    by: Literal["day", "week"]
    rows: int
    is_all: bool = Field(description="false where older ones within the days were left out.")
    labels: LabelPolicy
    prices: Prices
    labels_without_prediction: int
    from_the_future: int = Field(description="Arrived later than now, by another host's clock.")
    versions: list[VersionPerformance]
    periods: list[PeriodPerformance]


class ReloadResult(_Document):
    """What a reload did."""

    changed: bool
    model_version: str | None
    model_source: Literal["registry", "local bundle"] | None
    problem: str | None
