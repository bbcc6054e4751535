"""What is told of routed calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from langchain_hybridflow import Budget, HybridFlowGraph, Price, RoutedChatModel, RouteDecision
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import AlwaysCloud, AlwaysEdge, KeepLocal, RouteRequest
from langchain_hybridflow.telemetry import Telemetry
from langchain_hybridflow.testing import ScriptedChatModel

PROMPT, ANSWER = "Capital of France please", "Paris is the capital"  # 4 words each
PRICES = {"big": Price(1_000, 2_000)}  # 0.012 USD for 4 words in, 4 words out


class Recorder:
    """Everything that an application with an SDK would export."""

    def __init__(self, **settings: Any) -> None:
        self._spans = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.tracer = tracers.get_tracer("the application")
        self._metrics = InMemoryMetricReader()
        self.telemetry = Telemetry(
            tracer_provider=tracers,
            meter_provider=MeterProvider(metric_readers=[self._metrics]),
            **settings,
        )

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    def points(self, name: str) -> list[Any]:
        data = self._metrics.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    @property
    def everything(self) -> str:
        """All that is exported, as one text."""
        data = self._metrics.get_metrics_data()
        return "".join(span.to_json() for span in self.spans) + (data.to_json() if data else "")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def fake(name: str, *responses: Any, **fields: Any) -> ScriptedChatModel:
    return ScriptedChatModel(responses=list(responses or [ANSWER]), model_name=name, **fields)


def routed(recorder: Recorder, **fields: Any) -> RoutedChatModel:
    settings: dict[str, Any] = {
        "edge": fake("little"),
        "cloud": fake("big"),
        "router": AlwaysCloud(),
        "budget": Budget(prices=PRICES),
        "telemetry": recorder.telemetry,
        "max_retries": 0,
    }
    return RoutedChatModel(**(settings | fields))


def facts(span: ReadableSpan, prefix: str = "") -> dict[str, Any]:
    given = span.attributes or {}
    return {key: value for key, value in given.items() if key.startswith(prefix)}


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


async def by_invoke(model: RoutedChatModel) -> Any:
    return model.invoke(PROMPT)


async def by_ainvoke(model: RoutedChatModel) -> Any:
    return await model.ainvoke(PROMPT)


async def by_stream(model: RoutedChatModel) -> Any:
    return list(model.stream(PROMPT))


async def by_astream(model: RoutedChatModel) -> Any:
    return [chunk async for chunk in model.astream(PROMPT)]


Way = Callable[[RoutedChatModel], Any]
every_way = pytest.mark.parametrize("way", [by_invoke, by_ainvoke, by_stream, by_astream])


@every_way
async def test_call_is_a_span_with_the_model_call_inside(way: Way, recorder: Recorder) -> None:
    await way(routed(recorder))
    route, chat = recorder.one("hybridflow.route"), recorder.one("chat big")
    assert parent_of(chat) == id_of(route)
    assert parent_of(route) is None
    assert (route.kind, chat.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT)
    assert facts(chat) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scriptedchatmodel",
        "gen_ai.request.model": "big",
        "gen_ai.response.model": "big",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 4,
        "gen_ai.usage.output_tokens": 4,
        "hybridflow.tier": "cloud",
        "hybridflow.cost_usd": 0.012,
        "hybridflow.usage_estimated": False,
    }
    told = facts(route)
    assert 0 < told.pop("hybridflow.expected_cost_usd") < 10
    assert told == {
        "hybridflow.tier": "cloud",
        "hybridflow.decided_tier": "cloud",
        "hybridflow.router": "always_cloud",
        "hybridflow.reason": "this policy always chooses the cloud",
        "hybridflow.cost_usd": 0.012,
        "hybridflow.degraded": False,
        "hybridflow.asked": False,
        "hybridflow.kept_local": False,
        "hybridflow.attempts": 1,
    }


@every_way
async def test_call_is_below_the_applications_own_span(way: Way, recorder: Recorder) -> None:
    with recorder.tracer.start_as_current_span("request"):
        await way(routed(recorder))
    assert parent_of(recorder.one("hybridflow.route")) == id_of(recorder.one("request"))


@every_way
async def test_nothing_is_current_afterwards(way: Way, recorder: Recorder) -> None:
    await way(routed(recorder))
    assert not trace.get_current_span().get_span_context().is_valid


def test_model_call_ends_before_its_call_and_begins_after_it(recorder: Recorder) -> None:
    routed(recorder).invoke(PROMPT)
    route, chat = recorder.one("hybridflow.route"), recorder.one("chat big")
    times = (route.start_time, chat.start_time, chat.end_time, route.end_time)
    assert list(times) == sorted(times)  # type: ignore[type-var]


@every_way
async def test_tokens_seconds_and_usd_are_counted(way: Way, recorder: Recorder) -> None:
    model = routed(recorder)
    await way(model)
    await way(model)
    tokens = {
        point.attributes["gen_ai.token.type"]: (point.count, point.sum)
        for point in recorder.points("gen_ai.client.token.usage")
    }
    assert tokens == {"input": (2, 8), "output": (2, 8)}
    (seconds,) = recorder.points("gen_ai.client.operation.duration")
    assert seconds.count == 2
    assert seconds.attributes["hybridflow.tier"] == "cloud"
    assert seconds.explicit_bounds[0] == 0.01
    (usd,) = recorder.points("hybridflow.cost_usd")
    assert (usd.value, dict(usd.attributes)) == (0.024, {"hybridflow.tier": "cloud"})


@every_way
async def test_fallback_is_two_model_calls_and_an_event(way: Way, recorder: Recorder) -> None:
    broken = fake("big", TimeoutError("canary"))
    await way(routed(recorder, cloud=broken))
    route, failed = recorder.one("hybridflow.route"), recorder.one("chat big")
    assert failed.status.status_code is StatusCode.ERROR
    assert facts(failed, "error") == {"error.type": "TimeoutError"}
    assert parent_of(recorder.one("chat little")) == parent_of(failed) == id_of(route)
    assert [(event.name, dict(event.attributes or {})) for event in route.events] == [
        ("hybridflow.fallback", {"hybridflow.tier": "edge", "error.type": "TimeoutError"})
    ]
    assert facts(route, "hybridflow.attempts") == {"hybridflow.attempts": 2}
    assert route.status.status_code is StatusCode.UNSET


def test_refusal_by_the_budget_is_an_event_and_no_model_call(recorder: Recorder) -> None:
    routed(recorder, budget=Budget(max_cloud_calls=0, prices=PRICES)).invoke(PROMPT)
    route = recorder.one("hybridflow.route")
    assert recorder.named("chat big") == []
    assert [event.name for event in route.events] == ["hybridflow.refusal", "hybridflow.fallback"]
    assert facts(route, "hybridflow.degraded") == {"hybridflow.degraded": True}
    refused = dict(route.events[0].attributes or {})
    assert refused["error.type"] == "langchain_hybridflow.errors.BudgetExceeded"
    followed = dict(route.events[1].attributes or {})
    assert followed == {"hybridflow.tier": "edge", "error.type": refused["error.type"]}


@every_way
async def test_escalation_is_an_event(way: Way, recorder: Recorder) -> None:
    await way(routed(recorder, router=AlwaysEdge(), verify=lambda _: False))
    route = recorder.one("hybridflow.route")
    assert [(event.name, dict(event.attributes or {})) for event in route.events] == [
        ("hybridflow.escalation", {"hybridflow.tier": "cloud"})
    ]
    assert len(recorder.named("chat little")) == len(recorder.named("chat big")) == 1


@every_way
async def test_call_that_nobody_answers_is_an_error(way: Way, recorder: Recorder) -> None:
    model = routed(recorder, edge=fake("little", ValueError("e")), cloud=fake("big", OSError("c")))
    with pytest.raises(Exception, match="No tier could answer"):
        await way(model)
    route = recorder.one("hybridflow.route")
    assert route.status.status_code is StatusCode.ERROR
    assert facts(route, "error") == {"error.type": "langchain_hybridflow.errors.ModelCallError"}


def test_stream_that_is_given_up_ends_its_spans_and_counts_what_was_booked(
    recorder: Recorder,
) -> None:
    model = routed(recorder, budget=Budget(limit_usd=10, prices=PRICES))
    stream = model.stream(PROMPT)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    chat, route = recorder.one("chat big"), recorder.one("hybridflow.route")
    assert chat.status.status_code is route.status.status_code is StatusCode.ERROR
    booked = model.budget.snapshot()["usd"]["spent"]
    assert facts(chat)["hybridflow.cost_usd"] == booked > 0
    assert recorder.points("hybridflow.cost_usd")[0].value == booked


async def test_cancelled_call_ends_its_spans(recorder: Recorder) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def stuck(_: Any) -> str:
        begun.set()
        await never.wait()
        return ""

    task = asyncio.create_task(routed(recorder, cloud=fake("big", stuck)).ainvoke(PROMPT))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert facts(recorder.one("chat big"))["error.type"].endswith("CancelledError")
    assert facts(recorder.one("hybridflow.route"))["error.type"].endswith("CancelledError")


def test_model_calls_of_parallel_calls_are_not_mixed_up(recorder: Recorder) -> None:
    model = routed(recorder)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: model.invoke(PROMPT), range(40)))
    routes = {id_of(span) for span in recorder.named("hybridflow.route")}
    assert sorted(routes) == sorted(parent_of(span) for span in recorder.named("chat big"))


async def test_model_calls_of_interleaved_streams_are_not_mixed_up(recorder: Recorder) -> None:
    model = routed(recorder)
    streams = [model.astream(PROMPT) for _ in range(10)]
    with recorder.tracer.start_as_current_span("request") as request:
        alive = streams
        while alive:
            alive = [one for one in alive if await anext(one, None) is not None]
    routes = recorder.named("hybridflow.route")
    assert {parent_of(span) for span in routes} == {request.get_span_context().span_id}
    chats = {parent_of(span) for span in recorder.named("chat big")}
    assert chats == {id_of(span) for span in routes}


def test_known_server_is_told(recorder: Recorder) -> None:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="gpt", api_key="none", base_url="http://127.0.0.1:1/v1", timeout=1)
    routed(recorder, edge=model, router=AlwaysEdge(), on_edge_error="fallback").invoke(PROMPT)
    told = facts(recorder.one("chat gpt"))
    assert (told["server.address"], told["server.port"]) == ("127.0.0.1", 1)
    assert told["gen_ai.provider.name"] == "openai"


# What must not be told.

CANARY = "canary-1f2e3d"


class Leaky:
    """A router that fails with the prompt in its error."""

    def route(self, request: RouteRequest) -> RouteDecision:
        raise KeyError(request.text)


@pytest.mark.parametrize("router", [AlwaysCloud(), AlwaysEdge(), Leaky()])
@pytest.mark.parametrize("fails", [False, True])
def test_no_prompt_answer_error_or_key_is_told(
    router: Any, fails: bool, recorder: Recorder
) -> None:
    def answers(messages: list[Any]) -> Any:
        if fails:
            raise OSError(f"sk-{CANARY} {messages[-1].text}")
        return f"answer {CANARY}"

    model = routed(
        recorder,
        edge=fake("little", answers),
        cloud=fake("big", answers),
        router=router,
        policy=KeepLocal(patterns={"never": "never"}),
        verify=None,
    )
    try:
        model.invoke(f"prompt {CANARY}")
        list(model.stream(f"prompt {CANARY}"))
    except Exception:  # noqa: BLE001 - what is told is looked at, not what is raised
        assert fails
    assert CANARY not in recorder.everything
    assert recorder.named("hybridflow.route")


PICTURE = {"type": "image", "base64": "aaaa", "mime_type": "image/png"}


def test_messages_are_told_when_somebody_asks_for_them() -> None:
    recorder = Recorder(record_content=True)
    call = {"name": "add", "args": {"a": 1}, "id": "1"}
    history = [
        HumanMessage([{"type": "text", "text": "2 + 2?"}, PICTURE]),
        AIMessage("", tool_calls=[call]),
        ToolMessage("4", tool_call_id="1"),
    ]
    routed(recorder).invoke(history)
    told = facts(recorder.one("chat big"))
    assert json.loads(told["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "2 + 2?"}, {"type": "image"}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "1", "name": "add", "arguments": {"a": 1}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "4"}]},
    ]
    assert json.loads(told["gen_ai.output.messages"])[0]["parts"][0]["content"] == ANSWER


def test_nothing_is_told_when_it_is_switched_off() -> None:
    model = RoutedChatModel(edge=fake("little"), cloud=fake("big"), telemetry=False)
    assert model.core.telemetry is None


def test_the_applications_own_providers_are_the_default() -> None:
    model = RoutedChatModel(edge=fake("little"), cloud=fake("big"))
    assert model.core.telemetry is Telemetry.if_installed() is not None


@pytest.mark.parametrize("value", [True, "yes", object()])
def test_telemetry_is_refused_when_it_is_none(value: object) -> None:
    with pytest.raises(ConfigurationError, match="telemetry is a Telemetry"):
        RoutedChatModel(edge=fake("little"), cloud=fake("big"), telemetry=value)


def test_model_with_telemetry_is_written_down_without_it(recorder: Recorder) -> None:
    from langchain_core.load import dumpd

    assert "telemetry" not in dumpd(routed(recorder))["kwargs"]


def test_telemetry_that_is_switched_off_is_written_down(recorder: Recorder) -> None:
    from langchain_core.load import dumpd

    silent = routed(recorder).model_copy(update={"telemetry": False})
    assert dumpd(silent)["kwargs"]["telemetry"] is False


def test_graph_takes_the_telemetry_of_its_model(recorder: Recorder) -> None:
    graph = HybridFlowGraph(routed(recorder)).compile()
    graph.invoke({"messages": [("user", PROMPT)]})
    assert recorder.named("hybridflow.run")
