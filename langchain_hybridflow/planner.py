"""From a question to a plan: a language model as planner, read while it is still writing."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from langchain_hybridflow.budget import RunBudget
from langchain_hybridflow.calls import Attempt, AttemptFailed, RoutingCore, TierModel, request_of
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.delimiters import inert
from langchain_hybridflow.errors import ConfigurationError, PolicyViolation
from langchain_hybridflow.plan import (
    Plan,
    PlanBuilder,
    PlanIssue,
    PlanParser,
    Repair,
    RepairedPlan,
    Role,
    Subtask,
)
from langchain_hybridflow.routing import Tier, ask_policy, surface_difficulty

__all__ = ["ChatPlanner", "PlanSource", "PlanWriter", "Planner", "Planning", "single_subtask"]

TRIVIAL_LEVEL = 2

PlanSource: TypeAlias = Literal["planner", "trivial", "given", "fallback"]

_SYSTEM = """\
You are the planner of a team of two language models. You do not answer the question: you divide it
into subtasks, so that those which do not need each other can be worked on at the same time.

The team:
- edge ({edge}): free and close by, good at easy steps. Difficulty 1-4.
- cloud ({cloud}): strong and expensive, for steps the edge would get wrong. Difficulty 5-9.

Write nothing but the plan, in this form:
<Plan>
<Step ID="1" Role="explain" Task="...?" Difficulty="2" Token="60" Rely=""/>
<Step ID="2" Role="analyze" Task="...?" Difficulty="4" Token="80" Rely="1"/>
<Step ID="3" Role="analyze" Task="...?" Difficulty="6" Token="120" Rely="1"/>
<Step ID="4" Role="generate" Task="...?" Difficulty="3" Token="80" Rely="2,3"/>
</Plan>

Rules:
- The smallest set of steps that lets independent work go on in parallel; at most {max_subtasks}.
- Exactly one explain step, first: what is given and what is asked. Exactly one generate step, last:
  it gives the final answer. All others are analyze.
- Rely lists the IDs whose results a step needs, separated by commas, and no others.
- A Task is a question that can be understood on its own. It names the results it needs as [ID].
- Ask for facts and values, do not state them: no answers and no guesses in a Task.
- Difficulty 1-9 is how hard the step is on its own. Token is the expected length of its answer.
- Inside Task write &quot; for a double quote, &lt; for <, &amp; for &.
"""

_AGAIN = """\
That was not a usable plan:
{issues}
Write the whole plan again, in the form given, and nothing else."""


@runtime_checkable
class Planner(Protocol):
    """Divides a question into subtasks. Anything with this method can plan for a graph.

    A method `aplan` with the same signature is used on the async side if there is one; without
    it `plan` runs in a thread.

    Nobody can see where it sends the question. Under a policy, one that has no attribute
    `tier = "edge"` is taken to be in the cloud: a question that must stay local is then planned
    by the graph's edge model.
    """

    def plan(self, question: str) -> Plan:
        """Return a plan for the question; raising falls back to a plan of one subtask."""
        ...


@dataclass(slots=True)
class Planning:
    """How a plan came about.

    Attributes:
        plan: The plan to run; always a valid one.
        source: "planner", "trivial" (the question needed none), "given", or "fallback" (no plan
            could be made, so the question is one subtask).
        issues: The faults of what the planner wrote, before repair.
        repairs: What was done about them.
        attempts: The planner's model calls.
        reason: Why the plan is trivial or a fallback, in words.
    """

    plan: Plan
    source: PlanSource
    issues: tuple[PlanIssue, ...] = ()
    repairs: tuple[Repair, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the record of it in plain JSON types; the plan itself stands elsewhere."""
        return {
            "source": self.source,
            "reason": self.reason,
            "issues": [
                {"code": issue.code, "subtask_id": issue.subtask_id, "message": issue.message}
                for issue in self.issues
            ],
            "repairs": [
                {"code": repair.code, "subtask_id": repair.subtask_id, "message": repair.message}
                for repair in self.repairs
            ],
            "attempts": [attempt.model_dump(mode="json") for attempt in self.attempts],
        }


