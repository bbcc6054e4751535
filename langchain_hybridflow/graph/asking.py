"""One question in a run: may it spend more than the limit?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import interrupt

from langchain_hybridflow.budget import Allowance, Amounts, Budget, RunBudget
from langchain_hybridflow.budget.allowance import Shortfall
from langchain_hybridflow.calls.asking import can_ask, is_approval, question
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.errors import BudgetExceeded, ConfigurationError
from langchain_hybridflow.graph.nodes import Node

__all__ = ["Asked", "Postponed", "RunQuestion", "asking_node", "asking_once", "check_can_ask"]

Update = dict[str, Any]


class Asked(BaseException):  # control flow: no border for errors may hold it up
    """A subtask has to ask: its node ends here, and another one puts the question.

    Attributes:
        says: The question, in plain JSON types.
        allowance: What approval allows.
    """

    def __init__(self, says: dict[str, Any], allowance: Allowance) -> None:
        self.says = says
        self.allowance = allowance
        super().__init__("the budget is exhausted, and a person is asked")


class Postponed(BaseException):  # likewise
    """Another subtask of the run is asking for more; this one goes on in the next wave."""


def check_can_ask(budget: Budget) -> None:
    """Refuse to start a run that could not ask its question.

    Raises:
        ConfigurationError: `on_exhausted` is "ask", and there is no checkpointer.
    """
    if budget.on_exhausted == "ask" and not can_ask():
        raise ConfigurationError(
            "on_exhausted='ask' asks a person by an interrupt, from which only a graph with a "
            "checkpointer can be resumed. Compile with one: HybridFlowGraph(...).compile("
            "checkpointer=InMemorySaver()), and run it with a thread_id; or use "
            "on_exhausted='edge'."
        )


class RunQuestion:
    """Asks for one run, once, whatever the number of subtasks that do not fit.

    The first subtask that is refused asks; those that are refused meanwhile are postponed: they go
    out with the next wave, which knows the answer. The question is put by a node of its own and
    stands in the state before it is put, so that it is the same one in every process, and its
    answer counts even if there is enough again when it comes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._about: dict[str, tuple[dict[str, Any], int]] = {}
        self._asker: str | None = None
        self._answered = False

    def prepare(
        self,
        run: RunBudget,
        subtask_id: str,
        facts: dict[str, Any],
        *,
        answer: Mapping[str, Any],
        calls_left: int,
    ) -> None:
        """Take in what is known before a subtask buys.

        Args:
            run: The account of the run.
            subtask_id: Who buys.
            facts: What a person should know about it.
            answer: What was answered; empty if nothing was asked yet.
            calls_left: How many subtasks, this one included, approval should be enough for.
        """
        with self._lock:
            self._about[subtask_id] = (facts, calls_left)
            if answer and not self._answered:
                self._answered = True
                if answer["approved"]:
                    run.allow(Allowance.from_json(answer["allowance"]))

    def __call__(
        self,
        owner: str,
        amounts: Amounts,
        *,
        refused: BudgetExceeded,
        lacking: Sequence[Shortfall],
    ) -> Allowance | None:
        """Have it asked, if nobody has; see `AskForMore`.

        Raises:
            Asked: This subtask is to ask.
            Postponed: Another one is asking.
        """
        with self._lock:
            about = self._about.get(owner)
            if about is None or self._answered:  # planning asks nobody, and nobody asks twice
                return None
            if self._asker not in (None, owner):
                raise Postponed
            self._asker = owner
        facts, calls_left = about
        allowance = Allowance.covering(lacking, amounts, calls=calls_left)
        raise Asked(question(refused, lacking, allowance, **facts), allowance)


def asking_node() -> Node:
    """Make the node that puts the question, and writes the answer to the state of the run."""

    def put(state: Any, config: RunnableConfig) -> Update:  # noqa: ARG001 - a node's face
        asked = state["work"]["question"]
        approved = is_approval(interrupt(asked["says"]))
        answer = {"approved": approved, "allowance": asked["allowance"]}
        return {"approval": answer, "next": asked["node"]}

    async def aput(state: Any, config: RunnableConfig) -> Update:
        return put(state, config)

    return Node(put, aput)


def asking_once(
    script: Callable[[Any], Script[Update]],
    *,
    node: str,
    model_of: Callable[[], str],
    run_of: Callable[[Mapping[str, Any]], RunBudget],
) -> Callable[[Any], Script[Update]]:
    """Let the purchases of a subtask's node ask the question of its run.

    Args:
        script: What the node does.
        node: Its name, to come back to.
        model_of: Names the cloud's model.
        run_of: Finds the account that pays, by the node's packet.
    """

    def asking(state: Any) -> Script[Update]:
        packet, subtask = state["packet"], state["work"]["subtask"]
        run = run_of(packet)
        if not isinstance(run.ask, RunQuestion):
            return (yield from script(state))
        facts = {"subtask_id": subtask["id"], "task": subtask["task"]}
        facts["model"] = model_of()
        answer = state.get("approval") or packet.get("approval") or {}
        calls_left = packet.get("calls_left") or 1
        run.ask.prepare(run, subtask["id"], facts, answer=answer, calls_left=calls_left)
        try:
            return (yield from script(state))
        except Postponed:
            return {"next": ""}
        except Asked as asked:
            waiting = {"node": node, "says": asked.says, "allowance": asked.allowance.to_json()}
            return {"work": {**state["work"], "question": waiting}, "next": "ask"}

    return asking
