"""What docs/metadata.md says about metadata, traces and telemetry is what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from langchain_hybridflow import Budget, HybridFlowGraph, Plan, Price, RoutedChatModel, Subtask
from langchain_hybridflow.routing import DifficultyRouter, RandomRouter
from langchain_hybridflow.telemetry import names
from langchain_hybridflow.testing import ScriptedChatModel

PAGE = (Path(__file__).parent.parent / "docs" / "metadata.md").read_text(encoding="utf-8")

PLAN = Plan(
    subtasks=[
        Subtask(id="1", task="What is given?", role="explain"),
        Subtask(id="2", task="What follows?", role="generate", depends_on=["1"]),
    ]
)

TYPES: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "list": list,
    "object": dict,
    "null": type(None),
}


def section(title: str) -> str:
    (found,) = re.findall(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    return str(found)


def table(title: str) -> dict[str, tuple[list[str], str]]:
    """The keys of a section's table, with their types and examples."""
    row = r"^\| `(\w+)` \| ([\w ]+) \|(?: `(.*?)`)? \| .+ \|$"
    rows = re.findall(row, section(title), re.MULTILINE)
    return {key: (types.split(" or "), example) for key, types, example in rows}


def routed(**fields: Any) -> RoutedChatModel:
    settings: dict[str, Any] = {
        "edge": ScriptedChatModel(responses=["e"], model_name="little"),
        "cloud": ScriptedChatModel(responses=["c"], model_name="big"),
        "budget": Budget(prices={"big": Price(2, 8)}),
    }
    return RoutedChatModel(**(settings | fields))


def records() -> list[dict[str, Any]]:
    """Records of calls of every kind."""
    broken = ScriptedChatModel(responses=[ValueError("no")], model_name="big")
    unpriced = ScriptedChatModel(responses=["c"], model_name="unpriced")
    models = [
        routed(),
        routed(router=RandomRouter(cloud_share=1)),
        routed(router=RandomRouter(cloud_share=1), cloud=broken),
        routed(router=RandomRouter(cloud_share=1), cloud=unpriced),
        routed(router=RandomRouter(cloud_share=1), budget=Budget(max_cloud_calls=0)),
        routed(router=RandomRouter(cloud_share=0), verify=lambda _: False),
        routed(policy=lambda _: ["edge"]),
        routed(router=DifficultyRouter(threshold=1)),
    ]
    return [model.invoke("Why?").response_metadata["hybridflow"] for model in models]


def graph_records() -> list[dict[str, Any]]:
    answer = HybridFlowGraph(routed()).compile().invoke({"messages": [("user", "Why?")]})
    return [answer["messages"][-1].response_metadata["hybridflow"]]


def subtask_records() -> list[dict[str, Any]]:
    """Records of subtasks that were answered, refused and skipped."""
    broken = ScriptedChatModel(responses=[ValueError("no")])
    models = [
        routed(),
        routed(router=RandomRouter(cloud_share=1)),
        routed(router=RandomRouter(cloud_share=1), budget=Budget(max_cloud_calls=0)),
        routed(edge=broken, cloud=broken),
        routed(router=RandomRouter(cloud_share=0), verify=lambda _: False),
    ]
    found: list[dict[str, Any]] = []
    for model in models:
        graph = HybridFlowGraph(model).compile(plan=PLAN)
        found += graph.invoke({"messages": [("user", "Why?")]})["results"].values()
    return found


REAL = {
    "The record of an answer": records,
    "The decision": lambda: [record["decision"] for record in records()],
    "An attempt": lambda: [one for record in records() for one in record["attempts"]],
    "The answer of a graph": graph_records,
    "The record of a subtask": subtask_records,
}


@pytest.mark.parametrize("title", REAL)
def test_documented_keys_are_the_real_ones(title: str) -> None:
    documented = table(title)
    for real in REAL[title]():
        assert list(real) == list(documented)


@pytest.mark.parametrize("title", REAL)
def test_values_have_the_documented_types(title: str) -> None:
    for real in REAL[title]():
        for key, (types, _) in table(title).items():
            allowed = tuple(TYPES[name] for name in types)
            assert isinstance(real[key], sum_of(allowed)), f"{key}: {real[key]!r}"
            is_bool = isinstance(real[key], bool)
            assert not is_bool or "boolean" in types, f"{key}: {real[key]!r}"


def sum_of(types: tuple[Any, ...]) -> tuple[type, ...]:
    return tuple(one for kind in types for one in (kind if isinstance(kind, tuple) else (kind,)))


@pytest.mark.parametrize("title", REAL)
def test_examples_have_the_documented_types(title: str) -> None:
    for key, (types, example) in table(title).items():
        if example:
            allowed = sum_of(tuple(TYPES[name] for name in types))
            assert isinstance(json.loads(example), allowed), key


@pytest.mark.parametrize("title", REAL)
def test_records_are_plain_json(title: str) -> None:
    for real in REAL[title]():
        assert json.loads(json.dumps(real, allow_nan=False)) == real


def test_documented_moments_are_the_real_ones() -> None:
    part = section("The record of a subtask").partition("### Moments")[2]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.*?)\|$", part, re.MULTILINE)
    facts = {event: {*re.findall(r"`(\w+)`", told), "at", "event"} for event, told in rows}
    moments = [one for record in subtask_records() for one in record["timeline"]]
    for moment in moments:
        assert set(moment) - {"purpose"} == facts[moment["event"]], moment
    assert {one["event"] for one in moments} == facts.keys() - {"paused"}


def test_names_of_spans_events_and_metrics_are_the_real_ones() -> None:
    told = set(re.findall(r"`(hybridflow\.\w+|gen_ai\.[\w.]+|error\.type)`", PAGE))
    real = {value for value in vars(names).values() if isinstance(value, str)}
    assert told <= real
    wanted = (names.RUN_SPAN, names.SUBTASK_SPAN, names.ROUTE_SPAN, names.REFUSAL_EVENT)
    metrics = (names.USAGE_METRIC, names.DURATION_METRIC, names.COST_USD)
    assert {*wanted, *metrics, names.FALLBACK_EVENT, names.ESCALATION_EVENT} <= told
