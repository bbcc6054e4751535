"""The nodes around the subtasks: take the question, plan, send the waves, give the answer."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.outputs import ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END
from langgraph.types import Overwrite, Send

from langchain_hybridflow.calls import (
    Call,
    adrive,
    describe_error,
    drive,
    in_time,
    merged,
    was_kept_local,
)
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.errors import DeadlineExceeded, InputError, PlanError, PolicyViolation
from langchain_hybridflow.graph.packets import (
    BEFORE_ALL,
    early_work,
    packet_of,
    slot_packet,
    works_of,
)
from langchain_hybridflow.graph.planning import (
    checked,
    fallback,
    permitted_planner,
    planner_config,
    take,
)
from langchain_hybridflow.graph.state import FlowState, unfinished
from langchain_hybridflow.graph.subtask import SubtaskRunner
from langchain_hybridflow.graph.summary import final_answer, run_report
from langchain_hybridflow.graph.wave import Wave
from langchain_hybridflow.plan import Plan, PlanIssue, Subtask
from langchain_hybridflow.planner import (
    ChatPlanner,
    Planner,
    Planning,
    PlanWriter,
    single_subtask,
)

__all__ = ["Conductor"]

_HISTORY_CHARS = 6_000

Update = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Conductor:
    """Leads the runs of one compiled graph.

    Attributes:
        runner: Runs the subtasks.
        planner: Makes plans at run time.
        given: The plan that the graph was compiled for, if there is one.
        stream_plan: Whether subtasks are sent together with the planner.
        max_question_chars: Longer questions are refused.
    """

    runner: SubtaskRunner
    planner: Planner | ChatPlanner
    given: Plan | None = None
    stream_plan: bool = True
    max_question_chars: int = 200_000

    @cached_property
    def _given_json(self) -> dict[str, Any]:
        return self.given.model_dump(mode="json") if self.given is not None else {}

    @cached_property
    def _given_works(self) -> dict[str, dict[str, Any]]:
        return works_of(self.given) if self.given is not None else {}

    @staticmethod
    def node_name(subtask: Subtask) -> str:
        """Name of a subtask's node in a graph that was compiled for a plan."""
        return f"{subtask.role.value}_{subtask.id}"

    # dispatch: a new question comes in

    def dispatch(self, state: FlowState, config: RunnableConfig) -> Update:
        """Take in the question, start a run, and open the first wave."""
        asked, text = self._asked(state["messages"])
        before = state["messages"][: state["messages"].index(asked)]
        planning = self._known_plan(text)
        run_id = uuid.uuid4().hex
        update: Update = {
            "question": _in_context(text, before),
            "run_id": run_id,
            "kept_local": was_kept_local(state["messages"]),
            "answer": "",
            "report": {},
            "results": Overwrite({}),
            "plan": planning.plan.model_dump(mode="json") if planning is not None else {},
            "planning": planning.to_json() if planning else {},
        }
        if planning is not None:
            _emit_plan(planning)
            members, slots = len(planning.plan), 0
        else:
            slots = self._slots_while_planning()
            members = 1 + slots
        return update | {"wave": self._open_wave(run_id, members=members, slots=slots)}

    async def adispatch(self, state: FlowState, config: RunnableConfig) -> Update:
        """Async twin of `dispatch`."""
        return self.dispatch(state, config)

    def _asked(self, messages: list[AnyMessage]) -> tuple[AnyMessage, str]:
        """Find the message with the question, and its text."""
        asked = next((one for one in reversed(messages) if one.type == "human"), None)
        if asked is None:
            raise InputError("There is no question: messages must hold a human message.")
        if not isinstance(asked.content, str) and any(
            not isinstance(block, str) and block.get("type") != "text" for block in asked.content
        ):
            raise InputError(
                "The question holds images or other blocks that are not text, and subtasks would "
                "not see them. Ask in text, or call the RoutedChatModel itself."
            )
        text = asked.text.strip()
        if not text:
            raise InputError("The question is empty. Put text into the last human message.")
        if len(text) > self.max_question_chars:
            raise InputError(
                f"The question has {len(text):,} characters and at most "
                f"{self.max_question_chars:,} are taken. Shorten it, or raise "
                f"HybridFlowGraph(max_question_chars=...)."
            )
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise InputError(
                "The question holds bytes that are not text (half of a surrogate pair). Decode it "
                "as UTF-8, with errors='replace' if need be."
            )
        return asked, text

    def _known_plan(self, text: str) -> Planning | None:
        if self.given is not None:
            return Planning(self.given, "given")
        if isinstance(self.planner, ChatPlanner):
            return self.planner.trivial(text)
        return None

    def _slots_while_planning(self) -> int:
        """Nodes to send together with the planner: none if its plan comes all at once."""
        if self.stream_plan and isinstance(self.planner, ChatPlanner):
            return self.planner.max_subtasks
        return 0

    def _open_wave(self, run_id: str, *, members: int, slots: int = 0) -> str:
        run = self.runner.waves.run(run_id, self.runner.core.budget)
        return self.runner.waves.open(Wave(run, members=members, slots=slots))

    # plan: the question becomes subtasks

    def plan(self, state: FlowState, config: RunnableConfig) -> Update:
        """Make the plan; each subtask goes to a waiting node as soon as it is settled."""
        with self._member(state["wave"]):
            planner = self._planner_for(state)
            if not isinstance(planner, ChatPlanner):
                return self._planned(state, self._own_plan(planner, state))
            writer = self._writer(state, planner)
            script = self._plan_script(state, planner, writer)

            def call(step: Call) -> ChatResult:
                for chunk in step.target.model.stream(
                    step.messages, planner_config(config), **step.options
                ):
                    take(step, chunk, writer)
                return merged(step)

            return drive(script, call)

    async def aplan(self, state: FlowState, config: RunnableConfig) -> Update:
        """Async twin of `plan`."""
        with self._member(state["wave"]):
            planner = self._planner_for(state)
            if not isinstance(planner, ChatPlanner):
                return self._planned(state, await self._aown_plan(planner, state))
            writer = self._writer(state, planner)
            script = self._plan_script(state, planner, writer)

            async def call(step: Call) -> ChatResult:
                async for chunk in step.target.model.astream(
                    step.messages, planner_config(config), **step.options
                ):
                    take(step, chunk, writer)
                return merged(step)

            return await adrive(script, call)

    def _planner_for(self, state: FlowState) -> Planner | ChatPlanner:
        core, question = self.runner.core, state["question"]
        return permitted_planner(self.planner, core, question, kept_local=state["kept_local"])

    @contextmanager
    def _member(self, wave_id: str) -> Iterator[None]:
        """Be a member of the wave; whatever happens, no subtask is left waiting for its work."""
        waves = self.runner.waves
        waves.enter(wave_id)
        try:
            yield
        except BaseException:
            waves.abandon(wave_id)
            raise
        finally:
            wave = waves.get(wave_id)
            if wave is not None:
                wave.close_slots()
                waves.leave(wave_id)

    def _writer(self, state: FlowState, planner: ChatPlanner) -> PlanWriter:
        wave = self.runner.waves.get(state["wave"])
        depths: dict[str, int] = {}

        def assign(subtask: Subtask) -> None:
            depths[subtask.id] = 1 + max((depths[dep] for dep in subtask.depends_on), default=-1)
            get_stream_writer()({"event": "settled", "subtask": subtask.model_dump(mode="json")})
            if wave is not None and wave.has_slots:
                wave.assign(early_work(subtask, depths[subtask.id], len(depths)))

        return PlanWriter(state["question"], planner.max_subtasks, assign)

    def _plan_script(
        self, state: FlowState, planner: ChatPlanner, writer: PlanWriter
    ) -> Script[Update]:
        run = self.runner.waves.run(state["run_id"], self.runner.core.budget)
        try:
            core, tier = planner.place(
                self.runner.core, state["question"], kept_local=state["kept_local"]
            )
            slots = self.runner.slots[tier]
            yield slots.turn(urgency=BEFORE_ALL, timeout_s=run.remaining_s())
        except (DeadlineExceeded, PolicyViolation) as error:
            plan = single_subtask(state["question"])
            return self._planned(state, Planning(plan, "fallback", reason=describe_error(error)))
        try:
            planning = yield from planner.script(
                state["question"], core=core, tier=tier, run=run, writer=writer
            )
        finally:
            slots.leave()
        return self._planned(state, planning)

    def _own_plan(self, planner: Planner, state: FlowState) -> Planning:
        try:
            plan = in_time(
                partial(planner.plan, state["question"]), self._time_left(state), what="Planning"
            )
            return Planning(checked(plan, planner), "planner")
        except Exception as error:  # noqa: BLE001 - somebody else's planner: contained, recorded
            return fallback(state["question"], planner, error)

    def _time_left(self, state: FlowState) -> float | None:
        run = self.runner.waves.run(state["run_id"], self.runner.core.budget)
        return run.remaining_s()

    async def _aown_plan(self, planner: Planner, state: FlowState) -> Planning:
        aplan = getattr(planner, "aplan", None)
        if not inspect.iscoroutinefunction(aplan):
            return await asyncio.to_thread(self._own_plan, planner, state)
        try:
            async with asyncio.timeout(self._time_left(state)):
                return Planning(checked(await aplan(state["question"]), planner), "planner")
        except Exception as error:  # noqa: BLE001 - somebody else's planner: contained, recorded
            return fallback(state["question"], planner, error)

    def _planned(self, state: FlowState, planning: Planning) -> Update:
        """Give the waiting nodes the rest of the plan, and write it to the state."""
        wave = self.runner.waves.get(state["wave"])
        if wave is not None and wave.has_slots:
            works = works_of(planning.plan)
            for subtask_id in sorted(works, key=lambda key: -works[key]["urgency"]):
                if not wave.is_assigned(subtask_id):
                    wave.assign(works[subtask_id])
        _emit_plan(planning)
        return {"plan": planning.plan.model_dump(mode="json"), "planning": planning.to_json()}

    # sends: what is left to do goes out as one wave

    def sends(self, state: FlowState, config: RunnableConfig) -> Any:
        """Send a node for each subtask that has no result yet; none, and the run ends."""
        packet = {
            "wave": state["wave"],
            "run_id": state["run_id"],
            "question": state["question"],
            "kept_local": state["kept_local"],
        }
        if not state.get("plan"):
            slots = [
                Send("subtask", slot_packet(packet, index))
                for index in range(self._slots_while_planning())
            ]
            return [Send("plan", packet), *slots]
        plan = self._plan_of(state)
        results = state.get("results") or {}
        missing = unfinished(plan, state["question"], results)
        if not missing:
            return END
        works = self._given_works if plan is self.given else works_of(plan)
        absent = frozenset(missing)
        # Longest way to go first: the order of urgency is also a topological one, so the first
        # unfinished node can always run, whatever the limit on concurrency is.
        return [
            Send(
                self._node_for(plan[subtask_id]),
                packet_of(packet, works[subtask_id], plan[subtask_id], results, absent),
            )
            for subtask_id in sorted(missing, key=lambda key: -works[key]["urgency"])
        ]

    async def asends(self, state: FlowState, config: RunnableConfig) -> Any:
        """Async twin of `sends`."""
        return self.sends(state, config)

    def _node_for(self, subtask: Subtask) -> str:
        return "subtask" if self.given is None else self.node_name(subtask)

    def _plan_of(self, state: FlowState) -> Plan:
        if self.given is not None and state["plan"] == self._given_json:
            return self.given
        plan = Plan.model_validate(state["plan"])
        if self.given is not None:
            nodes = {self.node_name(subtask) for subtask in self.given.subtasks}
            strangers = [one for one in plan.subtasks if self.node_name(one) not in nodes]
            if strangers:
                raise PlanError(
                    "The edited plan has subtasks that this graph was not compiled for. Compile "
                    "it anew with compile(plan=...), or compile without a plan:",
                    [
                        PlanIssue("unknown_dependency", one.id, f"no node for subtask {one.id!r}")
                        for one in strangers
                    ],
                )
        return plan

    # answer: what came of it

    def answer(self, state: FlowState, config: RunnableConfig) -> Update:
        """Give the answer if all subtasks have ended, or open the next wave for the rest."""
        plan = self._plan_of(state)
        results = state.get("results") or {}
        missing = unfinished(plan, state["question"], results)
        if missing:
            return {"wave": self._open_wave(state["run_id"], members=len(missing))}
        self.runner.waves.end_run(state["run_id"])
        current = {subtask_id: results[subtask_id] for subtask_id in plan.order}
        text = final_answer(plan, current)
        report = run_report(plan, current, state.get("planning") or {})
        message = AIMessage(
            content=text,
            id=current[plan.sink.id]["message_id"],
            response_metadata={
                "model_name": current[plan.sink.id]["model"] or "hybridflow",
                "hybridflow": {
                    key: report[key]
                    for key in ("complete", "missing", "degraded", "kept_local", "totals")
                },
            },
        )
        update: Update = {"answer": text, "report": report, "messages": [message]}
        if len(results) > len(current):  # the plan was edited, and these are no part of it any more
            update["results"] = Overwrite(current)
        return update

    async def aanswer(self, state: FlowState, config: RunnableConfig) -> Update:
        """Async twin of `answer`."""
        return self.answer(state, config)


def _in_context(question: str, history: list[AnyMessage]) -> str:
    """Put what was said before in front of the question: subtasks see nothing else of it."""
    lines = [
        f"{'User' if message.type == 'human' else 'Assistant'}: {message.text}"
        for message in history
        if message.type in ("human", "ai") and message.text
    ]
    if not lines:
        return question
    said = "\n".join(lines)[-_HISTORY_CHARS:]
    return f"Conversation so far:\n{said}\n\nQuestion:\n{question}"


def _emit_plan(planning: Planning) -> None:
    get_stream_writer()(
        {
            "event": "planned",
            "plan": planning.plan.model_dump(mode="json"),
            "source": planning.source,
            "reason": planning.reason,
        }
    )
