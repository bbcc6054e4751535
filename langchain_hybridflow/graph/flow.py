"""`HybridFlowGraph`: from a routed model and a planner to a compiled LangGraph."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer

from langchain_hybridflow.chat_models import RoutedChatModel
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.graph.conductor import Conductor
from langchain_hybridflow.graph.nodes import Node
from langchain_hybridflow.graph.reading import FlowGraph
from langchain_hybridflow.graph.setups import ContextSetups, FixedSetup, Setup, Setups
from langchain_hybridflow.graph.slots import TierSlots
from langchain_hybridflow.graph.state import FlowInput, FlowOutput, FlowState
from langchain_hybridflow.graph.subtask import SubtaskRunner
from langchain_hybridflow.graph.wave import WaveRegistry
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.planner import ChatPlanner, Planner

__all__ = ["HybridFlowGraph"]

_MAX_CONCURRENCY = 1_024
"""Threads of the sync side, made when needed: subtasks that wait must not use up a small pool."""


class HybridFlowGraph:
    """Answers a question by a plan of subtasks, each on the edge or in the cloud, as a LangGraph.

    A planner turns the question into a DAG of subtasks; each runs as soon as those it depends on
    have answers, also while the plan is still being written, and the model's router, budget and
    fallback rules hold for each of them. The compiled graph is an ordinary LangGraph: it takes
    `{"messages": [...]}` and returns `answer`, `plan`, `results`, `report` and `messages`.

    Args:
        model: Both tiers, with router and budget; or a function that makes it for a run's runtime
            context, so that each run can choose. It is called once for equal contexts, in a thread
            where the event loop must not wait; budgets that are to share their limits need one
            ledger. The graph is then drawn with all ways that a context can open.
        context_schema: The class of the runtime context (`invoke(..., context=...)`, the form in
            Studio), with a default for each field. A frozen dataclass or pydantic model if models
            are made from it.
        planner: Who plans. "auto" is the edge model, with trivial questions going without a plan;
            "always" is the edge model for every question; a chat model is wrapped in a
            `ChatPlanner`; anything with `plan(question) -> Plan` is a `Planner`.
        edge_slots: Calls that the edge serves at once, over all runs of this object.
        cloud_slots: Calls to the cloud at once, over all runs of this object.
        stream_plan: Whether subtasks may start while the plan is being written. Without it the
            plan is a step of its own, after which a run can be stopped (`interrupt_after=["plan"]`)
            and the plan edited.
        reserve_final: Whether the worst case of the last subtask's cloud call is held as soon as
            there is a plan, so that the others cannot spend it before. It is given back if the
            edge gives the final answer; a process that dies leaves it to expire.
        approve_cloud: Whether each cloud call waits for a person (a LangGraph interrupt, resumed
            with `Command(resume={"approve": True})`); needs a checkpointer, and a planner that is
            not in the cloud. A function says it for each context. A run that began with it goes
            on with it, however it is resumed.
        on_subtask_error: "continue" skips what depends on a failed subtask and says in the answer
            what is missing; "raise" ends the run with a SubtaskError.
        subtask_timeout_s: Longest model call of a subtask, in seconds. The whole run is limited by
            `Budget(deadline_s=...)`: each call then gets what is left times the subtask's share of
            the longest way to the answer, and a second at least. The cloud leaves time for the
            edge to answer in its place, and is not asked if by its last calls it would be late. On
            the sync side a call that is late is left behind in its thread, as threads cannot be
            stopped.
        max_question_chars: Longer questions are refused before anything is spent.
        clock: Seconds since the epoch, for the times in records.

    Raises:
        ConfigurationError: A parameter cannot work.

    Example:
        >>> from langchain_hybridflow import Budget, HybridFlowGraph, RoutedChatModel
        >>> from langchain_hybridflow.sandbox import sandbox_cloud, sandbox_edge
        >>> model = RoutedChatModel(
        ...     edge=sandbox_edge(time_scale=0),
        ...     cloud=sandbox_cloud(time_scale=0),
        ...     budget=Budget(max_cloud_calls=4),
        ... )
        >>> graph = HybridFlowGraph(model).compile()
        >>> question = "A shop has 12 apples and gets 3 boxes of 20. How many apples has it then?"
        >>> out = graph.invoke({"messages": [("user", question)]})
        >>> sorted(out)
        ['answer', 'messages', 'plan', 'report', 'results']
    """

    def __init__(
        self,
        model: RoutedChatModel | Callable[[Any], RoutedChatModel],
        *,
        context_schema: type[Any] | None = None,
        planner: Planner | ChatPlanner | BaseChatModel | Literal["auto", "always"] = "auto",
        edge_slots: int = 1,
        cloud_slots: int = 8,
        stream_plan: bool = True,
        reserve_final: bool = False,
        approve_cloud: bool | Callable[[Any], bool] = False,
        on_subtask_error: Literal["continue", "raise"] = "continue",
        subtask_timeout_s: float | None = None,
        max_question_chars: int = 200_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if on_subtask_error not in ("continue", "raise"):
            raise ConfigurationError(
                f"on_subtask_error is 'continue' or 'raise', got {on_subtask_error!r}."
            )
        if subtask_timeout_s is not None and not subtask_timeout_s > 0:
            raise ConfigurationError(
                f"subtask_timeout_s must be positive, got {subtask_timeout_s!r}."
            )
        self.planner = _as_planner(planner)
        self._context_schema = context_schema
        self._setups = _setups(model, approve_cloud, schema=context_schema, planner=self.planner)
        self._waves = WaveRegistry()
        self._runner = SubtaskRunner(
            setups=self._setups,
            slots={"edge": TierSlots(edge_slots), "cloud": TierSlots(cloud_slots)},
            waves=self._waves,
            raise_errors=on_subtask_error == "raise",
            subtask_timeout_s=subtask_timeout_s,
            clock=clock,
        )
        self._stream_plan = stream_plan
        self._reserve_final = reserve_final
        self._max_question_chars = max_question_chars

    @property
    def model(self) -> RoutedChatModel:
        """Both tiers, with router and budget, of a run without a context."""
        return self._setups.default.model

    def compile(
        self,
        checkpointer: Checkpointer = None,
        *,
        plan: Plan | None = None,
        name: str = "HybridFlow",
        **kwargs: Any,
    ) -> CompiledStateGraph[Any, Any, Any, Any]:
        """Compile to a LangGraph.

        Args:
            checkpointer: As in `StateGraph.compile`.
            plan: A known plan: the graph has a node for each of its subtasks. Without one the
                plan is made at run time, by the planner.
            name: Name of the graph in traces and Studio.
            **kwargs: Whatever else `StateGraph.compile` takes: `store`, `cache`,
                `interrupt_before`, `interrupt_after`, `debug`, ...

        Returns:
            A compiled graph with all that LangGraph graphs can do. After Ctrl-C, or when a stream
            is left, it begins no further call, also on the sync side.
        """
        conductor = Conductor(
            runner=self._runner,
            planner=self.planner,
            given=plan,
            stream_plan=self._stream_plan,
            max_question_chars=self._max_question_chars,
            reserve_final=self._reserve_final,
        )
        graph = StateGraph(
            FlowState,
            context_schema=self._context_schema,
            input_schema=FlowInput,
            output_schema=FlowOutput,
        )
        first = self._setups
        graph.add_node("dispatch", Node(conductor.dispatch, conductor.adispatch, first=first))
        graph.add_node("answer", Node(conductor.answer, conductor.aanswer, first=first))
        graph.add_edge(START, "dispatch")
        sends = Node(conductor.sends, conductor.asends)
        if plan is None:
            entry = self._add_planned(graph, conductor)
            graph.add_conditional_edges("answer", sends, ["subtask", END])
        else:
            entry = self._add_given(graph, plan)
            graph.add_conditional_edges("answer", sends, [END])
        graph.add_conditional_edges("dispatch", sends, entry)
        compiled = FlowGraph.of(graph.compile(checkpointer, name=name, **kwargs))
        return compiled.with_config({"max_concurrency": _MAX_CONCURRENCY})

    def _add_planned(
        self, graph: StateGraph[Any, Any, Any, Any], conductor: Conductor
    ) -> list[str]:
        """Add generic nodes: a planner, and one node that is sent as often as there is work."""
        graph.add_node("plan", Node(conductor.plan, conductor.aplan, first=self._setups))
        graph.add_node("subtask", self._runner.node("subtask"))
        graph.add_edge("plan", "answer")
        graph.add_edge("subtask", "answer")
        return ["plan", "subtask"]

    def _add_given(self, graph: StateGraph[Any, Any, Any, Any], plan: Plan) -> list[str]:
        """Add a node for each subtask, drawn as the plan is.

        All of a wave's nodes are sent at once and await one another, so the edges between them
        are for the eye (`destinations`); the sink is in every wave and ends last, so its edge to
        the answer is enough.
        """
        for subtask in plan.subtasks:
            node_name = Conductor.node_name(subtask)
            dependents = tuple(
                Conductor.node_name(plan[dependent]) for dependent in plan.dependents(subtask.id)
            )
            graph.add_node(node_name, self._runner.node(node_name), destinations=dependents or None)
        graph.add_edge(Conductor.node_name(plan.sink), "answer")
        return [Conductor.node_name(subtask) for subtask in plan.subtasks if not subtask.depends_on]


def _setups(
    model: Any, approve_cloud: Any, *, schema: type[Any] | None, planner: Planner | ChatPlanner
) -> Setups:
    """Make the setup of all runs, or what makes one for each context."""
    chooses_model = callable(model) and not isinstance(model, RoutedChatModel)
    if not chooses_model:
        _check_is_routed(model)

    def setup_of(context: Any) -> Setup:
        made = model(context) if chooses_model else model
        _check_is_routed(made)
        asks = bool(approve_cloud(context) if callable(approve_cloud) else approve_cloud)
        if asks:
            _check_planner_is_local(planner, made)
        return Setup(made, asks)

    if not (chooses_model or callable(approve_cloud)):
        return FixedSetup(setup_of(None))
    if schema is None:
        raise ConfigurationError(
            "A model, or approve_cloud, that is a function is given the runtime context of each "
            "run: say what that is with context_schema=..., a frozen dataclass for example."
        )
    return ContextSetups(setup_of, schema)


def _check_is_routed(model: object) -> None:
    if not isinstance(model, RoutedChatModel):
        raise ConfigurationError(
            f"HybridFlowGraph needs a RoutedChatModel, got {type(model).__name__}. Wrap your "
            f"models: HybridFlowGraph(RoutedChatModel(edge=..., cloud=...))."
        )


def _check_planner_is_local(planner: Planner | ChatPlanner, model: RoutedChatModel) -> None:
    if isinstance(planner, ChatPlanner) and planner.place(model.core)[1] == "cloud":
        raise ConfigurationError(
            "approve_cloud=True asks before the cloud calls of subtasks, and this planner is in "
            "the cloud, too, unasked. Plan on the edge, or say that the planner is local with "
            "ChatPlanner(model=..., tier='edge')."
        )


def _as_planner(planner: object) -> Planner | ChatPlanner:
    if planner == "auto":
        return ChatPlanner()
    if planner == "always":
        return ChatPlanner(skip_trivial=False)
    if isinstance(planner, BaseChatModel):
        return ChatPlanner(model=planner)
    if inspect.iscoroutinefunction(getattr(planner, "plan", None)):
        raise ConfigurationError(
            f"{type(planner).__name__}.plan is async. Name it aplan, beside a plan that is not: "
            f"graphs run on both sides."
        )
    if isinstance(planner, ChatPlanner | Planner):
        return planner
    raise ConfigurationError(
        f"planner is 'auto', 'always', a chat model, or has a method plan(question) -> Plan; "
        f"got {planner!r}."
    )
