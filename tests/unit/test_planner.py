"""From a question to a plan: the trivial rule, streaming, repair, the one re-prompt, fallbacks."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk

from langchain_hybridflow import Budget, HybridFlowGraph, Plan, Price, RoutedChatModel, Subtask
from langchain_hybridflow.calls import Call, RoutingCore, StreamedScript
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.planner import (
    ChatPlanner,
    Planner,
    Planning,
    PlanWriter,
    single_subtask,
)
from langchain_hybridflow.routing import AlwaysEdge
from langchain_hybridflow.testing import ManualClock, ScriptedChatModel

QUESTION = "If 3 boxes hold 12 pens each and 5 pens are sold, how many pens remain in total?"
EXPLAIN = '<Step ID="1" Role="explain" Task="What is given?" Difficulty="2" Token="30" Rely=""/>'
ANALYZE = '<Step ID="2" Role="analyze" Task="Pens in all? [1]" Difficulty="4" Token="40" Rely="1"/>'
GENERATE = '<Step ID="3" Role="generate" Task="Pens left? [2]" Difficulty="3" Token="50" Rely="2"/>'
GOOD = f"<Plan>\n{EXPLAIN}\n{ANALYZE}\n{GENERATE}\n</Plan>"
CYCLE = GOOD.replace('Rely="1"', 'Rely="1,3"')


def model_of(
    *responses: Any, budget: Budget | None = None, cloud: Any = None, **script: Any
) -> RoutedChatModel:
    return RoutedChatModel(
        edge=ScriptedChatModel(responses=list(responses) or [GOOD], model_name="little", **script),
        cloud=cloud or ScriptedChatModel(responses=["c"], model_name="big"),
        router=AlwaysEdge(),
        budget=budget or Budget(prices={"big": Price(1_000, 1_000)}),
    )


class Run:
    """One planning call, performed as a graph performs it, with a record of what settled when."""

    def __init__(
        self, model: RoutedChatModel, planner: ChatPlanner | None = None, question: str = QUESTION
    ) -> None:
        self.planner = planner or ChatPlanner()
        self.settled: list[Subtask] = []
        self.settled_before_the_end: list[str] = []
        self.question = question
        self.model = model
        self.planning = self._perform()

    def _perform(self) -> Planning:
        core, tier = self.planner.place(self.model.core)
        self.core, self.tier = core, tier
        run = self.model.budget.start_run()
        writer = PlanWriter(self.question, self.planner.max_subtasks, self.settled.append)
        script = self.planner.script(self.question, core=core, tier=tier, run=run, writer=writer)

        def call(step: Call) -> Generator[ChatGenerationChunk]:
            for chunk in step.target.stream(step.messages, stop=None, **step.options):
                writer.feed(chunk.text)
                yield chunk
            self.settled_before_the_end = [subtask.id for subtask in self.settled]

        streamed = StreamedScript(script, call)
        list(streamed)
        return streamed.result

    @property
    def prompts(self) -> list[list[BaseMessage]]:
        target = self.core.models[self.tier].model
        assert isinstance(target, ScriptedChatModel)
        return target.calls


def ids(plan: Plan) -> list[str]:
    return [subtask.id for subtask in plan.subtasks]


def balanced(model: RoutedChatModel) -> bool:
    state = model.budget.snapshot()
    return all(state[key]["held"] == 0 for key in ("usd", "cloud_tokens", "cloud_calls"))


# ------------------------------------------------------------------------------------ good plans


def test_plan_of_the_model_is_used_as_it_is() -> None:
    planning = Run(model_of()).planning
    assert (planning.source, ids(planning.plan)) == ("planner", ["1", "2", "3"])
    assert (planning.issues, planning.repairs, planning.reason) == ((), (), "")
    assert [attempt.status for attempt in planning.attempts] == ["ok"]


def test_subtask_settles_while_the_plan_is_still_being_written() -> None:
    run = Run(model_of())
    assert run.settled_before_the_end == ["1", "2"]
    assert [run.planning.plan[each.id] for each in run.settled] == run.settled


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 10_000])
def test_plan_is_the_same_however_the_stream_is_cut(chunk_size: int) -> None:
    pieces = [GOOD[at : at + chunk_size] for at in range(0, len(GOOD), chunk_size)]
    assert Run(model_of(pieces)).planning.plan == Run(model_of()).planning.plan


def test_prompt_states_both_tiers_the_cap_and_the_question() -> None:
    run = Run(model_of(), ChatPlanner(max_subtasks=4))
    [[system, human]] = run.prompts
    assert "edge (little)" in system.text
    assert "cloud (big)" in system.text
    assert "at most 4" in system.text
    assert "smallest set" in system.text
    assert human.text == f"<question>\n{QUESTION}\n</question>"


@pytest.mark.parametrize("question", ["{edge} {0} {}", "100 % of $1 \\1", "a & b < c"])
def test_question_is_never_read_as_a_template(question: str) -> None:
    run = Run(model_of(), question=question)
    assert question in run.prompts[0][1].text


# --------------------------------------------------------------------------- repair and re-prompt


def test_faulty_plan_is_repaired_without_asking_again() -> None:
    run = Run(model_of(CYCLE))
    assert run.planning.source == "planner"
    assert "cycle" in {issue.code for issue in run.planning.issues}
    assert run.planning.repairs
    assert len(run.prompts) == 1


def test_plan_that_is_too_long_is_merged_to_the_cap() -> None:
    steps = [ANALYZE.replace('ID="2"', f'ID="{n}"') for n in range(2, 40)]
    sink = GENERATE.replace('ID="3"', 'ID="99"')
    planning = Run(model_of(f"<Plan>{EXPLAIN}{''.join(steps)}{sink}</Plan>")).planning
    assert len(planning.plan.subtasks) == 6
    assert "too_many_subtasks" in {issue.code for issue in planning.issues}


def test_plan_of_500_subtasks_is_merged_to_the_cap() -> None:
    steps = [ANALYZE.replace('ID="2"', f'ID="{n}"') for n in range(2, 500)]
    planning = Run(model_of([f"<Plan>{EXPLAIN}", *steps, GENERATE, "</Plan>"])).planning
    assert len(planning.plan.subtasks) <= 6


def test_model_is_asked_once_more_when_nothing_can_be_used() -> None:
    run = Run(model_of("I would rather not.", GOOD))
    assert (run.planning.source, len(run.planning.attempts)) == ("planner", 2)
    first, second = run.prompts
    assert second[: len(first)] == first
    assert [message.type for message in second[len(first) :]] == ["ai", "human"]
    assert second[-2].text == "I would rather not."
    assert second[-1].text.startswith("That was not a usable plan:\n- ")


def test_model_is_told_the_faults_when_it_is_asked_again() -> None:
    run = Run(model_of("<Plan></Plan>", GOOD))
    faults = run.prompts[1][-1].text
    assert faults.startswith("That was not a usable plan:\n- ")


def test_bad_answer_is_shortened_when_it_is_sent_back() -> None:
    run = Run(model_of("no " * 3_000, GOOD))
    assert len(run.prompts[1][-2].text) <= 4_000


def test_question_becomes_one_subtask_when_the_second_plan_is_no_better() -> None:
    run = Run(model_of("no", "still no", "never asked"))
    planning = run.planning
    assert (planning.source, len(run.prompts)) == ("fallback", 2)
    assert planning.plan == single_subtask(QUESTION)
    assert "nothing that could be used" in planning.reason
    assert [attempt.status for attempt in planning.attempts] == ["ok", "ok"]


@pytest.mark.parametrize("nothing", ["", " \n "])
def test_question_becomes_one_subtask_when_the_model_writes_nothing(nothing: str) -> None:
    planning = Run(model_of(nothing)).planning
    assert (planning.source, planning.plan) == ("fallback", single_subtask(QUESTION))


@settings(max_examples=25)
@given(st.text(max_size=400))
def test_any_text_gives_a_valid_plan(text: str) -> None:
    model = model_of([text] if text else "")
    planning = Run(model).planning
    assert Plan.model_validate(planning.plan.model_dump()) == planning.plan
    assert balanced(model)


# ------------------------------------------------------------------------------- broken streams


def test_stream_that_is_cut_after_some_subtasks_settled_is_completed() -> None:
    pieces = ["<Plan>", EXPLAIN, ANALYZE, '<Step ID="3" Role="gen']
    run = Run(model_of(pieces))
    assert run.planning.source == "planner"
    assert ids(run.planning.plan)[:2] == ["1", "2"]
    assert run.planning.plan.sink.task == QUESTION
    assert [run.planning.plan[each.id] for each in run.settled] == run.settled


def test_planner_that_fails_after_some_subtasks_settled_gives_a_plan_with_them() -> None:
    pieces = ["<Plan>", EXPLAIN, ANALYZE, GENERATE, "</Plan>"]
    model = model_of(pieces, fail_after_chunks=3)
    run = Run(model)
    assert run.settled, "or the test shows nothing"
    assert run.planning.source == "planner"
    assert [run.planning.plan[each.id] for each in run.settled] == run.settled
    assert [attempt.status for attempt in run.planning.attempts] == ["failed"]
    assert len(run.prompts) == 1, "what has started is not planned anew"
    assert balanced(model)


def test_planner_that_fails_at_once_falls_back_with_the_reason() -> None:
    model = model_of(ConnectionRefusedError("sk-CANARY0123456789"))
    planning = Run(model).planning
    assert (planning.source, planning.plan) == ("fallback", single_subtask(QUESTION))
    assert planning.reason.startswith("the planner failed: ConnectionRefusedError")
    assert "CANARY" not in json.dumps(planning.to_json())
    assert balanced(model)


def test_planner_that_fails_when_asked_again_falls_back() -> None:
    planning = Run(model_of("no plan", TimeoutError("slow"))).planning
    assert (planning.source, planning.reason) == (
        "fallback",
        "the planner failed: TimeoutError: slow",
    )
    assert [attempt.status for attempt in planning.attempts] == ["ok", "failed"]


# -------------------------------------------------------------------------------- who pays for it


def test_edge_plans_for_nothing_by_default() -> None:
    run = Run(model_of())
    assert run.tier == "edge"
    assert run.model.budget.snapshot()["cloud_calls"]["spent"] == 0


def test_cloud_model_plans_on_the_clouds_account() -> None:
    planner = ScriptedChatModel(responses=[GOOD], model_name="big")
    run = Run(model_of(), ChatPlanner(model=planner))
    assert (run.tier, len(planner.calls)) == ("cloud", 1)
    assert run.model.budget.snapshot()["cloud_calls"]["spent"] == 1
    assert run.planning.attempts[0].cost_usd


def test_model_that_serves_as_the_edge_plans_as_the_edge() -> None:
    model = model_of()
    assert ChatPlanner(model=model.edge).place(model.core)[1] == "edge"


def test_tier_of_the_planner_can_be_said() -> None:
    other = ScriptedChatModel(responses=[GOOD], model_name="helper")
    core, tier = ChatPlanner(model=other, tier="edge").place(model_of().core)
    assert (tier, core.models["edge"].name) == ("edge", "helper")


def test_cloud_can_plan_without_being_given_again() -> None:
    model = model_of(cloud=ScriptedChatModel(responses=[GOOD], model_name="big"))
    run = Run(model, ChatPlanner(tier="cloud"))
    assert (run.planning.source, run.planning.attempts[0].tier) == ("planner", "cloud")


def test_placing_the_planner_leaves_the_core_alone() -> None:
    model = model_of()
    before: RoutingCore = model.core
    ChatPlanner(model=ScriptedChatModel(responses=["x"]), max_output_tokens=7).place(model.core)
    assert model.core is before
    assert before.max_output_tokens == 1024


def test_planner_that_the_budget_refuses_falls_back() -> None:
    model = model_of(budget=Budget(max_cloud_calls=0))
    planner = ScriptedChatModel(responses=[GOOD], model_name="big")
    planning = Run(model, ChatPlanner(model=planner)).planning
    assert planning.source == "fallback"
    assert "BudgetExceeded" in planning.reason
    assert planner.calls == []


def test_planner_falls_back_when_the_time_is_over() -> None:
    clock = ManualClock()
    budget = Budget(deadline_s=1, clock=clock)

    def late(messages: Any) -> str:
        clock.advance(2)
        return "no plan"

    planning = Run(model_of(late, budget=budget)).planning
    assert planning.source == "fallback"
    assert "longer than 1 s" in planning.reason


# ----------------------------------------------------------------------------------- trivial rule


@pytest.mark.parametrize("question", ["Who wrote Faust?", "Hello", "Add 2."])
def test_trivial_question_goes_without_a_plan(question: str) -> None:
    planning = ChatPlanner().trivial(question)
    assert planning is not None
    assert (planning.source, planning.plan.subtasks[0].task) == ("trivial", question)
    assert "surface difficulty" in planning.reason
    assert "<= 2" in planning.reason


def test_hard_question_is_not_trivial() -> None:
    assert ChatPlanner().trivial(QUESTION) is None


def test_no_question_is_trivial_when_told_so() -> None:
    assert ChatPlanner(skip_trivial=False).trivial("Hello") is None


def test_difficulty_of_a_trivial_question_is_what_the_rule_saw() -> None:
    planning = ChatPlanner().trivial("Add 2.")
    assert planning is not None
    assert planning.plan.subtasks[0].difficulty == 2


# ---------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("given_", [{"max_subtasks": 1}, {"max_output_tokens": 0}])
def test_setting_that_cannot_work_is_refused(given_: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(given_))):
        ChatPlanner(**given_)  # type: ignore[arg-type]


def test_planner_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        ChatPlanner().max_subtasks = 3  # type: ignore[misc]


def test_record_is_plain_json() -> None:
    record = Run(model_of(CYCLE)).planning.to_json()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert set(record) == {"source", "reason", "issues", "repairs", "attempts"}


# ------------------------------------------------------------------------------ planners of others


class FixedPlanner:
    """The whole interface: one method."""

    def __init__(self, outcome: Any = None) -> None:
        self.outcome = outcome or Plan(
            subtasks=[
                Subtask(id="a", task="What is given?", role="explain"),
                Subtask(id="b", task="How many?", role="generate", depends_on=["a"]),
            ]
        )
        self.questions: list[str] = []

    def plan(self, question: str) -> Any:
        self.questions.append(question)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class AsyncPlanner(FixedPlanner):
    async def aplan(self, question: str) -> Any:
        return super().plan(f"async: {question}")

    def plan(self, question: str) -> Any:
        raise AssertionError("the blocking method was used on the event loop")


STATE = {"messages": [("user", QUESTION)]}


def test_object_with_a_plan_method_is_a_planner() -> None:
    assert isinstance(FixedPlanner(), Planner)
    assert not isinstance(object(), Planner)


def test_planner_of_others_plans_for_a_graph() -> None:
    planner = FixedPlanner()
    out = HybridFlowGraph(model_of("fine"), planner=planner).compile().invoke(STATE)
    assert planner.questions == [QUESTION]
    assert [subtask["id"] for subtask in out["plan"]["subtasks"]] == ["a", "b"]
    assert out["answer"] == "fine"


async def test_async_method_of_a_planner_is_used_on_the_async_side() -> None:
    planner = AsyncPlanner()
    out = await HybridFlowGraph(model_of("fine"), planner=planner).compile().ainvoke(STATE)
    assert planner.questions == [f"async: {QUESTION}"]
    assert out["answer"] == "fine"


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (RuntimeError("lost the plot"), "RuntimeError: lost the plot"),
        ({"subtasks": []}, "must return a Plan, got dict"),
        ("<Plan></Plan>", "must return a Plan, got str"),
    ],
)
async def test_planner_of_others_that_fails_falls_back_to_one_subtask(
    outcome: Any, reason: str
) -> None:
    graph = HybridFlowGraph(model_of("fine"), planner=FixedPlanner(outcome)).compile()
    for out in (graph.invoke(STATE), await graph.ainvoke(STATE)):
        assert out["answer"] == "fine"
        assert len(out["plan"]["subtasks"]) == 1
        assert reason in json.dumps(out["report"])
