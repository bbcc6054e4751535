"""What a call needs and what a policy forbids come before any router, in every way to call."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from routedkit import Way, plain_ways

from langchain_hybridflow import Budget, RoutedChatModel
from langchain_hybridflow.calls import request_of
from langchain_hybridflow.calls.deciding import permit
from langchain_hybridflow.errors import (
    BudgetExceeded,
    CapabilityError,
    ConfigurationError,
    PolicyViolation,
)
from langchain_hybridflow.routing import AlwaysCloud, AlwaysEdge, KeepLocal, RouteRequest
from langchain_hybridflow.sandbox import sandbox_edge
from langchain_hybridflow.testing import ScriptedChatModel

SECRET = "jane@example.org"
IMAGE = {"type": "image", "url": "https://example.org/a.png"}


def routed(*, edge: Any = "e", cloud: Any = "c", **fields: Any) -> RoutedChatModel:
    profiles = {tier: fields.pop(f"{tier}_profile", None) for tier in ("edge", "cloud")}
    settings: dict[str, Any] = {
        "edge": ScriptedChatModel(responses=[edge], model_name="little", profile=profiles["edge"]),
        "cloud": ScriptedChatModel(responses=[cloud], model_name="big", profile=profiles["cloud"]),
        "router": AlwaysCloud(),
    }
    return RoutedChatModel(**(settings | fields))


def record(answer: Any) -> dict[str, Any]:
    return dict(answer.response_metadata["hybridflow"])


def calls(model: RoutedChatModel) -> tuple[int, int]:
    return len(model.edge.calls), len(model.cloud.calls)  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------ capabilities


@plain_ways
async def test_call_goes_where_it_can_be_answered(way: Way) -> None:
    model = routed(router=AlwaysEdge(), edge_profile={"image_inputs": False})
    answer = await way(model, [HumanMessage(["What is it?", IMAGE])])
    decision = record(answer)["decision"]
    assert (record(answer)["tier"], decision["allowed"]) == ("cloud", ["cloud"])
    assert decision["reason"] == "not edge: it lacks image inputs"
    assert not decision["kept_local"]


@plain_ways
async def test_call_that_nobody_can_answer_is_not_made(way: Way) -> None:
    lacking = {"image_inputs": False}
    model = routed(edge_profile=lacking, cloud_profile=lacking)
    with pytest.raises(CapabilityError, match="the cloud lacks image inputs"):
        await way(model, [HumanMessage([IMAGE])])
    assert calls(model) == (0, 0)


def test_failure_does_not_go_where_it_cannot_be_answered() -> None:
    model = routed(cloud=OSError("down"), edge_profile={"image_inputs": False})
    with pytest.raises(OSError, match="down"):
        model.invoke([HumanMessage([IMAGE])])
    assert calls(model) == (0, 1)


def test_exhausted_budget_does_not_send_a_call_where_it_cannot_be_answered() -> None:
    model = routed(edge_profile={"image_inputs": False}, budget=Budget(max_cloud_calls=0))
    with pytest.raises(BudgetExceeded):
        model.invoke([HumanMessage([IMAGE])])
    assert calls(model) == (0, 0)


@pytest.mark.parametrize(
    ("options", "edge_profile", "tier"),
    [
        ({"tools": [{"type": "function"}]}, {"tool_calling": False}, "cloud"),
        ({"tools": []}, {"tool_calling": False}, "edge"),
        ({"tools": [{"type": "function"}]}, {"tool_calling": True}, "edge"),
        ({"response_format": {"type": "json_schema"}}, {"structured_output": False}, "cloud"),
        ({"response_format": {"type": "json_object"}}, {"structured_output": False}, "edge"),
        ({"tools": [{"type": "function"}], "model": "other"}, {"tool_calling": False}, "edge"),
    ],
)
def test_options_say_what_a_call_needs(
    options: dict[str, Any], edge_profile: dict[str, Any], tier: str
) -> None:
    models = routed(edge_profile=edge_profile).core.models
    request = request_of([HumanMessage("x")], options, read_options=False, text="x")
    assert permit(request, models=models, policy=None).allowed[0] == tier


def test_prompt_that_fits_is_not_refused_by_a_generous_count() -> None:
    model = routed(router=AlwaysEdge(), edge_profile={"max_input_tokens": 1_000})
    fits, too_long = "word " * 900, "word " * 9_000
    assert [record(model.invoke(text))["tier"] for text in (fits, too_long)] == ["edge", "cloud"]


# ------------------------------------------------------------------------------------------ policy


@plain_ways
async def test_sensitive_call_stays_on_the_edge(way: Way) -> None:
    model = routed(policy=KeepLocal())
    answer = await way(model, f"Write to {SECRET}.")
    assert calls(model) == (1, 0)
    decision = record(answer)["decision"]
    assert decision["reason"] == "not cloud: kept local, an e-mail address in the prompt"
    assert (decision["router"], decision["allowed"]) == ("policy", ["edge"])
    assert record(answer)["kept_local"]
    assert SECRET not in str(answer.response_metadata)


@plain_ways
async def test_harmless_call_is_left_to_the_router(way: Way) -> None:
    model = routed(policy=KeepLocal())
    answer = await way(model, "Write to nobody.")
    assert (record(answer)["tier"], record(answer)["kept_local"]) == ("cloud", False)


@plain_ways
async def test_sensitive_call_fails_rather_than_leave_the_edge(way: Way) -> None:
    model = routed(edge=OSError("down"), policy=KeepLocal(), router=AlwaysEdge())
    with pytest.raises(OSError, match="down"):
        await way(model, SECRET)
    assert calls(model) == (1, 0)


@plain_ways
async def test_policy_and_capabilities_together_may_leave_nobody(way: Way) -> None:
    model = routed(policy=KeepLocal(), edge_profile={"image_inputs": False})
    with pytest.raises(PolicyViolation, match="the edge lacks image inputs") as caught:
        await way(model, [HumanMessage([SECRET, IMAGE])])
    assert SECRET not in str(caught.value)
    assert calls(model) == (0, 0)


@pytest.mark.parametrize(
    "place",
    [
        [("system", SECRET), ("user", "x")],
        [("user", SECRET), ("ai", "noted"), ("user", "x")],
        [HumanMessage([{"type": "text", "text": SECRET}])],
        [
            HumanMessage("x"),
            AIMessage("", tool_calls=[{"name": "f", "args": {"to": SECRET}, "id": "1"}]),
            ToolMessage("done", tool_call_id="1"),
        ],
        [
            HumanMessage("x"),
            AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}]),
            ToolMessage([{"type": "text", "text": SECRET}], tool_call_id="1"),
        ],
    ],
)
def test_policy_reads_every_message(place: Any) -> None:
    model = routed(policy=KeepLocal())
    model.invoke(place)
    assert calls(model) == (1, 0)


@pytest.mark.parametrize(
    "options", [{"stop": [SECRET]}, {"user": SECRET}, {"extra_body": {"a": SECRET}}]
)
def test_policy_reads_call_options(options: dict[str, Any]) -> None:
    model = routed(policy=KeepLocal())
    model.invoke("x", **options)
    assert calls(model) == (1, 0)


@plain_ways
async def test_conversation_with_a_kept_answer_stays_local(way: Way) -> None:
    model = routed(policy=KeepLocal())
    first = await way(model, SECRET)
    answer = await way(model, [HumanMessage("x"), first, HumanMessage("And now?")])
    assert calls(model) == (2, 0)
    assert "a result that it builds on" in record(answer)["decision"]["reason"]


def test_policy_is_asked_again_before_a_fallback() -> None:
    seen: list[RouteRequest] = []

    def policy(request: RouteRequest) -> list[str]:
        seen.append(request)
        return ["edge", "cloud"] if len(seen) == 1 else ["edge"]

    model = routed(edge=OSError("down"), router=AlwaysEdge(), policy=policy)
    with pytest.raises(OSError, match="down"):
        model.invoke("x")
    assert (calls(model), len(seen)) == ((1, 0), 2)


def test_cloud_only_policy_holds_when_the_budget_is_exhausted() -> None:
    model = routed(policy=lambda _: ["cloud"], budget=Budget(max_cloud_calls=0))
    with pytest.raises(BudgetExceeded):
        model.invoke("x")
    assert calls(model) == (0, 0)


def test_policy_that_allows_nobody_is_an_error() -> None:
    with pytest.raises(PolicyViolation, match="on no tier"):
        routed(policy=lambda _: []).invoke("x")


async def _async_policy(request: RouteRequest) -> list[str]:
    return ["edge"]


@pytest.mark.parametrize("policy", [3, ["edge"], KeepLocal, _async_policy])
def test_what_is_no_policy_is_refused(policy: Any) -> None:
    with pytest.raises(ConfigurationError):
        routed(policy=policy)


def test_policy_survives_pickle_and_json() -> None:
    policy = KeepLocal(patterns={"a name": "Zeus"}, presets=["email"])
    copy = pickle.loads(pickle.dumps(RoutedChatModel(edge=_echo(), cloud=_echo(), policy=policy)))
    assert copy.policy.patterns == policy.patterns
    written = RoutedChatModel(edge=_echo(), cloud=_echo(), policy=policy).lc_attributes["policy"]
    again = routed(policy=written)
    assert (again.policy.patterns, again.policy.presets) == (policy.patterns, policy.presets)


def _echo() -> Any:
    return sandbox_edge(time_scale=0)


def test_model_with_a_policy_of_code_is_never_loaded_without_it() -> None:
    text = dumps(RoutedChatModel(edge=_echo(), cloud=_echo(), policy=lambda _: ["edge"]))
    with pytest.raises(Exception, match=r"serializ|implement|trusted|allowed"):
        loads(text)
