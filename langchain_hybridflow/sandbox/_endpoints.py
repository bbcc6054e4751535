"""What the sandbox server does with a request: admit, log, fail on demand, let a model answer."""

from __future__ import annotations

import hmac
import itertools
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from langchain_core.language_models import BaseChatModel, FakeMessagesListChatModel
from langchain_core.messages import AIMessage, BaseMessage
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from langchain_hybridflow.leaving import ClientGone, client_gone, unless_gone
from langchain_hybridflow.openai_wire import (
    ChatRequest,
    Head,
    completion,
    completion_events,
    error_body,
    sse,
)
from langchain_hybridflow.sandbox.faults import Fault, FaultKind, Faults

__all__ = ["Endpoints", "Gate", "Refused", "RequestLog", "RequestRecord", "refuse"]

_LOG_LENGTH = 10_000
_GARBAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"

# HTTP status -> type and code of OpenAI's error object.
_ERRORS = {
    400: ("invalid_request_error", "invalid_request"),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "not_found"),
    415: ("invalid_request_error", "unsupported_media_type"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    499: ("server_error", "client_closed_request"),
    500: ("server_error", "server_error"),
}
_REFUSALS = {
    FaultKind.RATE_LIMIT: (429, "Rate limit reached (asked for by a sandbox fault)."),
    FaultKind.SERVER_ERROR: (500, "The server had an error (asked for by a sandbox fault)."),
    FaultKind.UNAUTHORIZED: (401, "Incorrect API key (asked for by a sandbox fault)."),
}
_MID_STREAM = {FaultKind.HANG_MID_STREAM, FaultKind.DROP_MID_STREAM, FaultKind.TRUNCATE}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One chat request, as it arrived.

    Args:
        number: 1 for the first request of this server.
        model: The name that was asked for.
        stream: Whether a stream was asked for.
        fault: What went wrong on demand, if anything.
        body: The whole request body. The key is not part of it.
    """

    number: int
    model: str
    stream: bool
    fault: FaultKind | None
    body: Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class RequestLog:
    """The last 10,000 chat requests of a server, and what is under way; any thread may read it.

    Args:
        clock: Where the time comes from, in seconds.

    Example:
        >>> len(RequestLog())
        0
    """

    clock: Callable[[], float] = time.monotonic
    in_flight: int = 0
    _records: deque[RequestRecord] = field(default_factory=lambda: deque(maxlen=_LOG_LENGTH))
    _active_at_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._active_at_s = self.clock()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[RequestRecord]:
        return iter(self._records.copy())

    @property
    def idle_s(self) -> float:
        """Seconds since the last request of any kind ended; 0 while one is under way."""
        return 0.0 if self.in_flight else self.clock() - self._active_at_s

    def append(self, record: RequestRecord) -> None:
        """Note a chat request."""
        self._records.append(record)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Count a request for as long as it lasts."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._active_at_s = self.clock()


class Refused(Exception):
    """A request is answered with an error."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.response = _refusal(status, message, headers)
        super().__init__(message)


def _refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    kind, code = _ERRORS[status]
    return JSONResponse(error_body(message, kind=kind, code=code), status, headers)


async def refuse(_request: Request, error: Exception) -> Response:
    if not isinstance(error, Refused):  # it is registered for nothing else
        raise error
    return error.response


class Gate:
    """Admits who has the key, takes nothing but JSON, and counts what is under way."""

    def __init__(self, app: ASGIApp, *, log: RequestLog, api_key: str | None) -> None:
        self._app = app
        self._log = log
        self._api_key = api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._log.under_way():
            refusal = self._refusal(Request(scope))
            await (refusal or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if request.url.path == "/healthz":
            return None
        if self._api_key is not None:
            given = request.headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self._api_key}".encode()):
                return _refusal(401, "Incorrect API key provided.")
        # A page in a browser can post forms to any address without asking, but no JSON.
        media_type = request.headers.get("content-type", "").partition(";")[0].strip()
        if request.method == "POST" and media_type != "application/json":
            return _refusal(415, "The body must be application/json.")
        return None


class Endpoints:
    """The routes of one server."""

    def __init__(
        self, models: Mapping[str, BaseChatModel], faults: Faults, log: RequestLog
    ) -> None:
        self._models = models
        self._faults = faults
        self._log = log
        self._numbers = itertools.count(1)

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def list_models(self, _request: Request) -> Response:
        rows = [
            {"id": name, "object": "model", "created": 0, "owned_by": "sandbox"}
            for name in self._models
        ]
        return JSONResponse({"object": "list", "data": rows})

    async def show_log(self, _request: Request) -> Response:
        # The request that asks is under way, too, and not what the reader wants to know.
        records = [asdict(record) for record in self._log]
        return JSONResponse({"in_flight": self._log.in_flight - 1, "requests": records})

    async def change_faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._faults.clear()
        else:
            try:
                self._faults.add(Fault.model_validate_json(await request.body()))
            except ValidationError as error:
                raise Refused(400, _first_problem(error)) from error
        waiting = [fault.model_dump(mode="json") for fault in self._faults.waiting]
        return JSONResponse({"faults": waiting})

    async def chat(self, request: Request) -> Response:
        try:
            asked = ChatRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise Refused(400, _first_problem(error)) from error
        fault = self._fault(request, asked)
        number = next(self._numbers)
        self._log.append(
            RequestRecord(
                number=number,
                model=asked.model,
                stream=asked.stream,
                fault=fault.kind if fault else None,
                body=await request.json(),
            )
        )
        head = Head(id=f"chatcmpl-{number}", created=int(time.time()), model=asked.model)
        return await _answer(request, asked, self._model(asked.model), head, fault)

    def _fault(self, request: Request, asked: ChatRequest) -> Fault | None:
        header = request.headers.get("x-sandbox-fault")
        if header is None:
            return self._faults.draw(asked.model)
        try:
            return Fault(kind=FaultKind(header))
        except ValueError as error:
            known = ", ".join(FaultKind)
            raise Refused(400, f"X-Sandbox-Fault is {header!r}, not one of {known}.") from error

    def _model(self, name: str) -> BaseChatModel:
        if name not in self._models:
            known = ", ".join(self._models)
            raise Refused(404, f"The model {name!r} does not exist. There are: {known}.")
        return self._models[name]


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(step) for step in problem["loc"]) or "body"
    return f"{where}: {problem['msg']}"


