"""The HTTP API as one FastAPI application."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse
from starlette.staticfiles import StaticFiles

import fraud_kedro
from fraud_kedro.serving.answers import Reply
from fraud_kedro.serving.batch_openapi import BATCH_BODY, BATCH_RESPONSES
from fraud_kedro.serving.batch_service import to_response
from fraud_kedro.serving.bodies import (
    GONE,
    REQUEST_ID_KEY,
    BodyTooLargeError,
    ClientGoneError,
    held_limit,
    read_body,
    too_large,
)
from fraud_kedro.serving.documents import (
    BatchPredictions,
    DriftRunning,
    DriftSummary,
    ExplainedPrediction,
    FeedbackTaken,
    Health,
    ModelComparison,
    ModelDescription,
    Performance,
    Prediction,
    Problems,
    Refusal,
    ReloadResult,
)
from fraud_kedro.serving.guard import OPEN
from fraud_kedro.serving.hot_path import inspect_headers
from fraud_kedro.serving.metrics import CONTENT_TYPE_LATEST, LOG_WAITING, exposition
from fraud_kedro.serving.model_store import ServedModel
from fraud_kedro.serving.openapi import (
    DRIFT_REQUEST,
    EXPLAIN,
    FEEDBACK,
    TRANSACTION,
    describe_the_door,
    json_body,
    request_schemas,
)
from fraud_kedro.serving.requests import TRANSACTION_ID
from fraud_kedro.serving.runtime import Runtime
from fraud_kedro.serving.status import describe_model, health

_REFUSALS: dict[int | str, dict[str, Any]] = {
    413: {"model": Refusal, "description": "The body is too large."},
    415: {"model": Refusal, "description": "The body is not JSON."},
    422: {"model": Problems, "description": "What is wrong with each field."},
    503: {"model": Refusal, "description": "No model, or the prediction log fails."},
}

# Evidently's page has its scripts and styles inside, and gets nothing from anywhere else.
_REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:; frame-ancestors 'self'"
)


def create_app(runtime: Runtime) -> FastAPI:
    """Make the API of a runtime, which it starts and stops.

    Parameters
    ----------
    runtime : Runtime

    Returns
    -------
    FastAPI
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await runtime.start()
        try:
            yield
        finally:
            await runtime.stop()

    app = FastAPI(
        title="fraud_kedro",
        summary="Card-fraud detection in real time.",
        version=fraud_kedro.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    _add_predictions(app, runtime)
    _add_feedback(app, runtime)
    _add_probes(app, runtime)
    _add_model(app, runtime)
    _add_drift(app, runtime)
    _add_pages(app, runtime)
    return app


def _add_predictions(app: FastAPI, runtime: Runtime) -> None:
    settings, predictor = runtime.settings, runtime.predictor

    @app.post(
        "/predict",
        response_model=ExplainedPrediction | Prediction,
        responses={**_REFUSALS, 409: {"model": Problems, "description": "The id has other values already."}},
        openapi_extra=json_body(TRANSACTION, *EXPLAIN),
        tags=["predictions"],
    )
    async def predict(request: Request) -> Response:
        """Score one transaction; the answer comes once its log row is committed."""
        body, request_id = await _json(request, settings.max_body_bytes)
        if isinstance(body, Reply):
            return to_response(body)
        return to_response(await predictor.predict(body, request_id, request.scope["query_string"]))

    @app.post(
        "/predict/batch",
        response_model=BatchPredictions,
        responses=BATCH_RESPONSES,
        openapi_extra=BATCH_BODY,
        tags=["predictions"],
    )
    async def predict_batch(request: Request) -> Response:
        """Score many transactions; those that are wrong do not hold up the others."""
        return await predictor.batches.respond(request)

    @app.get(
        "/predict/batch/template",
        response_class=Response,
        responses={200: {"content": {"text/csv": {}}}, 503: _REFUSALS[503]},
        tags=["predictions"],
    )
    async def template() -> Response:
        """Give the header of a CSV table of transactions."""
        text = io.StringIO()
        csv.writer(text).writerow([TRANSACTION_ID, *_model(runtime).requests.features])
        return Response(
            text.getvalue(),
            media_type="text/csv",
            headers={"Content-Disposition": 'attachment; filename="transactions.csv"'},
        )


def _add_feedback(app: FastAPI, runtime: Runtime) -> None:
    @app.post(
        "/feedback",
        response_model=FeedbackTaken,
        responses=_REFUSALS,
        openapi_extra=json_body(FEEDBACK),
        tags=["feedback"],
    )
    async def feedback(request: Request) -> Response:
        """Take late labels: all, or none if one of them is wrong. Sent again, they change nothing."""
        body, request_id = await _json(request, held_limit(runtime.settings.max_batch_bytes))
        if isinstance(body, Reply):
            return to_response(body)
        return to_response(await runtime.feedback.take(body, request_id))


def _add_probes(app: FastAPI, runtime: Runtime) -> None:
    @app.get("/livez", tags=["operation"])
    async def livez() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "alive"}

    @app.get("/readyz", responses={503: _REFUSALS[503]}, tags=["operation"])
    async def readyz() -> Response:
        """Say whether transactions are scored and logged."""
        if not runtime.ready:
            return to_response(runtime.predictor.unready())
        return Response(b'{"status":"ready"}', media_type="application/json")

    for path, probe in (("/livez", livez), ("/readyz", readyz)):
        # Some load balancers ask so.
        app.add_api_route(path, probe, methods=["HEAD"], include_in_schema=False)

    @app.get("/health", response_model=Health, tags=["operation"])
    async def get_health() -> Health:
        """Describe this process: its model, where that came from, and its log."""
        return health(runtime)

    @app.get("/metrics", response_class=Response, tags=["operation"])
    async def metrics() -> Response:
        """Give Prometheus' metrics over all workers."""
        runtime.show_monitoring()
        if runtime.log.commits is not None:
            LOG_WAITING.set(runtime.log.commits.waiting)
        return Response(exposition(), media_type=CONTENT_TYPE_LATEST)


