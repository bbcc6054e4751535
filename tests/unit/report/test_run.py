from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

from langchain_hybridflow import Budget, HybridFlowGraph, Price, RoutedChatModel
from langchain_hybridflow.errors import InputError
from langchain_hybridflow.report import Run, load_runs
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.testing import ScriptedChatModel
from tests.unit.report.runs import EPOCH, small_output, small_run


def graph_output() -> dict[str, Any]:
    model = RoutedChatModel(
        edge=ScriptedChatModel(responses=["e"], model_name="little"),
        cloud=ScriptedChatModel(responses=["c"], model_name="big"),
        router=AlwaysCloud(),
        budget=Budget(limit_usd=1, prices={"big": Price(2, 8)}),
    )
    out: dict[str, Any] = HybridFlowGraph(model).compile().invoke({"messages": [("user", "Why?")]})
    return out


def test_run_of_a_graph_has_what_the_graph_knows() -> None:
    out = graph_output()
    run = Run.of(out, label="mine", score=0.5)
    (one,) = run.subtasks
    assert (run.question, run.answer, run.label, run.score) == ("Why?", "c", "mine", 0.5)
    assert (one.tier, one.model, one.answer) == ("cloud", "big", "c")
    assert str(run.cost_usd) == out["report"]["totals"]["cost_usd"]
    assert set(one.expected_usd) == {"edge", "cloud"}
    events = [moment.event for moment in one.timeline]
    assert events == ["decided", "queued", "started", "held", "asked", "spent", "ended"]
    assert one.timeline[0].budget is not None
    assert one.timeline[0].budget.usd.limit == 1
    assert one.timeline[5].usd == one.cost_usd


def test_times_count_from_the_first_moment() -> None:
    run = small_run()
    assert (run["1"].ready_s, run["3"].start_s, run.seconds) == (0.0, 1.5, 5.0)
    assert run.started_at == EPOCH
    assert run["3"].timeline[-1].at_s == 4.0


def test_properties_sum_up_the_run() -> None:
    run = small_run()
    assert (run.cost_usd, run.tokens, run.cloud_share) == (Decimal("0.001"), 240, 0.5)
    with pytest.raises(KeyError):
        run["9"]


def test_question_is_the_last_thing_a_person_said() -> None:
    messages = [HumanMessage("first"), AIMessage("a"), HumanMessage("second"), AIMessage("b")]
    assert Run.of(small_output(messages=messages)).question == "second"
    assert Run.of(small_output(messages=None)).question == ""
    assert Run.of(small_output(), question="mine").question == "mine"


@pytest.mark.parametrize("name", ["run.json", "run.jsonl"])
def test_saved_run_loads_as_it_was(tmp_path: Path, name: str) -> None:
    run = small_run(label="ü \u4f60", score=1)
    run.save(tmp_path / name)
    assert Run.load(tmp_path / name) == run


def test_jsonl_gets_a_line_more_with_each_run(tmp_path: Path) -> None:
    for label in ("a", "b"):
        small_run(label=label).save(tmp_path / "runs.jsonl")
    assert [run.label for run in load_runs(tmp_path / "runs.jsonl")] == ["a", "b"]
    with pytest.raises(InputError, match="2 runs, not one"):
        Run.load(tmp_path / "runs.jsonl")


def test_list_of_runs_is_a_file_of_many(tmp_path: Path) -> None:
    (tmp_path / "runs.json").write_text(json.dumps([small_run().to_json()] * 3))
    assert len(load_runs(tmp_path / "runs.json")) == 3


def test_records_of_older_checkpoints_make_a_run_without_moments() -> None:
    out = small_output()
    for one in out["results"].values():
        del one["timeline"]
    run = Run.of(out)
    assert run["2"].timeline == ()
    assert run["3"].start_s == 1.5


def test_clock_that_was_set_back_makes_no_time_negative() -> None:
    out = small_output()
    out["results"]["4"] |= {"started_at": EPOCH - 50, "ended_at": EPOCH - 40}
    run = Run.of(out)
    assert run["4"].ready_s <= run["4"].start_s <= run["4"].end_s


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    run = Run.of(small_output(answer="a\ud800b"), label="\udfff")
    assert (run.answer, run.label) == ("a?b", "?")
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run


