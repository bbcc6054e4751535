"""One step of a run in a process of its own; see `test_asking_processes`.

Arguments: a folder, the face ("sync" or "async"), and what to do: "ask", or the answer to give.
Prints what came of it as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from langchain_hybridflow import Budget, HybridFlowGraph, Plan, RoutedChatModel, Subtask
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.testing import ScriptedChatModel

THREAD = {"configurable": {"thread_id": "t"}}
MIDDLE = [str(number) for number in range(2, 6)]
PLAN = Plan(
    subtasks=[
        Subtask(id="1", task="What is given?", role="explain"),
        *(Subtask(id=key, task=f"Part {key}?", depends_on=["1"]) for key in MIDDLE),
        Subtask(id="6", task="All?", role="generate", depends_on=MIDDLE),
    ]
)


def main(folder: Path, face: str, answer: str) -> dict[str, Any]:
    edge = ScriptedChatModel(responses=["from the edge"], model_name="little")
    cloud = ScriptedChatModel(responses=["from the cloud"], model_name="big")
    budget = Budget(max_cloud_calls=1, on_exhausted="ask", store=f"sqlite:///{folder}/ledger.db")
    model = RoutedChatModel(edge=edge, cloud=cloud, router=AlwaysCloud(), budget=budget)
    flow = HybridFlowGraph(model, reserve_final=True)
    given: Any = (
        {"messages": [HumanMessage("How much is it in total, and why?")]}
        if answer == "ask"
        else Command(resume={"approve": answer == "yes"})
    )
    out = _out(flow, folder, face, given)
    state = budget.snapshot()
    budget.close()
    return {
        "questions": [one.value for one in out.get("__interrupt__", ())],
        "complete": out.get("report", {}).get("complete"),
        "degraded": out.get("report", {}).get("degraded"),
        "cloud": len(cloud.calls),
        "edge": len(edge.calls),
        "calls": state["cloud_calls"],
        "allowance": state["allowance"]["cloud_calls"],
    }


def _out(flow: HybridFlowGraph, folder: Path, face: str, given: Any) -> dict[str, Any]:
    if face == "sync":
        connection = sqlite3.connect(folder / "graph.db", check_same_thread=False)
        with connection:
            graph = flow.compile(SqliteSaver(connection), plan=PLAN)
            out: dict[str, Any] = graph.invoke(given, THREAD)
        connection.close()
        return out

    async def run() -> dict[str, Any]:
        async with AsyncSqliteSaver.from_conn_string(str(folder / "graph.db")) as saver:
            out: dict[str, Any] = await flow.compile(saver, plan=PLAN).ainvoke(given, THREAD)
            await flow.model.budget.aclose()
            return out

    return asyncio.run(run())


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])))  # noqa: T201 - its output
