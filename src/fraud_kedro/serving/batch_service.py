"""Answers ``POST /predict/batch``: takes a body in, reads, scores and logs it, and streams the answer."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from fraud_kedro.errors import PredictionLogError
from fraud_kedro.serving.answers import Reply, refusal
from fraud_kedro.serving.batch import (
    Answered,
    BatchError,
    BatchPipeline,
    Count,
    Progress,
    QuickSwitches,
    Source,
)
from fraud_kedro.serving.batch_answers import Answers, Explain, JsonAnswers
from fraud_kedro.serving.batch_formats import Format, format_wanted
from fraud_kedro.serving.batch_json import JsonSource
from fraud_kedro.serving.batch_upload import Upload, receive
from fraud_kedro.serving.bodies import GONE, REQUEST_ID_KEY, BodyTooLargeError, too_large
from fraud_kedro.serving.explaining import MOST_ROWS, ExplainedAnswer, explained_batch, wanted_reasons
from fraud_kedro.serving.judging import Judge, Serving
from fraud_kedro.serving.log_gate import LogGate
from fraud_kedro.serving.metrics import FAILURES, REQUEST_SECONDS
from fraud_kedro.serving.model_store import ModelStore, ServedModel
from fraud_kedro.serving.requests import InvalidRequestError
from fraud_kedro.serving.settings import ServingSettings
from fraud_kedro.serving.shadow import Shadow

logger = logging.getLogger(__name__)

BATCH = "/predict/batch"

# Batches whose parts are worked on at a time; the others take turns with them.
_AT_ONCE = 2


class BatchService:
    """Answers batches with the model and the log there are when they begin.

    Parameters
    ----------
    settings : ServingSettings
    models : ModelStore
    log : LogGate
    judge : Judge
    shadow : Shadow
    count : callable
        As `BatchPipeline` takes it.
    refused, unlogged : callable
        Make the replies where there is no model or log, and where the log fails.
    """

    def __init__(
        self,
        settings: ServingSettings,
        models: ModelStore,
        log: LogGate,
        *,
        judge: Judge,
        shadow: Shadow,
        count: Count,
        refused: Callable[[], Reply],
        unlogged: Callable[[PredictionLogError], Reply],
    ) -> None:
        self._settings = settings
        self._models = models
        self._log = log
        self._refused = refused
        self._unlogged = unlogged
        self._pipeline = BatchPipeline(judge, shadow, count)
        self._executor = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="batch")
        self._switches = QuickSwitches()

    async def respond(self, request: Request) -> Response:
        """Answer a request in whatever format it has."""
        request_id = request.scope.get(REQUEST_ID_KEY)
        if self._models.current is None or self._log.commits is None:
            return to_response(self._refused())
        try:
            reasons = wanted_reasons(request.scope["query_string"])
        except InvalidRequestError as error:
            return to_response(refusal(422, error.errors))
        limit = self._settings.max_batch_bytes
        try:
            upload = await receive(request, limit, self._settings.request_timeout_seconds)
        except BodyTooLargeError:
            return to_response(too_large(limit))
        except ClientDisconnect:
            return to_response(GONE)
        except BatchError as error:
            return to_response(refusal(error.status, error.errors))
        return await self._respond(upload, request.headers.get("accept"), request_id, reasons)

    async def answer_json(self, body: bytes, request_id: str | None = None) -> Reply:
        """Answer a batch in JSON with a reply in one piece.

        Parameters
        ----------
        body : bytes
            ``{"transactions": [...]}``.
        request_id : str, optional
            Kept with the log rows.
        """
        response = await self._respond(Upload(io.BytesIO(body), Format.JSON), None, request_id, 0)
        if isinstance(response, _BatchResponse):
            try:
                content = b"".join([bytes(part) async for part in response.body_iterator])  # type: ignore[arg-type]
            finally:
                response.close()
            return Reply(200, content)
        retry = response.headers.get("retry-after")
        return Reply(response.status_code, bytes(response.body), None if retry is None else int(retry))

    def close(self) -> None:
        """Finish the parts that are under way."""
        self._executor.shutdown()
        self._pipeline.close()

    async def _respond(
        self, upload: Upload, accept: str | None, request_id: str | None, reasons: int
    ) -> Response:
        start = perf_counter()
        roles, commits = self._models.roles, self._log.commits
        if roles.champion is None or commits is None:
            upload.file.close()
            return to_response(self._refused())
        run = _Run(self, upload, Serving(roles, roles.champion, commits), request_id, reasons)
        try:
            wanted, media_type = format_wanted(accept, upload.kind)
            first = await self._step(run.begin, wanted)
            while first is not None and not run.begun:
                first = await self._step(run.next)
        except BatchError as error:
            reply = refusal(error.status, error.errors)
        except PredictionLogError as error:
            reply = self._unlogged(error)
        except Exception:
            logger.exception("A batch could not be answered.")
            FAILURES.labels("defect").inc()
            reply = refusal(500, "The service failed to answer. Its log says why.")
        except BaseException:
            self._executor.submit(run.close)
            raise
        else:
            if run.begun:
                return _BatchResponse(self, run, first, media_type, _file_name(upload, wanted), start)
            reply = Reply(422, run.rest())
        self._executor.submit(run.close)
        REQUEST_SECONDS.labels(BATCH, str(reply.status)).observe(perf_counter() - start)
        return to_response(reply)

    async def _step(self, action: Callable[..., bytes | None], *arguments: Any) -> bytes | None:
        """Do one part of a batch in a thread; the parts of several batches take turns."""

        def step() -> bytes | None:
            with self._switches:
                return action(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._executor, step)


class _Run:
    """One batch on its way; its steps are called one after the other, from any thread."""

    def __init__(
        self, service: BatchService, upload: Upload, serving: Serving, request_id: str | None, reasons: int
    ) -> None:
        self._pipeline = service._pipeline
        most = service._settings.max_batch_rows
        self._limit = min(most, MOST_ROWS) if reasons else most
        self._upload = upload
        self._serving = serving
        self._request_id = request_id
        self._reasons = reasons
        self._lock = threading.Lock()
        self._stream: Iterator[bytes] | None = None
        self._answers: Answers | None = None

    @property
    def begun(self) -> bool:
        """Whether there is an answer with status 200."""
        return self._answers is not None and self._answers.begun

    def begin(self, wanted: Format) -> bytes | None:
        """Read the whole body once, then answer its first part."""
        with self._lock:
            model = self._serving.champion
            source = _source(self._upload, model, self._limit)
            rows = source.check()
            explain = self._explain if self._reasons else None
            self._answers = _answers(self._upload, source, wanted, model, explain)
            self._stream = self._bytes(source, self._answers, rows)
            return next(self._stream, None)

    def next(self) -> bytes | None:
        """Answer the next part; None at the end."""
        with self._lock:
            return None if self._stream is None else next(self._stream, None)

    def rest(self) -> bytes:
        """What an answer without a prediction has to say."""
        with self._lock:
            return b"" if self._answers is None else b"".join(self._answers.end())

    def close(self) -> None:
        """Give up what has not been answered, and let go of files."""
        with self._lock:
            self._stream = None
            if self._answers is not None:
                self._answers.close()
            self._upload.file.close()

    def _explain(self, answered: Answered) -> list[ExplainedAnswer]:
        return explained_batch(self._serving.roles, answered.transactions, answered.stored, self._reasons)

    def _bytes(self, source: Source, answers: Answers, rows: int) -> Iterator[bytes]:
        progress = Progress(self._request_id or "without id", rows)
        for part in self._pipeline.answer(source.parts(), self._serving, self._request_id):
            content = answers.part(part)
            progress.tell(part.part.first + part.part.count)
            yield content
        if answers.begun:
            yield from answers.end()


class _BatchResponse(StreamingResponse):
    """Streams a batch's answer, and ends the batch when the client is gone."""

    def __init__(
        self, service: BatchService, run: _Run, first: bytes | None, media_type: str, name: str, start: float
    ) -> None:
        super().__init__(
            self._parts(service, run, first),
            media_type=media_type,
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )
        self._service, self._run, self._start = service, run, start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the batch, as soon as the part that is being answered is done."""
        self._service._executor.submit(self._run.close)
        REQUEST_SECONDS.labels(BATCH, "200").observe(perf_counter() - self._start)

    @staticmethod
    async def _parts(service: BatchService, run: _Run, first: bytes | None) -> AsyncIterator[bytes]:
        part = first
        while part is not None:
            if part:
                yield part
            part = await service._step(run.next)


def to_response(reply: Reply) -> Response:
    """Make a response of a reply."""
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    if reply.retry_after is not None:
        headers["Retry-After"] = str(reply.retry_after)
    return Response(reply.body, status_code=reply.status, headers=headers, media_type="application/json")


def _source(upload: Upload, model: ServedModel, limit: int) -> Source:
    if upload.kind is Format.JSON:
        return JsonSource(upload.file, model.requests, limit)
    from fraud_kedro.serving.batch_tables import CsvSource, ParquetSource

    source = CsvSource if upload.kind is Format.CSV else ParquetSource
    return source(upload.file, model.requests, limit)


def _answers(
    upload: Upload, source: Source, wanted: Format, model: ServedModel, explain: Explain | None
) -> Answers:
    if wanted is Format.JSON:
        return JsonAnswers(explain)
    from fraud_kedro.serving.batch_table_answers import TableAnswers

    came = None if upload.kind is Format.JSON else source.schema  # type: ignore[attr-defined]
    known = () if came is None else (*model.requests.features, *model.requests.optional)
    return TableAnswers(wanted, came, known, explain)


def _file_name(upload: Upload, wanted: Format) -> str:
    """A name for the answer's file, of plain characters alone."""
    given = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in upload.name or "")
    return f"{given[:100]}_predictions.{wanted}" if given.strip("_.") else f"predictions.{wanted}"
