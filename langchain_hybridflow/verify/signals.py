"""How sure an edge model is of its answer, as a number: four ways to find out.

| Signal | What it looks at | Costs |
|---|---|---|
| `TokenProbability` | how likely the answer's tokens were to the model | nothing |
| `SampleAgreement` | how many of k more answers say the same | k edge calls |
| `StatedConfidence` | what the model says when asked how sure it is | one short edge call |
| `AskMarker` | whether it asks for help, or how near it came to asking | nothing |

A signal's score has no meaning of its own but its order: the higher, the surer. What it is worth a
calibrator says, see `learning.confidence`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from math import exp, fsum, isfinite
from typing import Any, Final, Literal, Protocol, runtime_checkable

from langchain_core.messages import AIMessage, HumanMessage

from langchain_hybridflow.answer_or_ask import ASK_MARKER, read_reply
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.calls.verifying import Desk, VerifyRequest, answer_text
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.verify.consistency import (
    bare_answer,
    draw_sample,
    final_answer,
    same_words,
)
from langchain_hybridflow.verify.stating import HOW_SURE, stated_share

__all__ = [
    "AskMarker",
    "Confidence",
    "ConfidenceSignal",
    "SampleAgreement",
    "StatedConfidence",
    "TokenProbability",
    "signal_from_settings",
    "signal_settings",
]


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure a model was of one answer.

    Args:
        score: The higher, the surer; `None` if that cannot be known of this answer, as after a
            number that is not finite.
        reason: What was found, in words; not the answer itself.
    """

    score: float | None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.score is not None and not isfinite(self.score):
            object.__setattr__(self, "score", None)  # NaN is neither above nor below a threshold


@runtime_checkable
class ConfidenceSignal(Protocol):
    """Says how sure the edge was of an answer.

    One that reads log-probabilities has a property `reads_logprobs` that is `True`, and with
    `reads_top_logprobs`, a number, says how many alternatives to each token it wants to see.
    """

    def measure(self, request: VerifyRequest, desk: Desk) -> Script[Confidence]:
        """Look at an answer; a script, see `langchain_hybridflow.calls.steps`.

        Whatever it buys at the desk is paid for by the budget of the call.
        """
        ...


