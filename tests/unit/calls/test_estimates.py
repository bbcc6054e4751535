"""What is held while a call is open: its longest answer, or what such answers use."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import BaseMessage

from langchain_hybridflow import Budget, RoutedChatModel
from langchain_hybridflow.budget import LearnedEstimate, Limits
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.testing import ScriptedChatModel

CAP = 500
ANSWER = "one two three four five"


class Watched:
    """A routed model whose cloud notes how many tokens are held while it answers."""

    def __init__(self, **budget: Any) -> None:
        self.held: list[int] = []
        self.budget = Budget(max_cloud_tokens=1_000_000, **budget)
        self.cloud = ScriptedChatModel(responses=[self.answer])
        self.model = RoutedChatModel(
            edge=ScriptedChatModel(responses=["no"]),
            cloud=self.cloud,
            router=AlwaysCloud(),
            budget=self.budget,
            max_output_tokens=CAP,
        )

    def answer(self, messages: list[BaseMessage]) -> str:
        self.held.append(self.budget.snapshot()["cloud_tokens"]["held"])
        return ANSWER

    def ask(self, times: int) -> None:
        for _ in range(times):
            self.model.invoke("Count to five.")


def test_call_holds_its_longest_answer_by_default() -> None:
    watched = Watched()
    watched.ask(30)
    assert min(watched.held) > CAP


def test_call_holds_what_answers_use_when_enough_were_seen() -> None:
    watched = Watched(estimates=LearnedEstimate())
    watched.ask(25)
    assert min(watched.held[:20]) > CAP
    assert max(watched.held[20:]) < 100


def test_answer_is_still_capped_when_less_is_held() -> None:
    watched = Watched(estimates=LearnedEstimate())
    watched.ask(25)
    assert {kwargs["max_tokens"] for kwargs in watched.cloud.call_kwargs} == {CAP}


def test_answer_longer_than_held_is_booked_in_full() -> None:
    estimates = LearnedEstimate()
    for _ in range(30):
        estimates.observe(1, tier="cloud", model="scripted")
    watched = Watched(estimates=estimates)
    answer = " ".join(["word"] * 200)
    watched.cloud.responses = [answer]
    watched.ask(1)
    snapshot = watched.budget.snapshot()["cloud_tokens"]
    assert snapshot["spent"] >= 200
    assert snapshot["held"] == 0


def test_nothing_is_learnt_from_answers_that_nobody_counted() -> None:
    estimates = LearnedEstimate()
    watched = Watched(estimates=estimates)
    watched.cloud.report_usage = False
    watched.ask(25)
    assert estimates.to_dict()["lengths"] == []


def test_limit_of_a_run_still_refuses_a_call_whose_estimate_does_not_fit() -> None:
    watched = Watched(estimates=LearnedEstimate(), per_run=Limits(cloud_tokens=CAP // 2))
    watched.ask(1)
    assert watched.held == []