def single_subtask(question: str, *, difficulty: int = 5) -> Plan:
    """Make the plan of one subtask: answer the question as it is."""
    return Plan(
        subtasks=(
            Subtask(
                id="1",
                task=question,
                role=Role.GENERATE,
                difficulty=difficulty,
                expected_output_tokens=256,
            ),
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPlanner:
    """Plans with a chat model; subtasks can start while the plan is still being written.

    Faulty plans are repaired by rule; if nothing usable came, the model is told the faults and
    asked once more; if that fails, too, the question becomes a plan of one subtask. A question
    whose `surface_difficulty` is at most 2 (no or few quantities, no words that ask for
    reasoning) is not worth a plan: it becomes a plan of one subtask at once.

    Args:
        model: The planning model; `None` is the graph's edge model.
        tier: Who pays and whose slot the planning call takes. `None` is the tier that the model
            serves in the graph, or "cloud" for any other model.
        max_subtasks: The most subtasks a plan may have, 2 or more.
        skip_trivial: Whether trivial questions go without a plan.
        max_output_tokens: The longest plan to reserve money for, in tokens.

    Raises:
        ConfigurationError: `max_subtasks` is less than 2, or `max_output_tokens` less than 1.
    """

    model: BaseChatModel | None = None
    tier: Tier | None = None
    max_subtasks: int = 6
    skip_trivial: bool = True
    max_output_tokens: int = 1024

    def __post_init__(self) -> None:
        if self.max_subtasks < 2:
            raise ConfigurationError(
                f"A plan needs at least 2 subtasks to be one, got "
                f"max_subtasks={self.max_subtasks!r}."
            )
        if self.max_output_tokens < 1:
            raise ConfigurationError(
                f"max_output_tokens is the length of a plan, got {self.max_output_tokens!r}."
            )

    def trivial(self, question: str) -> Planning | None:
        """Return the plan of a question that needs no planning, or `None`."""
        surface = surface_difficulty(question)
        if not self.skip_trivial or surface.level > TRIVIAL_LEVEL:
            return None
        signs = ", ".join(surface.signs) or "no signs of reasoning"
        return Planning(
            plan=single_subtask(question, difficulty=surface.level),
            source="trivial",
            reason=f"surface difficulty {surface.level} <= {TRIVIAL_LEVEL} ({signs})",
        )

    def place(
        self, core: RoutingCore, question: str | None = None, *, kept_local: bool = False
    ) -> tuple[RoutingCore, Tier]:
        """Find the tier whose slot and account planning uses, and the core that calls it.

        The planning call carries the question, so it obeys the policy, too: if this planner's
        tier may not see the question, the other tier's own model plans.

        Args:
            core: Both tiers, and the policy.
            question: What is to be planned; `None` asks for the planner's usual place.
            kept_local: Whether it builds on an answer that was kept local.

        Raises:
            PolicyViolation: No tier may see the question.
        """
        if self.model is None:
            tier = self.tier or "edge"
            target = core.models[tier]
        else:
            served: Tier = "edge" if self.model is core.models["edge"].origin else "cloud"
            tier = self.tier or served
            target = TierModel.of(tier, self.model)
        if question is not None:
            request = request_of(
                self.messages(question, core),
                core.options,
                read_options=core.policy is not None,
                text=question,
                kept_local=kept_local,
            )
            verdict = ask_policy(core.policy, request)
            if not verdict:
                raise PolicyViolation(verdict.reason)
            if tier not in verdict:
                (tier,) = verdict
                target = core.models[tier]
        models = {**core.models, tier: target}
        return replace(core, models=models, max_output_tokens=self.max_output_tokens), tier

    def messages(self, question: str, core: RoutingCore) -> list[BaseMessage]:
        """Write the prompt of a planning call."""
        system = _SYSTEM.format(
            edge=core.models["edge"].name,
            cloud=core.models["cloud"].name,
            max_subtasks=self.max_subtasks,
        )
        return [SystemMessage(system), HumanMessage(f"<question>\n{inert(question)}\n</question>")]

    def script(
        self,
        question: str,
        *,
        core: RoutingCore,
        tier: Tier,
        run: RunBudget,
        writer: PlanWriter,
    ) -> Script[Planning]:
        """Plan; `writer` is fed by whoever performs the `Call` steps, chunk by chunk.

        Core and tier are those from `place`.
        """
        messages = self.messages(question, core)
        attempts: list[Attempt] = []
        issues: tuple[PlanIssue, ...] = ()
        reason = "the planner wrote nothing that could be used"
        for turn in range(2):
            reply = ""
            try:
                purchase = yield from core.attempt(
                    tier,
                    messages,
                    run=run,
                    lease_id=f"plan/{turn}/{uuid.uuid4().hex[:8]}",
                    role="planner",
                )
                attempts.append(purchase.attempt)
                reply = purchase.message.text
            except AttemptFailed as failed:
                attempts.append(failed.attempt)
                reason = f"the planner failed: {failed.attempt.error}"
            repaired = writer.finish()
            issues = repaired.issues
            if repaired.plan is not None:
                return Planning(repaired.plan, "planner", issues, repaired.repairs, tuple(attempts))
            if not reply:
                break
            faults = "\n".join(f"- {issue.message}" for issue in issues)
            again = HumanMessage(_AGAIN.format(issues=faults or "- there was no <Plan> in it"))
            messages = [*messages, AIMessage(reply[:4_000]), again]
            writer.restart()
        return Planning(
            single_subtask(question),
            "fallback",
            issues=issues,
            attempts=tuple(attempts),
            reason=reason,
        )


@dataclass(slots=True)
class PlanWriter:
    """Reads a plan as it is being written, and hands out each subtask once it is settled."""

    question: str
    max_subtasks: int
    on_settled: Callable[[Subtask], None]
    _parser: PlanParser = field(default_factory=PlanParser)
    _builder: PlanBuilder = field(init=False)

    def __post_init__(self) -> None:
        self._builder = PlanBuilder(max_subtasks=self.max_subtasks, question=self.question)

    def feed(self, text: str) -> None:
        """Take the next piece of the model's output."""
        for draft in self._parser.feed(text):
            for subtask in self._builder.add(draft):
                self.on_settled(subtask)

    def finish(self) -> RepairedPlan:
        """Take the end of the output, or of what came before it broke off."""
        for draft in self._parser.close():
            self._builder.add(draft)
        return self._builder.finish(parse_issues=self._parser.issues)

    def restart(self) -> None:
        """Forget an output of which nothing could be used."""
        self._parser = PlanParser()
        self.__post_init__()