def _add_model(app: FastAPI, runtime: Runtime) -> None:
    @app.get("/model", response_model=ModelDescription, responses={503: _REFUSALS[503]}, tags=["model"])
    async def model() -> ModelDescription:
        """Describe the model that serves, with its metrics."""
        return describe_model(_model(runtime), runtime)

    @app.get(
        "/model/comparison", response_model=ModelComparison, responses={503: _REFUSALS[503]}, tags=["model"]
    )
    async def comparison(days: Annotated[int, Query(ge=1, le=366)] = 30) -> Response:
        """Compare versions by the prediction log and the labels that have come; kept for some seconds."""
        return to_response(await runtime.comparison.compute(f"--days={days}"))

    @app.get(
        "/monitoring/performance",
        response_model=Performance,
        responses={503: _REFUSALS[503]},
        tags=["monitoring"],
    )
    async def performance(
        days: Annotated[int, Query(ge=1, le=366)] = 30, by: Literal["day", "week"] = "day"
    ) -> Response:
        """Measure performance over time by the labels that have come, an estimate where they have not."""
        return to_response(await runtime.measure_performance(days, by))

    @app.post("/model/reload", response_model=ReloadResult, tags=["model"])
    async def reload() -> ReloadResult:
        """Look for champion, challenger and shadow now; other workers follow within a second or two."""
        changed = await runtime.reload()
        current = runtime.models.current
        return ReloadResult(
            changed=changed,
            model_version=current.name if current else None,
            model_source=current.source if current else None,
            problem=runtime.models.problem,
        )


def _add_drift(app: FastAPI, runtime: Runtime) -> None:
    running: dict[int | str, dict[str, Any]] = {
        202: {"model": DriftRunning, "description": "It takes longer: ask for it by its id."},
        503: {"model": Refusal, "description": "Why drift cannot be judged."},
    }
    absent: dict[str, Any] = {"model": Refusal, "description": "There is none."}

    @app.post(
        "/monitoring/drift",
        response_model=DriftSummary,
        responses={**_REFUSALS, **running},
        openapi_extra=json_body(DRIFT_REQUEST),
        tags=["monitoring"],
    )
    async def judge_drift(request: Request) -> Response:
        """Judge whether the last days' transactions look like those the champion was made from.

        It is done beside the service, in 10 to 60 s; who asks meanwhile gets the same run's answer.
        """
        body, _ = await _json(request, runtime.settings.max_body_bytes)
        return to_response(body if isinstance(body, Reply) else await runtime.drift.start(body))

    @app.get(
        "/monitoring/drift/report",
        response_class=Response,
        responses={200: {"content": {"text/html": {}}}, 404: absent},
        tags=["monitoring"],
    )
    async def drift_report() -> Response:
        """Give the newest page about drift, Evidently's report below the verdict."""
        page = runtime.drift.page()
        if page is None:
            raise HTTPException(404, detail="There is no report yet. POST /monitoring/drift makes one.")
        return FileResponse(page, media_type="text/html", headers={"Content-Security-Policy": _REPORT_POLICY})

    @app.get(
        "/monitoring/drift/{run}",
        response_model=DriftSummary,
        responses={**running, 404: absent},
        tags=["monitoring"],
    )
    async def drift_run(run: Annotated[str, Path(examples=["20260101T120000-0a1b2c3d"])]) -> Response:
        """Tell what became of a run."""
        return to_response(runtime.drift.find(run))


def _add_pages(app: FastAPI, runtime: Runtime) -> None:
    # The copy of Swagger UI that BentoML brings: FastAPI's page would load one from elsewhere.
    assets = files("bentoml") / "_internal" / "server" / "static_content"
    app.mount("/docs/assets", StaticFiles(directory=str(assets)), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url="docs/assets/swagger-ui-bundle.js",
            swagger_css_url="docs/assets/swagger-ui.css",
            swagger_favicon_url="docs/assets/favicon-light-32x32.png",
        )

    described: dict[str, Any] = {}
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        # A copy: the page FastAPI keeps has no request models, they change with the model.
        if not described:
            settings = runtime.settings
            keys, rate = bool(settings.keys_by_role), settings.rate_limit is not None
            described.update(describe_the_door(generate(), keys=keys, rate=rate, open_paths=OPEN))
        page = dict(described)
        components = {**page.get("components", {})}
        components["schemas"] = {**components.get("schemas", {}), **request_schemas(runtime.models.current)}
        return {**page, "components": components}

    app.openapi = openapi  # type: ignore[method-assign]


async def _json(request: Request, limit: int) -> tuple[bytes | Reply, str | None]:
    request_id = request.scope.get(REQUEST_ID_KEY)
    refused = inspect_headers(request.scope, limit)
    if refused is not None:
        return refused, None
    try:
        return await read_body(request.receive, limit), request_id
    except BodyTooLargeError:
        return too_large(limit), None
    except ClientGoneError:
        return GONE, None


def _model(runtime: Runtime) -> ServedModel:
    model = runtime.models.current
    if model is None:
        raise HTTPException(503, detail=runtime.models.problem)
    return model
