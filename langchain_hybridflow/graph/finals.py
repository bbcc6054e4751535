"""The last subtask of a plan: what its cloud call can cost, and the steps that hold it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from langchain_hybridflow.budget import Amounts, RunBudget, Usage, estimate_prompt_tokens
from langchain_hybridflow.calls import RoutingCore
from langchain_hybridflow.calls.tether import tether_here
from langchain_hybridflow.graph.prompts import subtask_messages
from langchain_hybridflow.plan import Plan

__all__ = ["Check", "DropEarmarks", "Earmark", "final_bound"]

_LONGER = 2
"""A model's tokens against our count of them, which is rather too high."""


def final_bound(core: RoutingCore, plan: Plan, question: str) -> Amounts:
    """Return what the cloud's answer to the last subtask can cost, before its inputs are there.

    Args:
        core: Who answers.
        plan: The whole plan.
        question: The whole question.
    """
    sink, target = plan.sink, core.models["cloud"]
    cap = target.output_cap(dict(core.options), core.max_output_tokens)
    prompt = subtask_messages(sink, question=question, answers=dict.fromkeys(sink.depends_on, ""))
    inputs = _LONGER * cap * len(sink.depends_on)
    return core.budget.quote(
        "cloud", target.name, Usage(estimate_prompt_tokens(prompt) + inputs, cap, estimated=True)
    )


@dataclass(slots=True)
class Check:
    """Make sure that the ledger answers before anything is asked."""

    run: RunBudget

    def perform(self) -> None:
        """Ask it for the counters."""
        self.run.check()

    async def aperform(self) -> None:
        """Async twin of `perform`."""
        await self.run.acheck()


@dataclass(slots=True)
class Earmark:
    """Hold money for a subtask that comes later, if there is enough."""

    run: RunBudget
    subtask_id: str
    amounts: Amounts

    def perform(self) -> bool:
        """Hold it in the ledger, unless the run's caller has gone."""
        is_held = self.run.earmark(self.subtask_id, self.amounts)
        tether = tether_here()
        if tether is not None and tether.is_cut:  # the others may have dropped what they knew of
            self.run.drop_earmarks()
            return False
        return is_held

    async def aperform(self) -> bool:
        """Async twin of `perform`."""
        return await self.run.aearmark(self.subtask_id, self.amounts)


@dataclass(slots=True)
class DropEarmarks:
    """Give back what was held and is not wanted any more; nothing without a run."""

    run: RunBudget | None

    def perform(self) -> None:
        """Give it back to the ledger."""
        if self.run is not None:
            self.run.drop_earmarks()

    async def aperform(self) -> None:
        """Async twin of `perform`; goes through even if the caller is cancelled meanwhile."""
        if self.run is not None and self.run.suspends:
            await asyncio.shield(self.run.adrop_earmarks())
        else:
            self.perform()
