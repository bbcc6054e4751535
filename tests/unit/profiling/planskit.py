"""Plans whose exact credits are known: worlds in which every answer can be worked out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import product
from math import comb
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from langchain_hybridflow import Plan, Subtask
from langchain_hybridflow.graph.prompts import subtask_messages
from langchain_hybridflow.profiling import Item
from langchain_hybridflow.profiling.credit import CreditDesign
from langchain_hybridflow.profiling.plans import PlanRunner, SubtaskProfile, aprofile_plans
from langchain_hybridflow.routing import TIERS, Tier
from langchain_hybridflow.testing import ScriptedChatModel

Final = Callable[[dict[str, Tier]], float]

_SUBTASK = re.compile(r'<subtask id="([^"]+)"')
_RESULT = re.compile(r'<result subtask="([^"]+)">\n(.*?)\n</result>', re.DOTALL)


class GivenPlan:
    """A planner that has one plan, and needs no model for it."""

    tier = "edge"

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def plan(self, question: str) -> Plan:
        return self._plan


def subtask_of(messages: list[BaseMessage]) -> str:
    found = _SUBTASK.search(messages[-1].text)
    return found[1] if found else "plan"


def results_in(messages: list[BaseMessage]) -> dict[str, str]:
    return dict(_RESULT.findall(messages[-1].text))


def plan_of(depends_on: Mapping[str, str]) -> Plan:
    """A plan from `{"1": "", "2": "1", "3": "1", "4": "2 3"}`: first explains, last generates."""
    ids = list(depends_on)
    roles = {ids[0]: "explain", ids[-1]: "generate"}
    return Plan(
        subtasks=[
            Subtask(
                id=one,
                task=f"What is part {one}?",
                role=roles.get(one, "analyze"),
                depends_on=needs.split(),
                difficulty=min(9, 2 + number),
                expected_output_tokens=40 + number,
            )
            for number, (one, needs) in enumerate(depends_on.items())
        ]
    )


DIAMOND = plan_of({"1": "", "2": "1", "3": "1", "4": "2 3"})


def worker(tier: str, **answers: Callable[[dict[str, str]], str] | Exception) -> ScriptedChatModel:
    """A model that answers subtask `s<id>` from its parents' results; others with `<tier> <id>`."""

    def answer(messages: list[BaseMessage]) -> Any:
        one = subtask_of(messages)
        given = answers.get(f"s{one}", lambda results: f"{tier} {one}")
        return given if isinstance(given, Exception) else given(results_in(messages))

    return ScriptedChatModel(responses=[answer], model_name=f"{tier}-model")


def asked(model: ScriptedChatModel) -> list[str]:
    """The subtasks that a model was asked, in order."""
    return [subtask_of(messages) for messages in model.calls]


def prompts(model: ScriptedChatModel) -> list[str]:
    return [messages[-1].text for messages in model.calls]


async def profiled(
    out: Any, plan: Plan, edge: BaseChatModel, cloud: BaseChatModel, **options: Any
) -> tuple[SubtaskProfile, PlanRunner]:
    """Profile one question, unless others are given, by a given plan."""
    runners: list[PlanRunner] = []
    follow = options.pop("on_start", runners.append)

    def start(runner: PlanRunner) -> None:
        runners.append(runner)
        follow(runner)

    options = {
        "credit": CreditDesign(samples=4, focus=False),
        "scorer": "exact",
        "planner": GivenPlan(plan),
        "max_tokens": 64,
        **options,
    }
    data = options.pop("data", [Item(id="q", question="What is it all?", reference="right")])
    profile = await aprofile_plans(data, edge=edge, cloud=cloud, out=out, on_start=start, **options)
    return profile, runners[0]


def all_tiers(plan: Plan) -> list[dict[str, Tier]]:
    return [dict(zip(plan.order, tiers, strict=True)) for tiers in product(TIERS, repeat=len(plan))]


def scores_by_hand(
    plan: Plan,
    question: str,
    models: Mapping[Tier, BaseChatModel],
    is_right: Callable[[str], bool],
) -> dict[tuple[Tier, ...], float]:
    """The score under every assignment, found by asking the models one subtask after the other."""
    known: dict[Any, str] = {}
    scores = {}
    for tiers in all_tiers(plan):
        answers: dict[str, str] = {}
        for one in plan.order:
            parents = {parent: answers[parent] for parent in plan[one].depends_on}
            key = (one, tiers[one], tuple(sorted(parents.items())))
            if key not in known:
                prompt = subtask_messages(plan[one], question=question, answers=parents)
                known[key] = models[tiers[one]].invoke(prompt).text
            answers[one] = known[key]
        scores[tuple(tiers.values())] = float(is_right(answers[plan.sink.id]))
    return scores


def exact_credit(
    plan: Plan, scores: Mapping[tuple[Tier, ...], float], one: str, share: float | None
) -> float:
    """The credit by its definition: a sum over all tiers of the others."""
    place, others = plan.order.index(one), len(plan) - 1
    total = 0.0
    for rest in product(TIERS, repeat=others):
        clouds = rest.count("cloud")
        if share is None:  # the Shapley value
            weight = 1 / ((others + 1) * comb(others, clouds))
        else:
            weight = share**clouds * (1 - share) ** (others - clouds)
        with_cloud = (*rest[:place], "cloud", *rest[place:])
        with_edge = (*rest[:place], "edge", *rest[place:])
        total += weight * (scores[with_cloud] - scores[with_edge])
    return total
