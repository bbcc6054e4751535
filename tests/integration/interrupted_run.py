"""Runs a graph in a process that interrupts itself, as Ctrl-C does; see `test_interrupted_runs`.

    python interrupted_run.py FOLDER CALL

asks a question, interrupts itself in model call number CALL, and lets the calls that are under way
go on when the interrupt has come out of `invoke`. With CALL 0 it resumes the run. Each call that
is made is a line of FOLDER/calls.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import sys
import threading
from itertools import count
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver

from langchain_hybridflow import Budget, HybridFlowGraph, Plan, RoutedChatModel, Subtask
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.testing import ScriptedChatModel

_SUBTASK = re.compile(r'<subtask id="([^"]+)"')
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


def make_graph(folder: Path, interrupt_at: int, interrupted: threading.Event) -> Any:
    calls = count(1)
    journal = os.open(folder / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def respond(messages: list[BaseMessage]) -> str:
        found = _SUBTASK.search(messages[-1].text)
        key = found[1] if found else "?"
        if interrupted.is_set():
            os.write(journal, b"late\n")
        os.write(journal, f"{key}\n".encode())
        number = next(calls)
        if number == interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        if interrupt_at and number >= interrupt_at:
            interrupted.wait(30)
        return f"answer {key}"

    routed = RoutedChatModel(
        edge=ScriptedChatModel(responses=[respond], model_name="edge"),
        cloud=ScriptedChatModel(responses=[respond], model_name="cloud"),
        router=AlwaysCloud(),
        budget=Budget(max_cloud_calls=100, store=f"sqlite:///{folder / 'ledger.db'}"),
    )
    saver = SqliteSaver(sqlite3.connect(folder / "state.db", check_same_thread=False))
    return HybridFlowGraph(routed).compile(saver, plan=PLAN)


def main(folder: Path, interrupt_at: int) -> None:
    interrupted = threading.Event()
    graph = make_graph(folder, interrupt_at, interrupted)
    if interrupt_at:
        try:
            graph.invoke({"messages": [HumanMessage("How much is it?")]}, THREAD)
        finally:
            interrupted.set()
    else:
        sys.stdout.write(json.dumps(graph.invoke(None, THREAD)["answer"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