async def _answer(
    request: Request, asked: ChatRequest, model: BaseChatModel, head: Head, fault: Fault | None
) -> Response:
    """Let the model answer, unless the fault says otherwise."""
    kind = None if fault is None else fault.kind
    if fault is not None and kind in _REFUSALS:
        status, message = _REFUSALS[fault.kind]
        wait = {"Retry-After": f"{fault.retry_after_s:g}"} if status == 429 else None
        raise Refused(status, message, wait)
    if kind is FaultKind.HANG:
        await client_gone(request.receive)
    if kind is FaultKind.GARBAGE:
        return Response(_GARBAGE, media_type="text/event-stream" if asked.stream else "text/html")
    if kind is FaultKind.EMPTY:
        model = FakeMessagesListChatModel(responses=[AIMessage("")])
    parts = await (_stream if asked.stream else _whole)(request, asked, model, head)
    if fault is not None and kind in _MID_STREAM:
        parts = _struck(parts, fault, request)
    respond = _BrokenOff if kind is FaultKind.DROP_MID_STREAM else StreamingResponse
    return respond(parts, media_type="text/event-stream" if asked.stream else "application/json")


async def _whole(
    request: Request, asked: ChatRequest, model: BaseChatModel, head: Head
) -> AsyncGenerator[bytes]:
    """Return a whole answer as two halves, so that there is a middle to fail in."""
    with _refusing_failures():
        answering = asked.bound(model).ainvoke(_prompt(asked), **asked.options())
        answer = await unless_gone(request.receive, answering)
    told = completion(answer, head, logprobs=bool(asked.logprobs))
    body = json.dumps(told, ensure_ascii=False).encode()
    return _each(body[: len(body) // 2], body[len(body) // 2 :])


async def _stream(
    request: Request, asked: ChatRequest, model: BaseChatModel, head: Head
) -> AsyncGenerator[bytes]:
    """Return a streamed answer; what fails before its first chunk is refused like any failure."""
    with _refusing_failures():
        chunks = asked.bound(model).astream(_prompt(asked), **asked.options())
        first = await unless_gone(request.receive, anext(chunks))

    async def events() -> AsyncGenerator[bytes]:
        every = _after(first, chunks)
        try:
            events_of = completion_events(
                every, head, include_usage=asked.include_usage, logprobs=bool(asked.logprobs)
            )
            async for event in events_of:
                yield sse(event)
        except Exception as error:  # noqa: BLE001 - the server's border: the client is told
            yield sse(error_body(_describe(error), kind="server_error", code="server_error"))
        else:
            yield b"data: [DONE]\n\n"

    return events()


def _prompt(asked: ChatRequest) -> list[BaseMessage]:
    try:
        return asked.prompt()
    except ValueError as error:
        raise Refused(400, f"messages: {error}") from error


@contextmanager
def _refusing_failures() -> Iterator[None]:
    """Turn the failure of a model into an answer that names it."""
    try:
        yield
    except Refused:
        raise
    except ClientGone as error:
        raise Refused(499, str(error)) from error
    except NotImplementedError as error:
        raise Refused(400, "The model cannot do what is asked. Does it know tools?") from error
    except Exception as error:
        raise Refused(500, _describe(error)) from error


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


async def _each(*parts: bytes) -> AsyncGenerator[bytes]:
    for part in parts:
        yield part


async def _after(
    first: BaseMessage, others: AsyncIterator[BaseMessage]
) -> AsyncIterator[BaseMessage]:
    yield first
    async for other in others:
        yield other


async def _struck(
    parts: AsyncGenerator[bytes], fault: Fault, request: Request
) -> AsyncGenerator[bytes]:
    """Pass on the first parts; then end, or hang until the client leaves."""
    async with aclosing(parts):
        left = fault.after_parts
        async for part in parts:
            if left == 0:
                break
            yield part
            left -= 1
    if fault.kind is FaultKind.HANG_MID_STREAM:
        await client_gone(request.receive)


class _BrokenOff(StreamingResponse):
    """A response without an end: the web server then closes the connection."""

    async def stream_response(self, send: Send) -> None:
        async def send_all_but_the_end(message: Message) -> None:
            if message["type"] != "http.response.body" or message.get("more_body"):
                await send(message)

        await super().stream_response(send_all_but_the_end)
