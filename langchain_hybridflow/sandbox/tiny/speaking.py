"""From scores to text: tokens are drawn one by one, and said once they are certain to stay."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langchain_hybridflow.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_hybridflow.sandbox.tiny.runtime import Floats, TinyLlama

__all__ = ["Drawing", "Said", "Token", "Utterance", "draw"]


@dataclass(frozen=True, slots=True)
class Token:
    """A token that a model has chosen.

    Args:
        text: What it adds to the text.
        logprob: The natural logarithm of its probability at temperature 1, among the tokens that
            were allowed.
        likeliest: The most likely tokens in its place with theirs, if they were asked for.
    """

    text: str
    logprob: float = 0.0
    likeliest: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How tokens are drawn.

    Args:
        temperature: 0 always takes the most likely token.
        seed: What the draws depend on; `None` draws anew each time.
        banned: Tokens that are never drawn.
        top: How many of the likeliest tokens are told with each.

    Raises:
        ConfigurationError: The temperature is negative or no number, or `top` is negative.
    """

    temperature: float = 0.0
    seed: str | None = None
    banned: Collection[int] = ()
    top: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ConfigurationError(f"temperature is {self.temperature!r}; it must be >= 0.")
        if self.top < 0:
            raise ConfigurationError(f"top_logprobs is {self.top}; it must be >= 0.")


def draw(model: TinyLlama, prompt: Sequence[int], how: Drawing) -> Iterator[Token]:
    """Yield what a model says after `prompt`, up to its own end or that of its context."""
    import numpy as np

    rng = random.Random(how.seed)
    banned = list(how.banned)
    ids, cache = list(prompt), None
    for _ in range(model.context - len(prompt)):
        scores, cache = model.read(ids, cache)
        logits = scores[-1].astype(np.float64)
        logits[banned] = -np.inf
        logprobs = logits - logits.max()
        logprobs -= np.log(np.exp(logprobs).sum())
        chosen = _choose(logprobs, how.temperature, rng)
        if chosen == model.eos_id:
            return
        best = np.argsort(-logprobs, kind="stable")[: how.top].tolist() if how.top else ()
        yield Token(
            model.pieces[chosen],
            float(logprobs[chosen]),
            tuple((model.pieces[one], float(logprobs[one])) for one in best),
        )
        ids = [chosen]


def _choose(logprobs: Floats, temperature: float, rng: random.Random) -> int:
    import numpy as np

    best = int(logprobs.argmax())
    if temperature == 0:
        return best
    # The best one has log-probability 0 here: however low the temperature, nothing overflows.
    shares = np.exp((logprobs - logprobs[best]) / temperature).cumsum()
    chosen = int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))
    return min(chosen, len(shares) - 1)


@dataclass(frozen=True, slots=True)
class Said:
    """A part of an answer, and the tokens that it is made of."""

    text: str
    tokens: tuple[Token, ...]


@dataclass(slots=True)
class Utterance:
    """An answer while it is being given. No more of it is generated than is asked for.

    Args:
        tokens: Where it comes from.
        stop: Texts that end it, and are not part of it.
        limit: The longest answer, in tokens.

    Attributes:
        drawn: Tokens so far, said or not.
        finish_reason: `stop`, or `length` if it was cut off; empty while it is not at its end.

    Example:
        >>> words = map(Token, ("One", " two", " t", "hree"))
        >>> said = Utterance(words, stop=(" three",), limit=9)
        >>> said.rest().text, said.finish_reason, said.drawn
        ('One two', 'stop', 4)
    """

    tokens: Iterator[Token]
    stop: Sequence[str] = ()
    limit: int | None = None
    drawn: int = 0
    finish_reason: str = ""
    _held: list[Token] = field(default_factory=list)

    def step(self) -> Said | None:
        """Go on by a token; return what can be said by now, `None` at the end."""
        if self.finish_reason:
            return None
        if self.limit is not None and self.drawn >= self.limit:
            return self._end("length")
        token = next(self.tokens, None)
        if token is None:
            return self._end("stop")
        self.drawn += 1
        self._held.append(token)
        text = "".join(one.text for one in self._held)
        cuts = [text.index(mark) for mark in self.stop if mark and mark in text]
        if cuts:
            return self._end("stop", cut=min(cuts))
        return self._say(len(text) - self._begun(text))

    def rest(self) -> Said:
        """Go on to the end; return all that was not said before."""
        parts: list[Said] = []
        while (part := self.step()) is not None:
            parts.append(part)
        tokens = tuple(token for part in parts for token in part.tokens)
        return Said("".join(part.text for part in parts), tokens)

    def _begun(self, text: str) -> int:
        """Return how many characters at the end of `text` may become a stop text."""
        longest = max((len(mark) - 1 for mark in self.stop), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(mark.startswith(text[-length:]) for mark in self.stop):
                return length
        return 0

    def _say(self, chars: int) -> Said:
        """Say the tokens that lie within the first `chars` characters of what is held."""
        said: list[Token] = []
        while self._held and len(self._held[0].text) <= chars:
            chars -= len(self._held[0].text)
            said.append(self._held.pop(0))
        return Said("".join(token.text for token in said), tuple(said))

    def _end(self, reason: str, cut: int | None = None) -> Said:
        self.finish_reason = reason
        held, self._held = self._held, []
        text = "".join(token.text for token in held)[:cut]
        ends, tokens = 0, []
        for token in held:
            if ends < len(text):
                tokens.append(token)
            ends += len(token.text)
        return Said(text, tuple(tokens))
