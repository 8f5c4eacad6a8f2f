"""The HTTP face: POST /v1/chat/completions, GET /v1/models, /health and /metrics."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rstar_eval.serving.request import MODEL, Asked, Bounds, Refused, read_request
from rstar_eval.serving.service import Service
from rstar_eval.solver.search import Event
from rstar_eval.solver.strategies import STRATEGIES
from rstar_eval.solving import Solution

logger = logging.getLogger(__name__)
_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """The Prometheus figures of one server."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("rstar_requests", "Chat requests by outcome.", ["status"], registry=self.registry)
        self.seconds = Histogram(
            "rstar_request_seconds", "Seconds from request to answer.", buckets=_SECONDS, registry=self.registry
        )
        self.tokens = Counter("rstar_tokens", "Tokens spent.", ["kind"], registry=self.registry)
        self.answers = Counter(
            "rstar_answers", "Searches by whether they found one.", ["found"], registry=self.registry
        )
        Gauge("rstar_running", "Searches under way.", registry=self.registry).set_function(lambda: service.running)
        Gauge("rstar_waiting", "Requests waiting.", registry=self.registry).set_function(lambda: service.waiting)

    def solved(self, solution: Solution) -> None:
        """Count a finished search."""
        self.tokens.labels("prompt").inc(solution.budget.prompt_tokens)
        self.tokens.labels("completion").inc(solution.budget.completion_tokens)
        self.answers.labels("yes" if solution.answer is not None else "no").inc()


