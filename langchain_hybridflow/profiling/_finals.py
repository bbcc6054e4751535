"""Scoring the final answers of plans: only the last subtask's answer can be right or wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.calls.verifying import Desk
from langchain_hybridflow.profiling.judging import Grader
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.profiling.scoring import Score, Scorer
from langchain_hybridflow.routing import Tier

__all__ = ["FinalGrader", "FinalScorer", "final_scorer"]

_INTERMEDIATE = Score(None, "an intermediate answer has no right answer of its own")


_S = TypeVar("_S", Scorer, Grader)


@dataclass(frozen=True, slots=True)
class _Finals(Generic[_S]):
    """What knows which answers are final, and of which whole question.

    Attributes:
        scorer: Scores answers to questions.
        questions: The whole question, by the id of the item that is the last subtask of its plan.
    """

    scorer: _S
    questions: Mapping[str, Item]

    @property
    def name(self) -> str:
        """What it is called in the records."""
        return self.scorer.name

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with a right answer."""
        return False  # intermediate answers have none


class FinalScorer(_Finals[Scorer]):
    """Scores the answers that are final, as answers to the whole question."""

    __slots__ = ()

    def score(self, item: Item, answer: str) -> Score:
        """Score an answer if it is final."""
        question = self.questions.get(item.id)
        return _INTERMEDIATE if question is None else self.scorer.score(question, answer)


class FinalGrader(_Finals[Grader]):
    """Lets a model score the answers that are final, as answers to the whole question."""

    __slots__ = ()

    @property
    def tier(self) -> Tier:
        """As a call of which tier its calls wait for their turn."""
        return self.scorer.tier

    def grade(self, item: Item, answer: str, desk: Desk) -> Script[Score]:
        """Score an answer if it is final."""
        question = self.questions.get(item.id)
        if question is None:
            return _INTERMEDIATE
        return (yield from self.scorer.grade(question, answer, desk))


def final_scorer(
    scorer: Scorer | Grader, questions: Mapping[str, Item]
) -> FinalScorer | FinalGrader:
    """Let a scorer of questions score the answers of subtasks, of which some are final."""
    if isinstance(scorer, Grader):
        return FinalGrader(scorer, questions)
    return FinalScorer(scorer, questions)
