"""The nodes around the subtasks: take the question, plan, send the waves, give the answer."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from langchain_core.outputs import ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END
from langgraph.types import Overwrite, Send

from langchain_hybridflow.budget import RunBudget
from langchain_hybridflow.calls import (
    Call,
    adrive,
    describe_error,
    drive,
    merged,
    was_kept_local,
)
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.errors import DeadlineExceeded, PlanError, PolicyViolation
from langchain_hybridflow.graph.asking import check_can_ask
from langchain_hybridflow.graph.finals import Check, DropEarmarks, Earmark, final_bound
from langchain_hybridflow.graph.packets import (
    BEFORE_ALL,
    early_work,
    packet_of,
    slot_packet,
    works_of,
)
from langchain_hybridflow.graph.planning import (
    aown_plan,
    emit_plan,
    own_plan,
    permitted_planner,
    planner_config,
    take,
)
from langchain_hybridflow.graph.questions import in_context, question_in
from langchain_hybridflow.graph.state import FlowState, unfinished
from langchain_hybridflow.graph.subtask import SubtaskRunner
from langchain_hybridflow.graph.summary import final_answer, final_message, run_report
from langchain_hybridflow.graph.timeline import Moment, Timeline
from langchain_hybridflow.graph.wave import FinalHold, Wave
from langchain_hybridflow.plan import Plan, PlanIssue, Subtask
from langchain_hybridflow.planner import (
    ChatPlanner,
    Planner,
    Planning,
    PlanWriter,
    single_subtask,
)

__all__ = ["Conductor"]

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
        reserve_final: Whether money is held for the last subtask as soon as there is a plan.
    """

    runner: SubtaskRunner
    planner: Planner | ChatPlanner
    given: Plan | None = None
    stream_plan: bool = True
    max_question_chars: int = 200_000
    reserve_final: bool = False

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
        return drive(self._dispatching(state), _no_call)

    async def adispatch(self, state: FlowState, config: RunnableConfig) -> Update:
        """Async twin of `dispatch`."""
        return await adrive(self._dispatching(state), _no_call)

    def _dispatching(self, state: FlowState) -> Script[Update]:
        asked, text = question_in(state["messages"], max_chars=self.max_question_chars)
        before = state["messages"][: state["messages"].index(asked)]
        planning = self._known_plan(text)
        run_id = uuid.uuid4().hex
        yield from self._check(run_id)
        self.runner.spans.begin(run_id)
        update: Update = {
            "question": in_context(text, before),
            "run_id": run_id,
            "kept_local": was_kept_local(state["messages"]),
            "approve_cloud": self.runner.approve_cloud,
            "answer": "",
            "report": {},
            "results": Overwrite({}),
            "approval": Overwrite({}),
            "plan": planning.plan.model_dump(mode="json") if planning is not None else {},
            "planning": planning.to_json() if planning else {},
        }
        if planning is not None:
            emit_plan(planning)
            members, slots = len(planning.plan), 0
        else:
            slots = self._slots_while_planning()
            members = 1 + slots
        update["wave"] = self._open_wave(run_id, members=members, slots=slots)
        if planning is not None:
            self._mark_final(update["wave"], planning.plan, update["question"])
            yield from self._plan_ahead(planning.plan, update)
        return update

    def _check(self, run_id: str) -> Script[None]:
        """Make sure that the run can pay, and ask for more, before anybody is asked anything."""
        check_can_ask(self.runner.core.budget)
        try:
            yield Check(self._run(run_id))
        except BaseException:
            self.runner.waves.end_run(run_id)
            raise

    def _mark_final(self, wave_id: str, plan: Plan, question: str) -> None:
        """Let the wave hold what the last subtask may cost, if it is to and there is enough."""
        wave = self.runner.waves.get(wave_id)
        if self.reserve_final and len(plan) > 1 and wave is not None:
            bound = final_bound(self.runner.core, plan, question)
            wave.final = FinalHold(Earmark(wave.run, plan.sink.id, bound))

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

    def _plan_ahead(
        self, plan: Plan, state: Mapping[str, Any], results: Mapping[str, Any] | None = None
    ) -> Script[None]:
        """Let a router that can do so see the whole plan before its subtasks start."""
        question, kept_local = state["question"], state["kept_local"]
        yield from self.runner.plan_ahead(
            state["wave"], plan, results or {}, question=question, kept_local=kept_local
        )

    def _open_wave(self, run_id: str, *, members: int, slots: int = 0) -> str:
        return self.runner.waves.open(Wave(self._run(run_id), members=members, slots=slots))

    def _run(self, run_id: str) -> RunBudget:
        """Find the account of the run, or open it."""
        return self.runner.waves.run(run_id, self.runner.core.budget)

    # plan: the question becomes subtasks

    def plan(self, state: FlowState, config: RunnableConfig) -> Update:
        """Make the plan; each subtask goes to a waiting node as soon as it is settled."""
        with self._member(state):
            planner = self._planner_for(state)
            if not isinstance(planner, ChatPlanner):
                own = own_plan(planner, state["question"], time_left_s=self._time_left(state))
                return drive(self._planned(state, own), _no_call)
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
        with self._member(state):
            planner = self._planner_for(state)
            if not isinstance(planner, ChatPlanner):
                own = await aown_plan(
                    planner, state["question"], time_left_s=self._time_left(state)
                )
                return await adrive(self._planned(state, own), _no_call)
            writer = self._writer(state, planner)
            script = self._plan_script(state, planner, writer)

            async def call(step: Call) -> ChatResult:
                async for chunk in step.target.model.astream(
                    step.messages, planner_config(config), **step.options
                ):
                    take(step, chunk, writer)
                return merged(step)

            return await adrive(script, call)

    def _time_left(self, state: FlowState) -> float | None:
        return self._run(state["run_id"]).remaining_s()

    def _planner_for(self, state: FlowState) -> Planner | ChatPlanner:
        core, question = self.runner.core, state["question"]
        return permitted_planner(self.planner, core, question, kept_local=state["kept_local"])

    @contextmanager
    def _member(self, state: FlowState) -> Iterator[None]:
        """Be a member of the wave; whatever happens, no subtask is left waiting for its work."""
        waves, spans, wave_id = self.runner.waves, self.runner.spans, state["wave"]
        try:
            with waves.inside(wave_id), spans.current(state["run_id"]):
                yield
        except BaseException as error:
            waves.abandon(wave_id)
            spans.end(state["run_id"], error=error)
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
        run = self._run(state["run_id"])
        moments: list[Moment] = []
        timeline = Timeline(moments, clock=self.runner.clock)
        try:
            core, tier = planner.place(
                self.runner.core, state["question"], kept_local=state["kept_local"]
            )
            slots = self.runner.slots[tier]
            timeline.note("queued", tier=tier)
            yield slots.turn(urgency=BEFORE_ALL, timeout_s=run.remaining_s())
        except (DeadlineExceeded, PolicyViolation) as error:
            plan = single_subtask(state["question"])
            single = Planning(plan, "fallback", reason=describe_error(error))
            return (yield from self._planned(state, single))
        try:
            script = planner.script(state["question"], core=core, tier=tier, run=run, writer=writer)
            planning = yield from timeline.of_call(script, tier=tier)
        finally:
            slots.leave()
        return (yield from self._planned(state, planning, moments))

    def _planned(
        self, state: FlowState, planning: Planning, moments: Sequence[Moment] = ()
    ) -> Script[Update]:
        """Give the waiting nodes the rest of the plan, and write it to the state."""
        wave = self.runner.waves.get(state["wave"])
        if wave is not None and wave.has_slots:
            self._mark_final(wave.id, planning.plan, state["question"])
            if wave.final is not None:
                yield wave.final  # some members are at work already
            works = works_of(planning.plan)
            for subtask_id in sorted(works, key=lambda key: -works[key]["urgency"]):
                if not wave.is_assigned(subtask_id):
                    wave.assign(works[subtask_id])
        else:
            yield from self._plan_ahead(planning.plan, state)
        emit_plan(planning)
        record = planning.to_json() | {"timeline": list(moments)}
        return {"plan": planning.plan.model_dump(mode="json"), "planning": record}

    # sends: what is left to do goes out as one wave

    def sends(self, state: FlowState, config: RunnableConfig) -> Any:
        """Send a node for each subtask that has no result yet; none, and the run ends."""
        packet = {
            "wave": state["wave"],
            "run_id": state["run_id"],
            "question": state["question"],
            "kept_local": state["kept_local"],
            "approve_cloud": state.get("approve_cloud", False),
            "approval": state.get("approval") or {},
        }
        if not state.get("plan"):
            packet["calls_left"] = max(self._slots_while_planning(), 1)
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
        packet["calls_left"] = len(missing)
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
        return drive(self._answering(state), _no_call)

    async def aanswer(self, state: FlowState, config: RunnableConfig) -> Update:
        """Async twin of `answer`."""
        return await adrive(self._answering(state), _no_call)

    def _answering(self, state: FlowState) -> Script[Update]:
        plan = self._plan_of(state)
        results = state.get("results") or {}
        missing = unfinished(plan, state["question"], results)
        if missing:
            wave = self._open_wave(state["run_id"], members=len(missing))
            self._mark_final(wave, plan, state["question"])
            yield from self._plan_ahead(plan, state | {"wave": wave}, results)
            return {"wave": wave}
        yield DropEarmarks(self.runner.waves.end_run(state["run_id"]))
        current = {subtask_id: results[subtask_id] for subtask_id in plan.order}
        text = final_answer(plan, current)
        report = run_report(plan, current, state.get("planning") or {})
        self.runner.spans.end(state["run_id"], report)
        message = final_message(text, current[plan.sink.id], report)
        update: Update = {"answer": text, "report": report, "messages": [message]}
        if len(results) > len(current):  # the plan was edited, and these are no part of it any more
            update["results"] = Overwrite(current)
        return update


def _no_call(step: Call) -> Any:
    raise TypeError(f"this script calls no model, and {step.target.name} is one")
