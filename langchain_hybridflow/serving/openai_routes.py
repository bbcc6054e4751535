"""OpenAI's chat-completions API for routed models and graphs, so that any client can ask them."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from langchain_hybridflow.leaving import unless_gone
from langchain_hybridflow.openai_wire import (
    ChatRequest,
    Head,
    completion,
    completion_events,
    sse,
)
from langchain_hybridflow.serving.answerers import Answerer, answerer_of
from langchain_hybridflow.serving.bodies import json_object
from langchain_hybridflow.serving.extension import extension, routing_headers
from langchain_hybridflow.serving.problems import Problem, Refused, first_fault
from langchain_hybridflow.serving.service import Service

__all__ = ["HEARTBEAT_S", "add_openai_routes"]

HEARTBEAT_S: Final = 10.0
"""Seconds of silence after which a stream sends a comment, so that no proxy hangs up."""

_BEAT: Final = b": still at work\n\n"

# What would change the answer and is not passed on. `n` is checked with the other fields.
_UNSUPPORTED: Final = (
    "audio",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "prediction",
    "top_logprobs",
    "web_search_options",
)


def add_openai_routes(
    app: Starlette,
    models: Mapping[str, BaseChatModel | Runnable[Any, Any]],
    *,
    service: Service,
    prefix: str = "/v1",
    heartbeat_s: float = HEARTBEAT_S,
) -> None:
    """Serve chat models and graphs as `/v1/chat/completions` and `/v1/models`.

    Headers of an answer say who gave it: `x-hybridflow-tier`, `-reason`, `-cost-usd` and
    `-remaining-usd`; so does its field `hybridflow`, which of a stream is in the last event. The
    `user` of a request is ignored: whom a run is for, comes from the request's identity.

    Args:
        app: A FastAPI or Starlette application, behind a `Gate`.
        models: What clients ask for by name: chat models, or compiled `HybridFlowGraph`s.
        service: For whom runs are, and from which budget they are paid.
        prefix: What stands before the paths.
        heartbeat_s: Seconds of silence after which a stream sends a comment.
    """
    chat = _Chat({name: answerer_of(one) for name, one in models.items()}, service, heartbeat_s)
    app.add_route(f"{prefix}/chat/completions", chat.complete, methods=["POST"])
    app.add_route(f"{prefix}/models", chat.list_models)
    app.add_route(f"{prefix}/models/{{name}}", chat.show_model)


class _Chat:
    """The endpoints."""

    def __init__(
        self, answerers: Mapping[str, Answerer], service: Service, heartbeat_s: float
    ) -> None:
        self._answerers = answerers
        self._service = service
        self._heartbeat_s = heartbeat_s

    async def list_models(self, _request: Request) -> Response:
        rows = [_model_row(name) for name in self._answerers]
        return JSONResponse({"object": "list", "data": rows})

    async def show_model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._answerers:
            return self._unknown().response()
        return JSONResponse(_model_row(name))

    def _unknown(self) -> Problem:
        known = ", ".join(self._answerers)
        message = f"There is no such model. There are: {known}."
        return Problem(status=404, code="model_not_found", message=message)

    async def complete(self, request: Request) -> Response:
        try:
            asked = _read(await json_object(request))
            answerer = self._answerers.get(asked.model)
            if answerer is None:
                return self._unknown().response()
            answerer.check(asked)
            config = self._service.config(request)
            head = Head(
                id=f"chatcmpl-{uuid.uuid4().hex}", created=int(time.time()), model=asked.model
            )
            respond = self._streamed if asked.stream else self._whole
            return await respond(request, asked, answerer, head, config)
        except Exception as error:  # noqa: BLE001 - the server's border: the client is told
            return self._service.problem(error, request).response()

    async def _whole(
        self,
        request: Request,
        asked: ChatRequest,
        answerer: Answerer,
        head: Head,
        config: RunnableConfig,
    ) -> Response:
        message = await unless_gone(request.receive, answerer.answer(asked, config))
        facts = extension(message.response_metadata)
        left = await self._service.remaining_usd(config)
        return JSONResponse(
            completion(message, head, **facts), headers=routing_headers(facts, left)
        )

    async def _streamed(
        self,
        request: Request,
        asked: ChatRequest,
        answerer: Answerer,
        head: Head,
        config: RunnableConfig,
    ) -> Response:
        left = await self._service.remaining_usd(config)
        pump = self._service.pump(
            lambda begin: self._events(answerer.stream(asked, config), asked, head, begin),
            request.receive,
            beat=_BEAT,
            beat_s=self._heartbeat_s,
        )
        # What fails before the first chunk is an answer with a status of its own. After a long
        # silence the response begins all the same: no proxy waits for ever.
        await pump.ready()

        async def body() -> AsyncGenerator[bytes]:
            async with aclosing(pump.parts()) as parts:
                try:
                    async for part in parts:
                        yield part
                except Exception as error:  # noqa: BLE001 - the server's border
                    yield sse(self._service.problem(error, request).body())

        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            body(),
            media_type="text/event-stream",
            headers=headers | routing_headers({}, left),
        )

    async def _events(
        self,
        chunks: AsyncIterator[BaseMessage],
        asked: ChatRequest,
        head: Head,
        begin: Callable[[], None],
    ) -> AsyncIterator[bytes]:
        async def noted() -> AsyncIterator[BaseMessage]:
            async with aclosing(chunks):  # type: ignore[type-var] # it is a generator
                async for chunk in chunks:
                    begin()
                    yield chunk

        events = completion_events(
            noted(), head, include_usage=asked.include_usage, ending=extension
        )
        async with aclosing(events):  # type: ignore[type-var] # it is a generator
            async for event in events:
                yield sse(event)
        yield b"data: [DONE]\n\n"


def _read(body: dict[str, Any]) -> ChatRequest:
    """Read a request.

    Raises:
        Refused: It is none, or it wants something that nobody here can do.
    """
    wanted = [name for name in _UNSUPPORTED if body.get(name)]
    if body.get("modalities") not in (None, ["text"]):
        wanted.append("modalities")
    if wanted:
        message = f"{', '.join(sorted(wanted))}: this server cannot do that. Leave it out."
        raise Refused(400, "unsupported", message)
    try:
        asked = ChatRequest.model_validate(body)
        asked.prompt()
    except ValidationError as error:
        raise Refused(400, "invalid_request", first_fault(error)) from error
    except (KeyError, NotImplementedError, TypeError, ValueError) as error:
        message = "messages: each needs a role that OpenAI knows, and content of OpenAI's form."
        raise Refused(400, "invalid_request", message) from error
    return asked


def _model_row(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "hybridflow"}
