"""What a verifier says of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain.rewards import STATUSES, Status
from langchain_hybridflow.profiling.records import Item

__all__ = ["AnswerVerifier", "Ruling"]


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a verifier says of an answer.

    Args:
        status: "correct" or "wrong" is about the answer; "unverified" is about the verifier, and
            is not "wrong".
        reason: Why, in words.

    Raises:
        ConfigurationError: There is no such status.
    """

    status: Status
    reason: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ConfigurationError(f"A ruling is {', '.join(STATUSES)}, and not {self.status!r}.")


@runtime_checkable
class AnswerVerifier(Protocol):
    """Says whether an answer is right; may be called from several threads at once."""

    @property
    def name(self) -> str:
        """What it is called, with whatever makes its rulings differ."""
        ...

    def verify(self, item: Item, answer: str) -> Ruling:
        """Rule on an answer that is not blank; whatever it raises makes it unverified."""
        ...
