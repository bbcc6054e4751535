"""The answers to one question's subtasks: each is bought once for the same inputs and tier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from langchain_hybridflow.graph import SubtaskRecord
from langchain_hybridflow.graph.state import inputs_hash
from langchain_hybridflow.plan import Plan, Subtask
from langchain_hybridflow.routing import Tier

__all__ = ["Answers", "Slot"]


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an answer belongs.

    Attributes:
        subtask_id: The subtask.
        inputs_hash: What it was answered from: its task, the question, the parents' answers.
        tier: Which tier was to answer.
    """

    subtask_id: str
    inputs_hash: str
    tier: Tier


@dataclass(slots=True)
class Answers:
    """All answers to the subtasks of one plan that were ever bought, and which failed.

    Two assignments of tiers share what they have in common: a subtask is answered anew only if its
    tier or an answer it builds on is another one. So what differs between two final answers is
    what the assignments differ in, and nothing else (common random numbers).

    Attributes:
        question: The whole question, as the subtasks see it.
        plan: Its plan.
    """

    question: str
    plan: Plan
    _known: dict[Slot, SubtaskRecord] = field(default_factory=dict)
    _failed: dict[Slot, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._known)

    def slot(self, subtask: Subtask, tier: Tier, results: Mapping[str, SubtaskRecord]) -> Slot:
        """Say where the answer to a subtask belongs whose parents were answered so."""
        answers = {one: results[one]["answer"] or "" for one in subtask.depends_on}
        return Slot(subtask.id, inputs_hash(subtask, self.question, answers), tier)

    def add(self, record: SubtaskRecord, tier: Tier) -> bool:
        """Keep an answer of the tier that was to give it; `False` if it is no news.

        A policy may have kept it on the edge: with the same inputs it would do so again, so that
        is what sending the subtask to the cloud comes to.
        """
        slot = Slot(record["id"], record["inputs_hash"], tier)
        if record["status"] != "ok" or slot in self._known:
            return False
        self._known[slot] = record
        self._failed.pop(slot, None)
        return True

    def fail(self, slot: Slot, error: str) -> None:
        """Note that there is no answer, so that it is not asked for again and again."""
        self._failed[slot] = error

    def under(self, tiers: Mapping[str, Tier]) -> tuple[dict[str, SubtaskRecord], str | None]:
        """Return what is known of the results under an assignment of tiers, by subtask id.

        Returns:
            The results, as far as they follow from known answers; and, if a tier has failed on one
            that they need, why.
        """
        results: dict[str, SubtaskRecord] = {}
        for subtask_id in self.plan.order:
            subtask = self.plan[subtask_id]
            if any(parent not in results for parent in subtask.depends_on):
                continue
            slot = self.slot(subtask, tiers[subtask_id], results)
            if slot in self._failed:
                return results, self._failed[slot]
            record = self._known.get(slot)
            if record is not None:
                results[subtask_id] = record
        return results, None
