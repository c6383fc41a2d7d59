"""What the API's pages say of its answers, as pydantic models."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fraud_kedro.champion.bundle import DataSource, Metric, Thresholds


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

    predictions: list[Prediction] = Field(
        description="In the order of the request, without rows that failed."
    )
    errors: list[RowProblems]


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


class ReloadResult(_Document):
    """What a reload did."""

    changed: bool
    model_version: str | None
    model_source: Literal["registry", "local bundle"] | None
    problem: str | None
