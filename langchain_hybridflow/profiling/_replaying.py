"""Run plans on the graph itself, with given tiers, and with answers that are there already.

There is no second executor: a run is given the state that a run of its own would have had after its
plan was written, and LangGraph goes on from there. What has an answer is not asked again.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig, ensure_config
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langchain_hybridflow.calls.scoping import TAG_KEY
from langchain_hybridflow.chat_models import RoutedChatModel
from langchain_hybridflow.errors import RoutingError
from langchain_hybridflow.graph import HybridFlowGraph, SubtaskRecord
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.planner import ChatPlanner, Planner
from langchain_hybridflow.routing import RouteDecision, RouteRequest, Tier

__all__ = ["AssignedTiers", "GivenTiers", "Replayer"]

AssignedTiers = Callable[[str], Tier]
"""Says the tier of a subtask by its id."""

_TIERS: Final = "hybridflow_assigned_tiers"

OnRecord = Callable[[SubtaskRecord], None]


class GivenTiers:
    """Routes as the config of the run says.

    Raises:
        RoutingError: On a call whose run says nothing.
    """

    def route(self, request: RouteRequest) -> RouteDecision:
        """Return the tier that was given."""
        assigned = (ensure_config().get("configurable") or {}).get(_TIERS)
        if assigned is None or request.subtask_id is None:
            raise RoutingError("A subtask is replayed whose run says no tier for it.")
        tier: Tier = assigned(request.subtask_id)
        return RouteDecision(
            tier=tier,
            reason="given by the profile",
            router="given",
            expected_cost_usd=request.expected_cost_usd.get(tier),
        )


class _AsItIs(JsonPlusSerializer):
    """Keeps the state of runs as it is, in this process only.

    LangGraph's own way loses what is no UTF-8, such as half a surrogate pair, which models do
    write: an answer would not be found again after that.
    """

    def __init__(self) -> None:
        super().__init__(allowed_msgpack_modules=True)  # there is no msgpack to be strict about

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Write an object down."""
        return "pickle", pickle.dumps(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Read what `dumps_typed` of this process has written."""
        return pickle.loads(data[1])  # noqa: S301 - never left this process


class Replayer:
    """Runs plans with given tiers.

    No rule comes between an assignment and its outcome: no tier answers for the other, nothing is
    verified, no circuit opens. The budget and the policy hold as ever.

    Args:
        model: Both tiers, with budget and policy; its router is not asked.
        planner: As in `HybridFlowGraph`.
        stream_plan: As in `HybridFlowGraph`.
        edge_slots: Calls that the edge serves at once.
        cloud_slots: Calls to the cloud at once.
        subtask_timeout_s: Longest model call, in seconds.
    """

    def __init__(
        self,
        model: RoutedChatModel,
        *,
        planner: Planner | ChatPlanner | BaseChatModel | Literal["auto", "always"] = "auto",
        stream_plan: bool = True,
        edge_slots: int = 1,
        cloud_slots: int = 8,
        subtask_timeout_s: float | None = None,
    ) -> None:
        rules: dict[str, Any] = {"on_edge_error": "raise", "on_cloud_error": "raise"}
        rules |= {"on_router_error": "raise", "router": GivenTiers(), "sticky": None}
        rules |= {"verify": None, "breaker": None, "telemetry": False}
        self.model = model.model_copy(update=rules)
        flow = HybridFlowGraph(
            self.model,
            planner=planner,
            stream_plan=stream_plan,
            edge_slots=edge_slots,
            cloud_slots=cloud_slots,
            subtask_timeout_s=subtask_timeout_s,
        )
        self.planner = flow.planner
        self._saver = InMemorySaver(serde=_AsItIs())
        self._graph = flow.compile(self._saver)

    async def begin(
        self, question: str, tier_of: AssignedTiers, *, tag: str | None = None
    ) -> dict[str, Any]:
        """Plan a question and answer it, as a user's graph would; return what a graph returns.

        Raises:
            HybridFlowError: The question cannot be worked on.
        """
        thread_id, config = _thread(tier_of, tag)
        try:
            given: Any = {"messages": [HumanMessage(question)]}
            out: dict[str, Any] = await self._graph.ainvoke(given, config)
            return out
        finally:
            await self._saver.adelete_thread(thread_id)

    async def complete(
        self,
        question: str,
        plan: Plan,
        tiers: Mapping[str, Tier],
        *,
        known: Mapping[str, SubtaskRecord],
        on_record: OnRecord,
        tag: str | None = None,
    ) -> None:
        """Answer the subtasks of a plan that have no current result.

        Args:
            question: The whole question.
            plan: Its plan.
            tiers: The tier of each subtask.
            known: Results by subtask id. One of which an input has changed, or may, is taken only
                if the input turns out to be the same; see `graph.state.unfinished`.
            on_record: Is given each result as it comes, also of failed subtasks.
            tag: What kind of question it is.

        Raises:
            HybridFlowError: The run cannot go on, for example because the ledger does not answer.
        """
        thread_id, config = _thread(tiers.__getitem__, tag)
        try:
            # As if the planner had just ended: the next node sends what has no result.
            state = _after_planning(question, plan, known)
            await self._graph.aupdate_state(config, state, as_node="plan")
            async for update in self._graph.astream(None, config, stream_mode="updates"):
                for change in update.values():
                    for record in ((change or {}).get("results") or {}).values():
                        on_record(record)
        finally:
            await self._saver.adelete_thread(thread_id)


def _thread(tier_of: AssignedTiers, tag: str | None) -> tuple[str, RunnableConfig]:
    thread_id = uuid.uuid4().hex
    configurable = {"thread_id": thread_id, _TIERS: tier_of}
    return thread_id, {
        "configurable": configurable,
        "metadata": {} if tag is None else {TAG_KEY: tag},
    }


def _after_planning(
    question: str, plan: Plan, known: Mapping[str, SubtaskRecord]
) -> dict[str, Any]:
    """Return the state of a run whose plan is there, with some results."""
    return {
        "messages": [HumanMessage(question)],
        "question": question,
        "run_id": uuid.uuid4().hex,
        "wave": "",
        "kept_local": False,
        "planning": {"source": "given", "reason": "", "issues": [], "repairs": [], "attempts": []},
        "plan": plan.model_dump(mode="json"),
        "results": dict(known),
        "approval": {},
    }
