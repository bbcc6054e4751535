"""The shape that all problems share: a setting, several independent branches, one question."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from langchain_hybridflow.sandbox.language import PhraseBook, sentences
from langchain_hybridflow.sandbox.program import Node, Program, Ref

__all__ = ["NAMES", "PLACES", "Branch", "Family", "Slots", "Story", "ask_amounts"]

Slots = dict[str, str]
"""What a sentence says: the text of each of its slots."""

NAMES: Final = (
    "Ada",
    "Ben",
    "Chloe",
    "Dario",
    "Elif",
    "Farid",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Kira",
    "Liam",
    "Mona",
    "Nils",
    "Olga",
    "Pavel",
    "Quinn",
    "Rosa",
    "Samir",
    "Tessa",
)
PLACES: Final = (
    "Riverside",
    "Hilltop",
    "Harbour",
    "Central",
    "Oakwood",
    "Lakeside",
    "Northgate",
    "Westfield",
    "Southbank",
    "Eastwick",
)


@dataclass(frozen=True, slots=True)
class Branch:
    """A part of a story that can be worked out beside the others.

    Args:
        form: Which of the family's branch forms it is.
        slots: What its sentence says; `slots["who"]` names it.
    """

    form: str
    slots: Slots

    @property
    def who(self) -> str:
        """The person, place or team that the branch is about."""
        return self.slots["who"]


@dataclass(frozen=True, slots=True)
class Story:
    """What a question says, sentence by sentence.

    Args:
        setting: What the setting sentence says.
        branches: In the order of their sentences.
        ask: Which of the family's questions is asked.
        ask_slots: What the question itself says.
    """

    setting: Slots
    branches: tuple[Branch, ...]
    ask: str
    ask_slots: Slots


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of problems: how its stories are drawn, told, read and solved.

    Args:
        kind: The kind of problem, such as `stock`.
        setting: Ways to tell the setting.
        branches: Ways to tell each form of branch.
        asks: Ways to ask each question.
        asides: Sentences that do not matter; some stories hold one.
        draw: Makes a story. It may be unsuitable (a tie, a negative stock); the generator
            then draws again.
        program: The steps that answer a story's question. Raises `Unsolvable` if the story
            makes no sense.
        whole: Whether every number on the way must be whole.
    """

    kind: str
    setting: PhraseBook
    branches: Mapping[str, PhraseBook]
    asks: Mapping[str, PhraseBook]
    asides: tuple[str, ...]
    draw: Callable[[random.Random], Story]
    program: Callable[[Story], Program]
    whole: bool = True

    def write(self, story: Story, rng: random.Random) -> str:
        """Tell `story` in words that `rng` chooses."""
        told = [self.branches[branch.form].write(rng, **branch.slots) for branch in story.branches]
        setting = self.setting.write(rng, **story.setting)
        told.insert(0 if rng.random() < 0.75 else len(told), setting)
        if rng.random() < 0.4:
            told.insert(rng.randrange(len(told) + 1), rng.choice(self.asides))
        told.append(self.asks[story.ask].write(rng, **story.ask_slots))
        return " ".join(told)

    def read(self, question: str) -> Story | None:
        """Read the story that `question` tells, or return None if it is none of this family."""
        said = sentences(question)
        setting = self.setting.read_first(said)
        if setting is None:
            return None
        asked = [
            (ask, slots)
            for ask, book in self.asks.items()
            if (slots := book.read_first(said)) is not None
        ]
        branches = tuple(
            Branch(form, slots)
            for sentence in said
            for form, book in self.branches.items()
            if (slots := book.read_first([sentence])) is not None
        )
        names = {branch.who for branch in branches}
        if len(asked) != 1 or len(branches) < 2 or len(names) < len(branches):
            return None
        return Story(setting, branches, *asked[0])


def ask_amounts(ask: str, branches: tuple[Branch, ...], *, what: str) -> Node:
    """Return the last step of a story whose branches each end in an amount of `what`.

    Args:
        ask: `total`, `spread` or `leading`.
        branches: The branches; the result of each is the step `end-<who>`.
        what: Plural noun phrase, such as `pens left`.
    """
    ends = tuple(Ref(f"end-{branch.who}") for branch in branches)
    if ask == "total":
        return Node(
            "answer", f"the total of all the {what}", "sum", ends, 3 if len(ends) < 4 else 4
        )
    if ask == "spread":
        label = f"the gap between the largest and the smallest number of {what}"
        return Node("answer", label, "spread", ends, 3)
    named = tuple(arg for branch in branches for arg in (branch.who, Ref(f"end-{branch.who}")))
    return Node("answer", f"the name of the one with the most {what}", "leading", named, 2)
