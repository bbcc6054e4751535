"""Trust an edge answer as much as the edge agrees with itself when it is asked again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from langchain_core.messages import AIMessage

from langchain_hybridflow.answer_or_ask import read_reply
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.calls.verifying import Desk, Verdict, VerifyRequest, answer_text
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.sandbox.answers import extract_answer

__all__ = ["SelfConsistency", "bare_answer", "draw_sample", "final_answer", "same_words"]


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
        extract = self.extract or same_words
        given = extract(bare_answer(request.answer))
        wanted = self.agree * self.samples
        agreed = drawn = 0
        while agreed < wanted and agreed + self.samples - drawn >= wanted:
            drawn += 1
            sample = yield from draw_sample(
                request, desk, number=drawn, temperature=self.temperature
            )
            agreed += extract(sample) == given
        accept = agreed >= wanted
        reason = f"{agreed} of {drawn} samples agree (of {self.samples}, {wanted:g} must)"
        return Verdict(accept, score=agreed / drawn, reason=reason)


def draw_sample(
    request: VerifyRequest, desk: Desk, *, number: int, temperature: float | None
) -> Script[str]:
    """Buy another answer of the edge to the same prompt, and return it as `bare_answer` does.

    Where the call or the model has a seed, each sample has another one: with the same they would
    all be one and the same.

    Args:
        request: What was asked.
        desk: Where it is bought, with the options of the call.
        number: Of the sample, from 1.
        temperature: Call option; `None` leaves that of the call.

    Raises:
        AttemptFailed: From the error of the model or of the budget.
    """
    options = dict(desk.options)
    if temperature is not None:
        options["temperature"] = temperature
    seed = options.get("seed", vars(desk.buyer.models["edge"].model).get("seed"))
    if type(seed) is int:
        options["seed"] = seed + number
    sample = yield from desk.ask("edge", list(request.messages), options=options)
    return bare_answer(sample.message)


def bare_answer(message: AIMessage) -> str:
    """Return what an answer says without the thinking before it, tool calls as JSON.

    Of a model that thinks between tags, or was trained to answer or ask, the answer that is looked
    at may have been read already, and the samples have not. One that asks is left as it is: it
    agrees with no answer.

    Example:
        >>> bare_answer(AIMessage("<think>6 * 7</think><answer>42</answer>"))
        '42'
    """
    text = answer_text(message)
    reply = read_reply(text)
    return text if reply.asks else reply.answer or text


def same_words(text: str) -> str:
    """Return a text apart from case and white space.

    Example:
        >>> same_words("It  is Paris")
        'it is paris'
    """
    return " ".join(text.split()).casefold()


def final_answer(text: str) -> str:
    r"""Return what an answer gives as its final answer, apart from case and white space.

    That is what stands between `<answer>` tags, behind the last `Answer:` or in the last
    `\boxed{}`; all of it if there is none.

    Example:
        >>> final_answer("6 * 7 = 42.\nAnswer: 42"), final_answer("<answer>42</answer>")
        ('42', '42')
    """
    said = read_reply(text).answer or text
    return same_words(extract_answer(said) or said)
