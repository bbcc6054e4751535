"""Trust an edge answer as much as the edge agrees with itself when it is asked again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.calls.verifying import Desk, Verdict, VerifyRequest, answer_text
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["SelfConsistency"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfConsistency:
    """Ask the edge some more times, and accept its answer if enough of them agree with it.

    Each sample is a purchase from the call's own budget. They are drawn one after the other, and
    no more than it takes to know the outcome. An edge model with a cache of its own must be left
    out of it: its samples would be one and the same.

    Args:
        samples: How many times the edge is asked again, at most.
        agree: Least share in 0..1 of the samples that must agree with the answer.
        temperature: Call option of the samples; `None` leaves the model's own. At 0 most models
            agree with themselves whatever they say.
        extract: What of an answer must be the same, from its text (tool calls as JSON); by
            default all of it but case and white space, which suits short answers only.

    Raises:
        ConfigurationError: A number is out of its range.

    Example:
        >>> import re
        >>> from langchain_hybridflow import RoutedChatModel
        >>> from langchain_hybridflow.testing import ScriptedChatModel
        >>> last_number = lambda text: re.findall(r"-?[0-9]+", text)[-1:] and text.split()[-1]
        >>> model = RoutedChatModel(
        ...     edge=ScriptedChatModel(responses=["It is 41", "I get 42", "Surely 43"]),
        ...     cloud=ScriptedChatModel(responses=["42"]),
        ...     verify=SelfConsistency(samples=2, agree=0.5, extract=last_number),
        ... )
        >>> model.invoke("What is 6 * 7?").text
        '42'
    """

    samples: int = 4
    agree: float = 0.5
    temperature: float | None = 0.7
    extract: Callable[[str], Hashable] | None = None

    def __post_init__(self) -> None:
        if type(self.samples) is not int or self.samples < 1:
            raise ConfigurationError(f"samples must be an integer >= 1, not {self.samples!r}.")
        if not 0 < self.agree <= 1:
            raise ConfigurationError(f"agree must be in 0..1 and not 0, not {self.agree!r}.")

    def check(self, request: VerifyRequest, desk: Desk) -> Script[Verdict]:
        """Look at an answer."""
        extract = self.extract or _plainly
        given = extract(answer_text(request.answer))
        options = dict(desk.options)
        if self.temperature is not None:
            options["temperature"] = self.temperature
        wanted = self.agree * self.samples
        agreed = drawn = 0
        while agreed < wanted and agreed + self.samples - drawn >= wanted:
            sample = yield from desk.ask("edge", list(request.messages), options=options)
            drawn += 1
            agreed += extract(answer_text(sample.message)) == given
        accept = agreed >= wanted
        reason = f"{agreed} of {drawn} samples agree (of {self.samples}, {wanted:g} must)"
        return Verdict(accept, score=agreed / drawn, reason=reason)


def _plainly(text: str) -> str:
    return " ".join(text.split()).casefold()