def test_run_keeps_no_key_of_the_messages() -> None:
    messages = [HumanMessage("Why?", additional_kwargs={"api_key": "sk-CANARY"})]
    assert "sk-CANARY" not in json.dumps(Run.of(small_output(messages=messages)).to_json())


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "JSON object"),
        ([], "JSON object"),
        ({}, "not a run"),
        ({"plan": {}, "results": {}, "report": {}}, "not come to its end"),
        ({"plan": {}, "results": {}, "report": {"subtasks": []}}, "not a run"),
        ({"plan": {}, "results": {}, "report": {"subtasks": ["x"]}}, "not a run"),
        ({"plan": {}, "results": {"1": {}}, "report": {"subtasks": [{"id": "1"}]}}, "ready_at"),
        ({"plan": {}, "results": {"1": 5}, "report": {"subtasks": [{"id": "1"}]}}, "not a run"),
        ({"plan": {}, "results": 5, "report": 5}, "not a run"),
        ({"format": "hybridflow-run", "version": 9}, "version 9"),
        ({"format": "hybridflow-run", "version": 1}, "complete: Field required"),
        ({"apgr": 0.5, "curve": {}}, "--evaluation"),
    ],
)
def test_anything_else_is_refused_with_a_reason(value: object, why: str) -> None:
    with pytest.raises(InputError, match=why):
        Run.from_json(value)


@pytest.mark.parametrize(
    "changes",
    [
        {"ended_at": float("nan")},
        {"ended_at": float("inf")},
        {"ended_at": 1e300},
        {"ended_at": "soon"},
        {"cost_usd": "-1"},
        {"cost_usd": "much"},
        {"tier": "fog"},
        {"status": "great"},
        {"input_tokens": -1},
        {"timeline": "none"},
        {"timeline": [{"at": EPOCH, "event": "held", "usd": "NaN"}]},
        {"timeline": [7]},
        {"ended_at": 10**400},
    ],
)
def test_value_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    out = small_output()
    out["results"]["2"] |= changes
    with pytest.raises(InputError, match="not a run"):
        Run.of(out)


@pytest.mark.parametrize("key", ["question", "version", "answer"])
def test_value_that_is_nested_too_deeply_is_refused(key: str) -> None:
    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(InputError):
        Run.from_json(small_run().to_json() | {key: deep})


def test_plan_and_subtasks_must_be_the_same() -> None:
    value = small_run().to_json()
    value["subtasks"] = value["subtasks"][:2]
    with pytest.raises(InputError, match="not those of its plan"):
        Run.from_json(value)


def test_plan_that_is_none_is_refused() -> None:
    value = small_run().to_json()
    value["plan"]["subtasks"][0]["id"] = "0"
    with pytest.raises(InputError, match=r"(?s)not a run.*does not exist"):
        Run.from_json(value)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in items:
        yield (*path, key)
        if isinstance(one, dict | list):
            yield from places_in(one, (*path, key))


JUNK = st.sampled_from([None, True, -1, 0, 1e308, "", "x", "2e999", [], [1], {}, {"a": 1}, [[]]])


@given(st.data())
@settings(max_examples=100)
def test_no_broken_file_does_worse_than_a_refusal(data: st.DataObject) -> None:
    base = data.draw(st.sampled_from([small_output(), small_run().to_json()]))
    value = json.loads(json.dumps(base))
    path = data.draw(st.sampled_from(list(places_in(value))))
    part = value
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = data.draw(JUNK)
    try:
        run = Run.from_json(value)
    except InputError:
        return
    assert Run.from_json(json.loads(json.dumps(run.to_json()))) == run


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_score_is_a_share(score: float) -> None:
    with pytest.raises(InputError, match="score"):
        Run.of(small_output(), score=score)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no run"),
        (b"\xff\xfe", "not UTF-8"),
        (b"hello", "not JSON"),
        (b"[]", "no run"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_file_that_is_none_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(InputError, match=why):
        load_runs(tmp_path / "run.json")


def test_missing_file_and_broken_line_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.json cannot be read: No such file"):
        load_runs(tmp_path / "gone.json")
    small_run().save(tmp_path / "runs.jsonl")
    with (tmp_path / "runs.jsonl").open("a") as file:
        file.write("\n{broken\n")
    with pytest.raises(InputError, match=r"runs\.jsonl line 3 is not JSON"):
        load_runs(tmp_path / "runs.jsonl")


def test_run_says_in_a_line_what_it_is() -> None:
    assert repr(small_run(label="a")) == "<Run 'a': 4 subtasks, 5.0 s, 0.001 USD>"