@dataclass(frozen=True, slots=True)
class TokenProbability:
    """Exp(mean ln p) of the answer's tokens: the inverse of its perplexity, 0 to 1.

    Providers that send no log-probabilities leave it unknown.

    Example:
        >>> from langchain_core.messages import AIMessage
        >>> asked = {"question": "Capital of France?", "messages": (), "answer": AIMessage("Paris")}
        >>> round(TokenProbability().of(VerifyRequest(**asked, logprobs=(-0.1, -0.7))).score, 3)
        0.67
    """

    @property
    def reads_logprobs(self) -> bool:
        """Whether the edge model is to be asked for log-probabilities."""
        return True

    def measure(self, request: VerifyRequest, desk: Desk) -> Script[Confidence]:
        """Look at an answer."""
        del desk
        yield from ()
        return self.of(request)

    def of(self, request: VerifyRequest) -> Confidence:
        """Return what the log-probabilities say."""
        if not request.logprobs:
            return Confidence(None, "the provider sent no log-probabilities")
        if not all(one <= _ROUNDING for one in request.logprobs):
            return Confidence(None, "what the provider sent are no log-probabilities")
        mean = min(1.0, exp(fsum(request.logprobs) / len(request.logprobs)))
        return Confidence(mean, f"mean token probability {mean:.3f}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleAgreement:
    """Share of further answers of the edge that agree with this one, 0 to 1.

    All of them are drawn, one after the other: a share of fewer would depend on where drawing
    ended. `SelfConsistency` stops as soon as its verdict is known, and has no share.

    Args:
        samples: How many are drawn.
        temperature: Call option of the samples; `None` leaves the model's own. At 0 most models
            agree with themselves whatever they say.
        extract: What of an answer must be the same: "answer" for what it gives as its final answer
            (after `Answer:`, in a box, between `<answer>` tags; all of it if it gives none so),
            "text" for all of it, or a function of its text. Case and white space do not count.

    Raises:
        ConfigurationError: A number is out of its range, or `extract` is unknown.
    """

    samples: int = 5
    temperature: float | None = 0.7
    extract: Literal["answer", "text"] | Callable[[str], Hashable] = "answer"

    def __post_init__(self) -> None:
        if type(self.samples) is not int or self.samples < 1:
            raise ConfigurationError(f"samples must be an integer >= 1, not {self.samples!r}.")
        if not callable(self.extract) and self.extract not in _EXTRACTS:
            raise ConfigurationError(
                f"extract must be 'answer', 'text' or a function, not {self.extract!r}."
            )

    def measure(self, request: VerifyRequest, desk: Desk) -> Script[Confidence]:
        """Draw the samples, and compare."""
        extract = self.extract if callable(self.extract) else _EXTRACTS[self.extract]
        given = extract(bare_answer(request.answer))
        agreed = 0
        for number in range(1, self.samples + 1):
            sample = yield from draw_sample(
                request, desk, number=number, temperature=self.temperature
            )
            agreed += extract(sample) == given
        return Confidence(
            agreed / self.samples, f"{agreed} of {self.samples} samples agree with the answer"
        )


_EXTRACTS: Final[Mapping[str, Callable[[str], Hashable]]] = {
    "answer": final_answer,
    "text": same_words,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedConfidence:
    """What the edge says when it is asked how sure it is, 0 to 1.

    It is asked after it has answered, in a call of its own that the user never sees. So nothing
    has to be cut out of an answer, streamed or not, and the answer is the same as without. A reply
    without a number leaves it unknown.

    Args:
        prompt: What it is asked; the reply should name a number from 0 to 100.
        max_tokens: The longest reply, in tokens; models that think first need many.

    Raises:
        ConfigurationError: The prompt is empty, or `max_tokens` is not a number above 0.
    """

    prompt: str = HOW_SURE
    max_tokens: int = 256

    def __post_init__(self) -> None:
        prompt: object = self.prompt
        if not isinstance(prompt, str) or not prompt.strip():
            raise ConfigurationError(f"prompt must be a text to ask by, not {prompt!r}.")
        if type(self.max_tokens) is not int or self.max_tokens < 1:
            raise ConfigurationError(
                f"max_tokens must be an integer >= 1, not {self.max_tokens!r}."
            )

    def measure(self, request: VerifyRequest, desk: Desk) -> Script[Confidence]:
        """Ask how sure it is."""
        # As text: a call of a tool that nobody has answered yet would have to be answered first.
        said = AIMessage(answer_text(request.answer) or "(no answer)")
        messages = [*request.messages, said, HumanMessage(self.prompt)]
        bought = yield from desk.ask("edge", messages, options={"max_tokens": self.max_tokens})
        score = stated_share(bought.message.text)
        if score is None:
            return Confidence(None, "asked how sure it is, the model named no number")
        return Confidence(score, f"the model says it is {100 * score:g} % sure")


@dataclass(frozen=True, slots=True)
class AskMarker:
    """Whether the model asks for help, less P(it asks) as far as that is known: -1 to 1.

    An answer that ends with the marker of `answer_or_ask` has 0, another one 1. Where the provider
    sends log-probabilities with alternatives, the probability that the model gave to the marker
    where its answer begins is taken off. That tells answers apart, and requests for help, too; but
    none of these is ever above an answer, however unlikely it was. Within a graph alternatives are
    not kept, so that the marker itself decides.

    Args:
        alternatives: How many alternatives to each token the provider is asked for, 0 to 20.

    Raises:
        ConfigurationError: The number is out of its range.
    """

    alternatives: int = 5

    def __post_init__(self) -> None:
        if type(self.alternatives) is not int or not 0 <= self.alternatives <= 20:
            raise ConfigurationError(
                f"alternatives must be an integer in 0..20, not {self.alternatives!r}."
            )

    @property
    def reads_logprobs(self) -> bool:
        """Whether the edge model is to be asked for log-probabilities."""
        return self.alternatives > 0

    @property
    def reads_top_logprobs(self) -> int:
        """How many alternatives to each token it is to be asked for."""
        return self.alternatives

    def measure(self, request: VerifyRequest, desk: Desk) -> Script[Confidence]:
        """Look whether the answer asks, or might have."""
        del desk
        yield from ()
        asks = read_reply(request.answer.text).asks
        likely = _ask_probability(request.answer) or 0.0
        what = "asks for help" if asks else "answers"
        return Confidence((not asks) - likely, f"the model {what}; P(asking) {likely:.3f}")


def _ask_probability(answer: AIMessage) -> float | None:
    """Return the probability of the marker where the answer begins; `None` if nobody has said.

    The marker may be one token, or begin with the same "<" as the answer's tag: as long as what is
    written could become either, the next token decides.
    """
    given = answer.response_metadata.get("logprobs")
    content = given.get("content") if isinstance(given, Mapping) else None
    if not isinstance(content, Sequence) or not content:
        return None
    tokens = [one for one in content if isinstance(one, Mapping)]
    total, path, written, seen = 0.0, 1.0, "", False
    for token in _from_the_answer_on(tokens):
        for text, chance in _alternatives(token):
            if text and _is_marker(written + text):
                total += path * chance
        seen = seen or bool(token.get("top_logprobs"))
        written += str(token.get("token", ""))
        path *= _chance(token)
        if not _may_become_marker(written):
            break
    return min(1.0, total) if seen else None


def _from_the_answer_on(tokens: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Leave out the thinking, and the tag that ends it."""
    text, start = "", 0
    for place, token in enumerate(tokens):
        written = str(token.get("token", ""))
        text += written
        if written.strip() and text.rstrip().lower().endswith("</think>"):
            start = place + 1
    return tokens[start:]


def _alternatives(token: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield what might have been written here, with its probability; each text once."""
    own = {str(token.get("token", "")): _chance(token)}
    listed = token.get("top_logprobs")
    if isinstance(listed, Sequence):
        own |= {
            str(one.get("token", "")): _chance(one) for one in listed if isinstance(one, Mapping)
        }
    yield from own.items()


def _chance(token: Mapping[str, Any]) -> float:
    """Return the probability of a token; 0 if the provider did not say, or says what is none."""
    logprob = token.get("logprob")
    if isinstance(logprob, bool) or not isinstance(logprob, int | float):
        return 0.0
    return exp(logprob) if logprob <= 0 else float(logprob < _ROUNDING)


def _is_marker(text: str) -> bool:
    begun = text.lstrip().lower()
    return len(begun) > 1 and (begun.startswith(_OPENING) or _OPENING.startswith(begun))


def _may_become_marker(text: str) -> bool:
    return text.strip() in ("", "<")


_ROUNDING: Final = 1e-3  # of servers that compute in few digits: a probability just above 1
_OPENING: Final = ASK_MARKER.partition(">")[0].lower()


_SIGNALS: Final = {
    kind.__name__: kind for kind in (AskMarker, SampleAgreement, StatedConfidence, TokenProbability)
}


def signal_settings(signal: ConfidenceSignal) -> dict[str, Any]:
    """Write down which signal it is, with all arguments: scores of another one do not compare.

    A function in it is named, and so is a signal that is not of this package.

    Example:
        >>> signal_settings(SampleAgreement(samples=9))
        {'name': 'SampleAgreement', 'samples': 9, 'temperature': 0.7, 'extract': 'answer'}
    """
    kind = type(signal)
    if _SIGNALS.get(kind.__name__) is not kind:
        return {"name": _named(kind)}
    found: dict[str, Any] = {"name": kind.__name__}
    for one in fields(signal):  # type: ignore[arg-type]  # all of ours are dataclasses
        value = getattr(signal, one.name)
        found[one.name] = _named(value) if callable(value) else value
    return found


def signal_from_settings(settings: Mapping[str, Any]) -> ConfidenceSignal:
    """Make the signal that `signal_settings` wrote down.

    Raises:
        ConfigurationError: It is none of this package, or holds a function.

    Example:
        >>> signal_from_settings({"name": "SampleAgreement", "samples": 9}).samples
        9
    """
    arguments = dict(settings)
    name = arguments.pop("name", None)
    kind: Any = _SIGNALS.get(str(name))
    if kind is None:
        raise ConfigurationError(
            f"{name!r} is no signal of this package ({', '.join(_SIGNALS)}). If it is your own, "
            f"give it as signal=..."
        )
    try:
        found: ConfidenceSignal = kind(**arguments)
    except (ConfigurationError, TypeError) as error:
        raise ConfigurationError(
            f"The signal {name} cannot be made of {arguments!r} ({error}). If it holds a function, "
            f"give it as signal=..."
        ) from error
    return found


def _named(code: Any) -> str:
    return f"{code.__module__}:{getattr(code, '__qualname__', type(code).__qualname__)}"
