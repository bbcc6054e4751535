"""State and checkpoints: plain JSON, strict, keyed by subtask, checked by what went in."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from flowkit import (
    DIAMOND,
    Face,
    ask,
    asked,
    make_flow,
    planning_worker,
    thread,
    worker,
)
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from langchain_hybridflow import Budget, Price, Subtask
from langchain_hybridflow.graph.state import inputs_hash, is_current, merge_results, unfinished
from langchain_hybridflow.routing import AlwaysCloud


def plain(value: Any) -> bool:
    """Whether a value is made of JSON types alone (messages apart, which LangGraph knows)."""
    if isinstance(value, BaseMessage):
        return True
    if type(value) is dict:
        return all(type(key) is str and plain(part) for key, part in value.items())
    if type(value) is list:
        return all(plain(part) for part in value)
    return value is None or type(value) in (str, int, float, bool)


def test_checkpoints_are_read_strictly_in_this_test_run():
    assert os.environ["LANGGRAPH_STRICT_MSGPACK"] == "true"


@pytest.mark.parametrize("kind", ["compiled", "planned"])
async def test_state_of_every_checkpoint_is_plain_json(face: Face, kind: str):
    flow = make_flow(
        planning_worker(DIAMOND),
        worker(model_name="cloud"),
        router=AlwaysCloud(),
        planner="always",
        budget=Budget(limit_usd=1, prices={"cloud": Price(1, 2)}),
    )
    graph = flow.compile(InMemorySaver(), plan=DIAMOND if kind == "compiled" else None)
    await face.invoke(graph, ask(), thread())
    history = list(graph.get_state_history(thread()))
    assert len(history) >= 4
    assert all(plain(dict(state.values)) for state in history)


async def test_output_is_json(face: Face):
    out = await face.invoke(make_flow().compile(plan=DIAMOND), ask())
    del out["messages"]
    assert json.loads(json.dumps(out)) == out


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_run_gives_the_same_in_every_durability_mode(face: Face, durability: str):
    graph = make_flow().compile(InMemorySaver(), plan=DIAMOND)
    out = await face.invoke(graph, ask(), thread(), durability=durability)
    assert out["answer"] == "answer 4"
    assert graph.get_state(thread()).values["answer"] == "answer 4"


async def test_run_on_the_async_sqlite_saver_is_read_back_whole(tmp_path):
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "x.db")) as saver:
        graph = make_flow(planning_worker(DIAMOND), planner="always").compile(saver)
        out = await graph.ainvoke(ask(), thread())
        values = (await graph.aget_state(thread())).values
    assert {key: values[key] for key in out} == out


async def test_canary_in_a_key_never_reaches_a_checkpoint(face: Face):
    canary = "sk-CANARY0123456789"
    flow = make_flow(
        worker({"2": ValueError(f"401 for key {canary}")}), model={"on_edge_error": "raise"}
    )
    saver = InMemorySaver()
    graph = flow.compile(saver, plan=DIAMOND)
    out = await face.invoke(graph, ask(), thread())
    assert canary not in repr(out)
    assert canary not in repr(saver.storage)
    assert canary not in repr(saver.writes)
    assert canary.encode() not in b"".join(
        blob for _, blob in saver.blobs.values() if isinstance(blob, bytes)
    )


async def test_secrets_of_subtasks_are_not_shown_to_those_that_do_not_depend_on_them(face: Face):
    edge = worker({"2": "SECRET"})
    await face.invoke(make_flow(edge).compile(plan=DIAMOND), ask())
    shown = [
        key for key, call in zip(asked(edge), edge.calls, strict=True) if "SECRET" in call[-1].text
    ]
    assert shown == ["4"]


SUBTASK = Subtask(id="2", task="Part?", depends_on=["1"])


@pytest.mark.parametrize(
    ("subtask", "question", "answers"),
    [
        pytest.param(SUBTASK.model_copy(update={"task": "Other?"}), "Q", {"1": "a"}, id="task"),
        pytest.param(SUBTASK.model_copy(update={"id": "3"}), "Q", {"1": "a"}, id="id"),
        pytest.param(SUBTASK, "Q2", {"1": "a"}, id="question"),
        pytest.param(SUBTASK, "Q", {"1": "b"}, id="answer"),
    ],
)
def test_fingerprint_changes_with_all_that_an_answer_depends_on(
    subtask: Subtask, question: str, answers: dict[str, str]
):
    assert inputs_hash(subtask, question, answers) != inputs_hash(SUBTASK, "Q", {"1": "a"})


@given(st.lists(st.text(), min_size=2, max_size=2), st.lists(st.text(), min_size=2, max_size=2))
def test_fingerprint_does_not_confuse_where_one_text_ends_and_the_next_begins(
    left: list[str], right: list[str]
):
    subtask = Subtask(id="3", task="?", depends_on=["1", "2"])
    same = inputs_hash(subtask, "Q", dict(zip("12", left, strict=True))) == inputs_hash(
        subtask, "Q", dict(zip("12", right, strict=True))
    )
    assert same == (left == right)


def test_fingerprint_takes_any_text():
    assert inputs_hash(SUBTASK, "\ud800", {"1": "\x00"})


def record(subtask: Subtask, status: str, answer: str | None, **answers: str) -> dict[str, Any]:
    fingerprint = inputs_hash(subtask, "Q", answers) if status != "skipped" else ""
    return {"id": subtask.id, "status": status, "answer": answer, "inputs_hash": fingerprint}


def results_of(**statuses: str) -> dict[str, Any]:
    """Results of the diamond; `s1="ok"`, ..."""
    results: dict[str, Any] = {}
    for key in "1234":
        subtask, status = DIAMOND[key], statuses.get(f"s{key}", "ok")
        answers = {parent: results[parent]["answer"] or "" for parent in subtask.depends_on}
        results[key] = record(subtask, status, key if status == "ok" else None, **answers)
    return results


def test_nothing_is_unfinished_when_all_results_are_there():
    assert unfinished(DIAMOND, "Q", results_of()) == ()


def test_everything_is_unfinished_for_another_question():
    assert unfinished(DIAMOND, "Other", results_of()) == ("1", "2", "3", "4")


def test_what_is_below_a_missing_result_is_unfinished_too():
    results = results_of()
    del results["2"]
    assert unfinished(DIAMOND, "Q", results) == ("2", "4")


def test_skipped_subtask_is_finished_while_its_dependency_has_no_answer():
    assert unfinished(DIAMOND, "Q", results_of(s2="failed", s4="skipped")) == ()


def test_skipped_subtask_is_unfinished_once_its_dependencies_have_answers():
    assert unfinished(DIAMOND, "Q", results_of(s4="skipped")) == ("4",)


def test_answered_subtask_is_not_current_once_its_dependency_has_no_answer():
    results = results_of()
    results["2"] = record(DIAMOND["2"], "failed", None, **{"1": "1"})
    assert not is_current(DIAMOND["4"], "Q", results)


def test_result_under_a_wrong_id_is_not_taken():
    results = results_of()
    results["2"], results["3"] = results["3"], results["2"]
    assert unfinished(DIAMOND, "Q", results) == ("2", "3", "4")


def test_newest_record_of_a_subtask_stands():
    merged = merge_results({"1": {"v": 1}, "2": {"v": 1}}, {"2": {"v": 2}})  # type: ignore[dict-item]
    assert merged == {"1": {"v": 1}, "2": {"v": 2}}


@pytest.mark.parametrize(("old", "new"), [(None, None), ({}, None), (None, {})])
def test_merging_takes_nothing_for_nothing(old: Any, new: Any):
    assert merge_results(old, new) == {}
