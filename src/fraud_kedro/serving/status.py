"""What the service says of itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from fraud_kedro.schema import ISO8601, SECONDS
from fraud_kedro.serving.documents import (
    Health,
    LogHealth,
    LossWindow,
    ModelDescription,
    RoleServed,
    RolesServed,
)
from fraud_kedro.serving.model_store import ServedModel
from fraud_kedro.serving.runtime import Runtime


def health(runtime: Runtime) -> Health:
    """Describe the state of this process."""
    model, log = runtime.models.current, _log_health(runtime)
    status: Literal["ok", "degraded", "unready"] = "ok"
    if not runtime.ready:
        status = "unready"
    elif (
        log.status != "ok"
        or runtime.models.other_problems
        or (runtime.models.problem and model and model.source == "registry")
    ):
        status = "degraded"
    return Health(
        status=status,
        model_version=model.name if model else None,
        algorithm=model.scorer.metadata.algorithm if model else None,
        trained_on=model.scorer.metadata.data.source if model else None,
        model_source=model.source if model else None,
        model_loaded=model.loaded if model else None,
        model_problem=runtime.models.problem,
        roles=_roles(runtime),
        prediction_log=log,
        uptime_seconds=round((datetime.now(UTC) - runtime.started).total_seconds(), 3),
    )


def describe_model(model: ServedModel, runtime: Runtime) -> ModelDescription:
    """Describe the champion, and what serves beside it."""
    metadata = model.scorer.metadata
    return ModelDescription(
        model_version=model.name,
        algorithm=metadata.algorithm,
        version=model.version,
        run_id=model.run_id,
        source=model.source,
        loaded=model.loaded,
        created=metadata.created,
        trained_on=metadata.data.source,
        refit=metadata.data.refit,
        features=list(metadata.schema_.features),
        time_use=metadata.schema_.time_use,
        time_format=ISO8601 if metadata.schema_.has_timestamps else SECONDS,
        thresholds=model.scorer.thresholds,
        metrics=metadata.metrics,
        parameters=metadata.parameters,
        versions=metadata.versions,
        roles=_roles(runtime),
    )


def _roles(runtime: Runtime) -> RolesServed:
    roles, problems = runtime.models.roles, runtime.models.other_problems
    share = runtime.settings.challenger_share if roles.challenger else 0.0
    return RolesServed(
        challenger=_role(roles.challenger, share, problems.get("challenger")),
        shadow=_role(roles.shadow, 0.0, problems.get("shadow")),
    )


def _role(model: ServedModel | None, share: float, problem: str | None) -> RoleServed:
    return RoleServed(
        model_version=model.name if model else None,
        version=model.version if model else None,
        loaded=model.loaded if model else None,
        share=share,
        problem=problem,
    )


def _log_health(runtime: Runtime) -> LogHealth:
    log, settings = runtime.log, runtime.settings
    failure = log.commits.last_failure if log.commits else None
    status: Literal["ok", "spilling", "failing", "closed"] = "ok"
    if log.commits is None:
        status = "closed"
    elif log.spilled_bytes or log.problem:
        status = "spilling"
    elif failure:
        status = "failing"
    loss = None
    if log.commits is not None and settings.log_mode == "background":
        loss = LossWindow(
            predictions=log.commits.waiting,
            at_most=settings.log_waiting_limit,
            seconds=round(log.commits.oldest_seconds, 3),
        )
    return LogHealth(
        status=status,
        waiting=log.commits.waiting if log.commits else 0,
        problem=log.problem or (str(failure) if failure else None),
        mode=settings.log_mode,
        on_failure=settings.log_on_failure,
        spilled_bytes=log.spilled_bytes,
        loss_window=loss,
    )
