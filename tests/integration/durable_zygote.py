"""Runs graphs in processes of their own and kills them at exact moments; see `test_durability`.

Reads one job a line from stdin as JSON, forks a process for it, and prints how the process ended.
The fork saves the import of LangGraph for each process; nothing else is shared, because the parent
runs no graph, opens no file and starts no thread.

A job's moments are counted: before and after each model call, and before and after each write of
the checkpointer. At moment number `kill_at` the process sends itself a SIGKILL.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import sqlite3
import sys
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiosqlite
from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from langchain_hybridflow import Budget, HybridFlowGraph, Plan, RoutedChatModel, Subtask
from langchain_hybridflow.plan import plan_to_xml
from langchain_hybridflow.routing import AlwaysCloud, RandomRouter
from langchain_hybridflow.testing import ScriptedChatModel

_SUBTASK = re.compile(r'<subtask id="([^"]+)"')
QUESTION = {"messages": [HumanMessage("How much is it in total, and why?")]}
THREAD = {"configurable": {"thread_id": "t"}}
PLAN = Plan(
    subtasks=[
        Subtask(id="1", task="What is given?", role="explain"),
        Subtask(id="2", task="Part two?", depends_on=["1"]),
        Subtask(id="3", task="Part three?", depends_on=["1"]),
        Subtask(id="4", task="Part four?", depends_on=["2"]),
        Subtask(id="5", task="Part five?", depends_on=["3"]),
        Subtask(id="6", task="All?", role="generate", depends_on=["4", "5"]),
    ]
)


class Journal:
    """An append-only file that survives a SIGKILL, and the count of moments."""

    def __init__(self, path: str, kill_at: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._kill_at = kill_at
        self._lock = threading.Lock()
        self.moments = 0

    def moment(self, line: str = "") -> None:
        with self._lock:
            if line:
                os.write(self._file, f"{line}\n".encode())
                os.fsync(self._file)
            self.moments += 1
            if self.moments == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def saved(config: dict[str, Any], writes: Iterable[tuple[str, Any]]) -> str:
    """Say which results a write makes durable - once the checkpoints that it hangs on are."""
    found: list[str] = []
    for channel, value in writes:
        if channel == "results" and isinstance(value, dict):
            found += value
        elif channel == "plan" and value:
            found.append("plan")
    place = config["configurable"]
    needs = {place["checkpoint_id"], *place.get("checkpoint_map", {}).values()}
    return "\n".join(f"saved {key} {' '.join(sorted(needs))}" for key in found)


class JournaledSaver(SqliteSaver):
    """The SQLite saver, with a moment before and after each of its writes."""

    journal: Journal

    def put(self, *args: Any, **kwargs: Any) -> Any:
        self.journal.moment()
        done = super().put(*args, **kwargs)
        self.journal.moment(f"put {done['configurable']['checkpoint_id']}")
        return done

    def put_writes(self, config: Any, writes: Any, *args: Any, **kwargs: Any) -> None:
        self.journal.moment()
        super().put_writes(config, writes, *args, **kwargs)
        self.journal.moment(saved(config, writes))


class AsyncJournaledSaver(AsyncSqliteSaver):
    """Async twin of `JournaledSaver`."""

    journal: Journal

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        self.journal.moment()
        done = await super().aput(*args, **kwargs)
        self.journal.moment(f"put {done['configurable']['checkpoint_id']}")
        return done

    async def aput_writes(self, config: Any, writes: Any, *args: Any, **kwargs: Any) -> None:
        self.journal.moment()
        await super().aput_writes(config, writes, *args, **kwargs)
        self.journal.moment(saved(config, writes))


def make_graph(job: dict[str, Any], journal: Journal, saver: Any) -> Any:
    def respond(messages: list[BaseMessage]) -> Any:
        found = _SUBTASK.search(messages[-1].text)
        key = found[1] if found else "plan"
        journal.moment(f"begin {key}")
        if key in job.get("edge_fails", ()):
            raise ConnectionRefusedError("nobody is there")
        prompt = messages[-1].text
        answer = plan_to_xml(PLAN) if key == "plan" else f"{key}:{_digest(prompt)}"
        journal.moment(f"end {key}")
        return answer

    def respond_in_the_cloud(messages: list[BaseMessage]) -> str:
        key = _SUBTASK.search(messages[-1].text)[1]  # type: ignore[index]
        journal.moment(f"begin {key}")
        journal.moment(f"end {key}")
        return f"{key}:{_digest(messages[-1].text)}"

    approve = job.get("approve", False)
    fails = job.get("edge_fails")
    share = 0.0 if fails else 0.5
    model = RoutedChatModel(
        edge=ScriptedChatModel(responses=[respond], model_name="edge"),
        cloud=ScriptedChatModel(responses=[respond_in_the_cloud], model_name="cloud"),
        router=AlwaysCloud() if approve and not fails else RandomRouter(cloud_share=share),
        budget=Budget(max_cloud_calls=100),
    )
    flow = HybridFlowGraph(
        model, planner="always", approve_cloud=approve, edge_slots=job.get("edge_slots", 2)
    )
    return flow.compile(saver, plan=PLAN if job["kind"] == "compiled" else None)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def given_to(job: dict[str, Any], state: Any) -> Any:
    """What the graph is to be invoked with: the question, an answer to an interrupt, or nothing."""
    if "answers" in job:
        return Command(resume=job["answers"])
    return None if state.created_at else QUESTION  # killed before anything was written


def outcome(out: Any, state: Any, journal: Journal) -> dict[str, Any]:
    results = out.get("results") or {}
    return {
        "answer": out.get("answer"),
        "answers": {key: record["answer"] for key, record in results.items()},
        "tiers": {key: record["tier"] for key, record in results.items()},
        "interrupts": [
            {"id": one.id, "subtask": one.value["subtask_id"]} for one in state.interrupts
        ],
        "moments": journal.moments,
    }


def run_sync(job: dict[str, Any], journal: Journal) -> dict[str, Any]:
    saver = JournaledSaver(sqlite3.connect(job["db"], check_same_thread=False))
    saver.journal = journal
    graph = make_graph(job, journal, saver)
    state = graph.get_state(THREAD)
    out = state.values
    if not state.values.get("answer"):
        out = graph.invoke(given_to(job, state), THREAD, durability=job["durability"])
    return outcome(out, graph.get_state(THREAD), journal)


async def run_async(job: dict[str, Any], journal: Journal) -> dict[str, Any]:
    async with aiosqlite.connect(job["db"]) as connection:
        saver = AsyncJournaledSaver(connection)
        saver.journal = journal
        graph = make_graph(job, journal, saver)
        state = await graph.aget_state(THREAD)
        out = state.values
        if not state.values.get("answer"):
            out = await graph.ainvoke(given_to(job, state), THREAD, durability=job["durability"])
        return outcome(out, await graph.aget_state(THREAD), journal)


def work(job: dict[str, Any]) -> None:
    journal = Journal(job["journal"], job.get("kill_at", 0))
    if job["face"] == "sync":
        found = run_sync(job, journal)
    else:
        found = asyncio.run(run_async(job, journal))
    Path(job["out"]).write_text(json.dumps(found))


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work(job)
                status = 0
            except BaseException:  # noqa: BLE001 - the child must end here, whatever happened
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
