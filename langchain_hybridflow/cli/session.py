"""One question, asked from the command line: the graph that answers it, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_hybridflow.budget import Budget, Price, Usage
from langchain_hybridflow.chat_models import RoutedChatModel
from langchain_hybridflow.cli.display import dollars, hide_keys, one_line, screen
from langchain_hybridflow.cli.live import LiveRun, Progress, drawn_live
from langchain_hybridflow.cli.models import ModelSpec
from langchain_hybridflow.cli.planview import PlanView, last_line
from langchain_hybridflow.errors import ConfigurationError, UnknownPriceError
from langchain_hybridflow.graph import HybridFlowGraph
from langchain_hybridflow.planner import ChatPlanner
from langchain_hybridflow.routing import (
    AlwaysCloud,
    AlwaysEdge,
    DefaultRouter,
    DifficultyRouter,
    RandomRouter,
    Router,
    SelfRouter,
    ThresholdRouter,
)
from langchain_hybridflow.sandbox import SANDBOX_PRICES

__all__ = ["Session"]

_CONFIG: RunnableConfig = {"configurable": {"thread_id": "ask"}}
_TITLE = "Plan"


@dataclass(slots=True)
class Session:
    """Answers one question and tells what happens.

    Attributes:
        flow: The flow of the user's models.
        budget: What may be spent.
        approve_cloud: Whether a person is asked before each cloud call.
        view: The plan, with who did what.
        out: The graph's output, when it has run.
        seconds: How long that took.
    """

    flow: HybridFlowGraph
    budget: Budget
    approve_cloud: bool = False
    view: PlanView = field(default_factory=lambda: PlanView(_TITLE))
    out: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def build(
        cls,
        *,
        edge: ModelSpec,
        cloud: ModelSpec,
        planner: str,
        router: str,
        limits: Mapping[str, Any],
        prices: Mapping[str, Price],
        edge_slots: int,
        cloud_slots: int,
        timeout_s: float,
        time_scale: float,
        seed: int,
        approve_cloud: bool,
    ) -> Session:
        """Make a session from what the command line says.

        Raises:
            ConfigurationError: A limit, a model or a price cannot work.
        """
        budget = Budget(prices={**SANDBOX_PRICES, **prices}, **limits)
        made: dict[str, Any] = {"timeout_s": timeout_s, "time_scale": time_scale, "seed": seed}
        on_edge, in_cloud = edge.build("edge", **made), cloud.build("cloud", **made)
        try:
            model = RoutedChatModel(
                edge=on_edge, cloud=in_cloud, budget=budget, router=_router(router, seed)
            )
            chosen = _planner(planner, {edge: on_edge, cloud: in_cloud}, budget, made)
        except UnknownPriceError as error:
            raise ConfigurationError(
                f"--limit-usd is set and the price of model {error.model!r} is unknown. Give it "
                f"with --price {error.model}=IN,OUT (USD per million tokens), or limit "
                f"--max-cloud-tokens or --max-cloud-calls instead."
            ) from error
        flow = HybridFlowGraph(
            model,
            planner=chosen,
            approve_cloud=approve_cloud,
            subtask_timeout_s=timeout_s,
            edge_slots=edge_slots,
            cloud_slots=cloud_slots,
        )
        return cls(flow, budget, approve_cloud)

    def run(self, question: str, *, progress: Progress) -> None:
        """Answer the question; what happens meanwhile is shown on standard error.

        Raises:
            HybridFlowError: The question cannot be worked on.
            KeyboardInterrupt: The user had enough.
        """
        graph = self.flow.compile(InMemorySaver() if self.approve_cloud else None)
        seen = LiveRun(self.view, self.budget)
        given: Any = {"messages": [("user", question)]}
        # One event loop for all, but none that runs while a person is asked: it would take Ctrl-C.
        with asyncio.Runner() as runner:
            while given is not None:
                waiting = runner.run(self._run(graph, given, seen, progress=progress))
                given = _approvals(waiting) if waiting else None
        self.seconds = seen.elapsed_s()
        self.view.measure(self.out["report"])

    def findings(self) -> dict[str, Any]:
        """Return what came of it, in plain JSON types."""
        report, results = self.out["report"], self.out["results"]
        models = self.flow.model.core.models
        return {
            "question": self.out["messages"][0].text,
            "answer": self.out["answer"],
            "complete": report["complete"],
            "missing": report["missing"],
            "degraded": report["degraded"],
            "seconds": self.seconds,
            "cost_usd": report["totals"]["cost_usd"],
            "models": {tier: model.name for tier, model in models.items()},
            "budget": self.budget.snapshot(),
            "totals": report["totals"],
            "planning": report["planning"],
            "plan": self.out["plan"],
            "subtasks": [
                row | {"answer": results[row["id"]]["answer"]} for row in report["subtasks"]
            ],
        }

    async def _run(self, graph: Any, given: Any, seen: LiveRun, *, progress: Progress) -> Any:
        """Let the graph run, to its end or until people are asked; return what they are asked."""
        self.view.title = f"{_TITLE}, being written and worked on ..."
        with drawn_live(seen) if progress == "live" else nullcontext():
            await self._follow(graph, given, seen, narrate=progress == "lines")
        self.view.title = _TITLE
        return (await graph.aget_state(_CONFIG)).interrupts if self.approve_cloud else ()

    async def _follow(self, graph: Any, given: Any, seen: LiveRun, *, narrate: bool) -> None:
        """Take what the graph streams: the view follows its events."""
        events = graph.astream(given, _CONFIG, stream_mode=["custom", "values"], subgraphs=True)
        async for space, mode, event in events:
            if mode == "custom":
                self.view.follow(event)
                if narrate:
                    _tell(event, seen.elapsed_s())
            elif not space:  # the state of the run, not that of a subtask
                self.out = event


def _router(name: str, seed: int) -> Router:
    routers: dict[str, Router] = {
        "default": DefaultRouter(),
        "difficulty": DifficultyRouter(),
        "threshold": ThresholdRouter(seed=seed),
        "self": SelfRouter(),
        "always-edge": AlwaysEdge(),
        "always-cloud": AlwaysCloud(),
        "random": RandomRouter(seed=seed),
    }
    if name in routers:
        return routers[name]
    if not Path(name).is_dir():
        raise ConfigurationError(
            f"{name!r} is neither a router ({', '.join(routers)}) nor the directory of one that "
            f"hybridflow train has made."
        )
    from langchain_hybridflow.learning import LearnedRouter  # with numpy, which takes its time

    return LearnedRouter.load(name)


def _planner(
    name: str, known: Mapping[ModelSpec, BaseChatModel], budget: Budget, made: dict[str, Any]
) -> Any:
    """The planner of this name; a model that is not one of the two is paid as what it is."""
    if name in ("auto", "always"):
        return name
    spec = ModelSpec.parse(name)
    if spec in known and spec.provider != "sandbox":
        return known[spec]
    planner = ChatPlanner(
        model=spec.build("edge", **made), tier="edge" if spec.is_local else "cloud"
    )
    if planner.tier == "cloud":
        budget.quote("cloud", spec.name, Usage(0, 0))  # better said now than in the middle of a run
    return planner


def _approvals(interrupts: Any) -> Command[Any]:
    """Ask about each cloud call; the graph stands still meanwhile."""
    verdicts = {}
    for one in interrupts:
        asked = hide_keys(one.value)
        verdicts[one.id] = {
            "approve": typer.confirm(
                f"Subtask {asked['subtask_id']} wants {one_line(asked['model'])} in the cloud "
                f"({one_line(asked['reason'])}): {one_line(asked['task'], most=200)}\nAllow it?",
                err=True,
            )
        }
    return Command(resume=verdicts)


def _tell(event: Mapping[str, Any], elapsed_s: float) -> None:
    """Tell one event in one line."""
    from rich.text import Text

    if event["event"] == "draft":  # a word or two of what may be void
        return
    console = screen(stderr=True)
    line = Text(f"{elapsed_s:6.1f} s  ", style="dim")
    line.append(one_line(hide_keys(_words(event))), style="not dim")
    if console.is_terminal:
        console.print(line, no_wrap=True, overflow="ellipsis")
    else:
        console.print(line, soft_wrap=True)


def _words(event: Mapping[str, Any]) -> str:
    kind = event["event"]
    if kind == "settled":
        return f"{event['subtask']['id']} planned: {event['subtask']['task']}"
    if kind == "planned":
        count = len(event["plan"]["subtasks"])
        why = f", {event['source']}: {event['reason']}" if event["reason"] else ""
        return f"plan of {count} subtask{'s' * (count > 1)}{why}"
    subtask_id = event["subtask_id"]
    if kind == "finished":
        if event["status"] != "ok":
            return f"{subtask_id} {event['status']}: {event['error']}"
        cost = dollars(event["cost_usd"])
        return f"{subtask_id} done by {event['tier']} ({cost}): {last_line(event['answer'])}"
    if kind == "started":
        return f"{subtask_id} asks {event['tier']}"
    if kind == "asked":
        return f"{subtask_id} goes on to {event['tier']}: {event['reason']}"
    return f"{subtask_id} {kind} to {event['tier']}: {event['reason']}"