def make_app(
    service: Service,
    *,
    bounds: Bounds,
    api_key: str | None = None,
    body_bytes: int = 1 << 20,
    body_seconds: float = 30.0,
) -> Starlette:
    """Return the ASGI application in front of a started `service`. With `api_key` every /v1 request must carry it as a
    bearer token; bodies over `body_bytes` are refused unread, and ones that take longer than `body_seconds` to come."""
    metrics = Metrics(service)

    def guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
            if api_key is not None and not hmac.compare_digest(given, api_key.encode()):
                return _refusal(Refused(401, "the API key is missing or wrong", code="invalid_api_key"))
            return await handler(request)

        return answer

    async def chat(request: Request) -> Response:
        began, id = time.monotonic(), f"chatcmpl-{uuid.uuid4().hex}"
        log = _Log(id, metrics, began)
        try:
            asked = read_request(await _body(request, body_bytes, body_seconds), service.config, bounds)
            if asked.stream:
                lines = _stream(service, asked, id, log)
                first = await anext(lines)  # so that a refusal is still an HTTP error
                return StreamingResponse(_chain(first, lines), media_type="text/event-stream")
            solution = await _unless_gone(request, service.solve(asked))
        except Refused as refused:
            log.end(refused.status, detail=str(refused))
            return _refusal(refused)
        except (ClientDisconnect, asyncio.CancelledError):
            log.end(499, detail="the client went away")
            raise
        except Exception as error:
            log.end(500, detail=repr(error))
            raise
        log.end(200, asked, solution)
        return JSONResponse(_completion(id, asked, solution))

    async def models(request: Request) -> Response:
        names = [MODEL, *(f"{MODEL}-{name}-{n}" for name in STRATEGIES for n in (1, 4, 16, 64) if name != "greedy")]
        names.insert(1, f"{MODEL}-greedy")
        entries = [{"id": name, "object": "model", "created": 0, "owned_by": "rstar-eval"} for name in names]
        return JSONResponse({"object": "list", "data": entries})

    async def health(request: Request) -> Response:
        state = {
            "status": "ok" if service.ready else "starting",
            "running": service.running,
            "waiting": service.waiting,
        }
        return JSONResponse(state, 200 if service.ready else 503)

    async def figures(request: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Starlette(
        routes=[
            Route("/v1/chat/completions", guarded(chat), methods=["POST"]),
            Route("/v1/models", guarded(models)),
            Route("/health", health),
            Route("/metrics", guarded(figures)),
        ],
        exception_handlers={404: _no_route, 405: _no_route, 500: _broken},
    )


class _Log:
    """One structured line a request: never the question, which may be private."""

    def __init__(self, id: str, metrics: Metrics, began: float) -> None:
        self.id, self.metrics, self.began = id, metrics, began

    def end(self, status: int, asked: Asked | None = None, solution: Solution | None = None, detail: str = "") -> None:
        seconds = time.monotonic() - self.began
        self.metrics.requests.labels(str(status)).inc()
        self.metrics.seconds.observe(seconds)
        record: dict[str, Any] = {"event": "request", "id": self.id, "status": status, "seconds": round(seconds, 3)}
        if asked is not None:
            record |= {"model": asked.model, "strategy": asked.search.strategy, "rollouts": asked.search.rollouts}
        if solution is not None:
            self.metrics.solved(solution)
            record |= {"tokens": solution.budget.completion_tokens, "answered": solution.answer is not None}
        logger.info(json.dumps(record | ({"detail": detail[:500]} if detail else {})))


async def _body(request: Request, most: int, seconds: float) -> object:
    """Read the JSON body, of at most `most` bytes, that must be here within `seconds`."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise Refused(413, f"the body is larger than {most} bytes", code="body_too_large")
                parts.append(part)
    except TimeoutError:
        raise Refused(408, f"the body did not come within {seconds:g} s", code="body_too_slow") from None
    try:
        return json.loads(b"".join(parts))
    except (ValueError, RecursionError):
        raise Refused(400, "the body is no JSON", code="invalid_json") from None


async def _unless_gone(request: Request, work: Awaitable[Solution]) -> Solution:
    """Return what `work` gives; cancel it when the client has gone away."""
    task = asyncio.ensure_future(work)

    async def gone() -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(0.2)

    watcher = asyncio.ensure_future(gone())
    try:
        await asyncio.wait([task, watcher], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for one in (task, watcher):
            one.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _stream(service: Service, asked: Asked, id: str, log: _Log) -> AsyncGenerator[str, None]:
    """Yield the server-sent events: what is found on the way as reasoning, then the answer."""
    events: asyncio.Queue[str | None] = asyncio.Queue()
    found = 0

    def watch(event: Event) -> None:
        nonlocal found
        if event.trajectory is not None:
            found += 1
            answer = event.trajectory.answer if event.trajectory.answer is not None else "none"
            events.put_nowait(f"solution {found} of {asked.search.rollouts}: {answer}\n")

    task = asyncio.ensure_future(service.solve(asked, watch))
    task.add_done_callback(lambda _: events.put_nowait(None))
    try:
        opened = False
        while (text := await events.get()) is not None:
            if not opened:
                yield _chunk(id, asked, {"role": "assistant", "content": ""})
                opened = True
            yield _chunk(id, asked, {"reasoning_content": text})
        try:
            solution = task.result()
        except Refused as refused:
            if not opened:
                raise
            log.end(refused.status, asked, detail=str(refused))
            yield f"data: {json.dumps(refused.body())}\n\n"
            return
        if not opened:
            yield _chunk(id, asked, {"role": "assistant", "content": ""})
        yield _chunk(id, asked, {"content": _text(solution)})
        yield _chunk(id, asked, {}, finish="stop", extra={"rstar": _details(solution)})
        if asked.usage_in_stream:
            yield _chunk(id, asked, None, extra={"usage": _usage(solution)})
        log.end(200, asked, solution)
        yield "data: [DONE]\n\n"
    finally:
        if not task.done():
            log.end(499, asked, detail="the client went away")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _chain(first: str, rest: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    try:
        yield first
        async for one in rest:
            yield one
    finally:
        await rest.aclose()  # a client that is gone ends its search


def _chunk(
    id: str,
    asked: Asked,
    delta: dict[str, Any] | None,
    *,
    finish: str | None = None,
    extra: dict[str, Any] | None = None,
) -> str:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    head = {"id": id, "object": "chat.completion.chunk", "created": int(time.time()), "model": asked.model}
    return f"data: {json.dumps({**head, 'choices': choices, **(extra or {})})}\n\n"


def _completion(id: str, asked: Asked, solution: Solution) -> dict[str, Any]:
    message = {"role": "assistant", "content": _text(solution)}
    return {
        "id": id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked.model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _usage(solution),
        "rstar": _details(solution),
    }


def _text(solution: Solution) -> str:
    if solution.answer is None:
        return "No answer was found."
    return f"The final answer is \\boxed{{{solution.answer}}}."


def _usage(solution: Solution) -> dict[str, int]:
    prompt, completion = solution.budget.prompt_tokens, solution.budget.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _details(solution: Solution) -> dict[str, Any]:
    data = solution.data()
    return {key: data[key] for key in ("answer", "choice", "budget", "ends", "seconds")}


def _refusal(refused: Refused) -> Response:
    headers = {"Retry-After": "5"} if refused.status in (429, 503) else None
    return JSONResponse(refused.body(), refused.status, headers)


async def _no_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return _refusal(Refused(status, f"no {request.method} {request.url.path} here", code="not_found"))


async def _broken(request: Request, error: Exception) -> Response:
    logger.error("request failed: %r", error)
    return _refusal(Refused(500, "the server failed; its log says how", code="internal_error"))
