"""LangServe's routes for a runnable, with identities, and with errors that say what is wrong."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Final, TypeAlias

from langchain_core.runnables import Runnable
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from langchain_hybridflow.errors import HybridFlowError, MissingExtraError
from langchain_hybridflow.leaving import ClientGone, unless_gone
from langchain_hybridflow.serving.bodies import json_object
from langchain_hybridflow.serving.problems import Refused, first_fault, told_fault
from langchain_hybridflow.serving.service import Service

__all__ = ["MAX_BATCH", "add_langserve_routes"]

MAX_BATCH: Final = 32
"""Inputs that one request to `/batch` may hold."""

# When a log is cancelled, LangChain still waits for its run, until it is cancelled again.
_LOG_ENDS_S: Final = 0.1

_Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]
_Event: TypeAlias = Mapping[str, Any]
_Events: TypeAlias = AsyncIterator[_Event]


def add_langserve_routes(
    app: Starlette,
    runnable: Runnable[Any, Any],
    *,
    path: str,
    service: Service,
    playground: bool = True,
    max_batch: int = MAX_BATCH,
) -> None:
    """Serve a runnable under a path, as LangServe's `add_routes` does, for its `RemoteRunnable`.

    There are `invoke`, `batch`, `stream`, `stream_log`, `stream_events`, `input_schema`,
    `output_schema`, `config_schema` and `playground/`. What differs: whom a run is for, and its
    thread, come from the request's identity, and whatever a body says of it is ignored; what goes
    wrong is told by its status, also within a stream; a client that leaves ends its run. Paths
    with a config in them (`c/...`) are not served.

    Args:
        app: A FastAPI or Starlette application, behind a `Gate`.
        runnable: What is served.
        path: Where, such as "/graph".
        service: For whom runs are, and from which budget they are paid.
        playground: Whether there is a page to try it in.
        max_batch: Inputs that one request to `batch` may hold.

    Raises:
        MissingExtraError: LangServe is not installed.
    """
    # LangServe's, for its playground; nobody who reads it here can do anything about it.
    warnings.filterwarnings("ignore", "astream_log is deprecated", DeprecationWarning)
    handler = _handler(runnable, path, service)
    routes = _Routes(handler, runnable, service, max_batch)
    for name, run in {
        "invoke": routes.whole(handler.invoke),
        "batch": routes.whole(handler.batch, check=routes.check_batch),
        "stream": routes.streamed(handler.stream),
        "stream_log": routes.streamed(handler.stream_log, again_s=_LOG_ENDS_S),
        "stream_events": routes.streamed(handler.astream_events),
    }.items():
        app.add_route(f"{path}/{name}", run, methods=["POST"])
    for name in ("input_schema", "output_schema", "config_schema"):
        app.add_route(f"{path}/{name}", routes.described(getattr(handler, name)))
    if playground:
        app.add_route(f"{path}/playground", _to_folder)
        app.add_route(f"{path}/playground/{{file:path}}", routes.page)


def _handler(runnable: Runnable[Any, Any], path: str, service: Service) -> Any:
    try:
        from langserve import APIHandler
    except ImportError as error:
        raise MissingExtraError("Serving by LangServe", "serve") from error

    def for_identity(config: Mapping[str, Any], request: Request) -> dict[str, Any]:
        return {**config, **service.config(request)}

    # Without "configurable" among the keys, LangServe drops what we set, too, on /batch.
    return APIHandler(
        runnable,
        path=path,
        config_keys=("configurable",),
        per_req_config_modifier=for_identity,
    )


class _Routes:
    """The endpoints of one runnable: LangServe's, between a reader of bodies and a border."""

    def __init__(
        self, handler: Any, runnable: Runnable[Any, Any], service: Service, max_batch: int
    ) -> None:
        self._handler = handler
        self._service = service
        self._schema: Any = runnable.get_input_schema()
        self._max_batch = max_batch

    def whole(
        self, run: _Endpoint, *, check: Callable[[Mapping[str, Any]], None] | None = None
    ) -> _Endpoint:
        async def work(request: Request) -> Response:
            body = await json_object(request)
            if check is not None:
                check(body)
            with self._telling_bad_input(body):
                return await unless_gone(request.receive, run(request))

        return self._bordered(work)

    def streamed(
        self, run: Callable[[Request], Awaitable[Any]], *, again_s: float | None = None
    ) -> _Endpoint:
        async def work(request: Request) -> Response:
            with self._telling_bad_input(await json_object(request)):
                response = await run(request)
            events = response.body_iterator
            pump = self._service.pump(
                lambda begin: _without_errors(events, begin), request.receive, again_s=again_s
            )
            # What fails before there is anything to send is an answer with a status of its own.
            await pump.ready()
            response.body_iterator = self._told(pump.parts(), request)
            # sse-starlette would cut streams off at the first sign of a shutdown; the web server
            # gives them their time.
            response.listen_for_exit_signal = asyncio.Event().wait
            return response  # type: ignore[no-any-return] # LangServe's own

        return self._bordered(work)

    def described(self, describe: Callable[[Request], Awaitable[Any]]) -> _Endpoint:
        async def work(request: Request) -> Response:
            return JSONResponse(await describe(request))

        return self._bordered(work)

    async def page(self, request: Request) -> Response:
        """Serve the playground's files."""
        return await self._bordered(self._file)(request)

    async def _file(self, request: Request) -> Response:
        try:
            response: Response = await self._handler.playground(
                request.path_params["file"], request
            )
        except (OSError, ValueError) as error:  # a folder, or a name that no file can have
            raise HTTPException(404) from error
        # In a frame of another page's, a click on Start would spend the money of whoever clicks.
        response.headers["X-Frame-Options"] = "DENY"
        return response

    def check_batch(self, body: Mapping[str, Any]) -> None:
        """Refuse a batch that is none, or too large."""
        inputs = body.get("inputs")
        if not isinstance(inputs, list):
            raise Refused(422, "invalid_input", "inputs: it must be a list.")
        if len(inputs) > self._max_batch:
            message = f"A batch holds at most {self._max_batch} inputs, and this one {len(inputs)}."
            raise Refused(413, "batch_too_large", message)

    @contextmanager
    def _telling_bad_input(self, body: Mapping[str, Any]) -> Iterator[None]:
        """Find out whether a failure was one of the input, on which LangServe fails in many ways.

        Only then is the input looked at a second time.
        """
        try:
            yield
        except (ClientGone, HTTPException, HybridFlowError):
            raise
        except Exception as error:
            if body.get("config", {}) is None:
                message = "config: it must be an object. Leave it out."
                raise Refused(422, "invalid_input", message) from error
            for place, one in _inputs(body):
                fault = self._fault_of(one)
                if fault is not None:
                    raise Refused(422, "invalid_input", f"{place}: {fault}") from error
            raise

    def _fault_of(self, value: object) -> str | None:
        try:
            self._schema.model_validate(value)
        except ValidationError as error:
            return first_fault(error)
        except Exception:  # noqa: BLE001 - the types of messages are told apart by code
            return "it is not what is expected there"
        return None

    def _bordered(self, work: _Endpoint) -> _Endpoint:
        async def endpoint(request: Request) -> Response:
            try:
                return await work(request)
            except Exception as error:  # noqa: BLE001 - the server's border: the client is told
                return self._service.problem(_readable(error), request).response()

        return endpoint

    async def _told(self, events: AsyncGenerator[_Event], request: Request) -> _Events:
        """Pass events on; tell what went wrong, where LangServe only tells that something did."""
        async with aclosing(events):
            try:
                async for event in events:
                    yield event
            except Exception as error:  # noqa: BLE001 - the server's border: the client is told
                problem = self._service.problem(_readable(error), request)
                told = {"status_code": problem.status, "message": problem.message}
                yield {"event": "error", "data": json.dumps({**told, "code": problem.code})}


async def _without_errors(events: Any, begin: Callable[[], None]) -> _Events:
    async with aclosing(events):
        async for event in events:
            if event.get("event") != "error":  # what it was, follows as an exception
                begin()
                yield event


def _inputs(body: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    if "input" in body or not isinstance(body.get("inputs"), list):
        yield "input", body.get("input")
    else:
        yield from ((f"inputs.{number}", one) for number, one in enumerate(body["inputs"]))


async def _to_folder(request: Request) -> Response:
    # Relative, so that it holds behind a proxy that cuts a prefix off.
    return RedirectResponse(f"{request.url.path.rpartition('/')[2]}/")


def _readable(error: Exception) -> Exception:
    """Translate FastAPI's error about a body, which repeats the body."""
    from fastapi.exceptions import RequestValidationError

    if not isinstance(error, RequestValidationError):
        return error
    faults = [fault for fault in error.errors() if isinstance(fault, Mapping)]
    fault = faults[0] if faults else {"loc": (), "msg": ""}
    return Refused(422, "invalid_input", told_fault(fault["loc"], str(fault["msg"])))
