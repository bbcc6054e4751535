"""What the default router has learnt: numbers that add up to what it foresees.

For a subtask of a plan the planner's difficulty decides alone; for any other text

    gain = base + words + surface

with `surface` the sum of six bounded facts, and `words` the sum of the weights of the known words
over sqrt(words + damping), kept within a bound. So no text, however made up, moves the gain by more
than `Weights.reach`, a word by no more than `Weights.word_reach`, and saying it twice by nothing.
The same sums, with weights of their own, give P(edge right).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from operator import gt
from typing import NamedTuple

from langchain_hybridflow.routing.default.reading import SURFACE_NAMES, Reading, read, word_key
from langchain_hybridflow.routing.prediction import Prediction
from langchain_hybridflow.routing.types import RouteRequest

__all__ = ["Pair", "Parts", "Weights"]

_STANDS_OUT = 0.01


class Pair(NamedTuple):
    """An amount of the gain, and one of P(edge right)."""

    gain: float
    edge: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a gain is made of.

    Attributes:
        start: The gain before anything is known of the text.
        words: What its words add; of each known word in `by_word`.
        surface: What each of the facts named in `SURFACE_NAMES` adds.
        above: Whether the text has more of that fact than is usual.
        edge: P(edge right) in all.
        by_word: What each known word adds, before the bound.
    """

    start: float
    words: float
    surface: tuple[float, ...]
    above: tuple[bool, ...]
    edge: float
    by_word: Mapping[str, float] = field(default_factory=dict)

    @property
    def gain(self) -> float:
        """The whole gain, -1 to 1."""
        return min(max(self.start + self.words + sum(self.surface), -1.0), 1.0)

    @property
    def why(self) -> str:
        """What stands out, in words that are never those of the text."""
        facts = zip(SURFACE_NAMES, self.surface, self.above, strict=True)
        named = [("its words", self.words)]
        named += [(name, amount) for name, amount, above in facts if above]
        named.sort(key=lambda part: -abs(part[1]))
        up = ", ".join(name for name, amount in named if amount >= _STANDS_OUT)
        down = ", ".join(name for name, amount in named if amount <= -_STANDS_OUT)
        said = [f"for the cloud: {up}"] * bool(up) + [f"against: {down}"] * bool(down)
        return f"the text ({'; '.join(said) or 'nothing stands out'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The numbers; see the module.

    Attributes:
        base: What is foreseen of a text that is average in all facts and has no known words.
        words: By hash, see `word_key`.
        surface: Of the facts that `SURFACE_NAMES` names, in that order.
        means: Their averages: a fact counts by how far it is from usual.
        difficulty: What is foreseen of a subtask of difficulty 1 to 9.
        damping: Words that count as unknown in every text, so that a short one says little.
        bound: The most that all words together add or take away.
    """

    base: Pair
    words: Mapping[int, Pair] = field(repr=False)
    surface: tuple[Pair, ...]
    means: tuple[float, ...]
    difficulty: tuple[Pair, ...]
    damping: float
    bound: Pair

    @property
    def word_reach(self) -> float:
        """The most by which one more word can change what the words add to the gain."""
        largest = max((abs(pair.gain) for pair in self.words.values()), default=0.0)
        # It adds its own weight, and dilutes that of the others.
        diluted = self.bound.gain * (1 - sqrt(self.damping / (1 + self.damping)))
        return largest / sqrt(1 + self.damping) + diluted

    @property
    def reach(self) -> float:
        """The most that two texts can differ in gain."""
        return 2 * self.bound.gain + sum(abs(pair.gain) for pair in self.surface)

    def foresee(self, request: RouteRequest) -> Prediction:
        """Foresee a call: by the planner's difficulty if there is one, else by the text."""
        level = request.difficulty
        if level is not None:
            pair = self.difficulty[min(max(level, 1), len(self.difficulty)) - 1]
            return _prediction(pair.gain, pair.edge, f"planned difficulty {level}")
        parts = self.parts(read(request.text))
        return _prediction(parts.gain, parts.edge, parts.why)

    def parts(self, reading: Reading, *, by_word: bool = False) -> Parts:
        """Return what the gain of a text is made of; by word, too, if that is asked for."""
        known = self.words
        found = {word: known.get(word_key(word)) for word in reading.words}
        gain = edge = 0.0
        for pair in found.values():
            if pair is not None:
                gain += pair.gain
                edge += pair.edge
        scale = 1 / sqrt(len(reading.words) + self.damping)
        surface = []
        edge = self.base.edge + _within(edge * scale, self.bound.edge)
        for weight, value, mean in zip(self.surface, reading.surface, self.means, strict=True):
            surface.append(weight.gain * (value - mean))
            edge += weight.edge * (value - mean)
        return Parts(
            start=self.base.gain,
            words=_within(gain * scale, self.bound.gain),
            surface=tuple(surface),
            above=tuple(map(gt, reading.surface, self.means)),
            edge=edge,
            by_word={word: pair.gain * scale for word, pair in found.items() if pair}
            if by_word
            else {},
        )


def _within(value: float, bound: float) -> float:
    return min(max(value, -bound), bound)


def _prediction(gain: float, edge: float, why: str) -> Prediction:
    """Let both probabilities be in 0 to 1 and differ by the gain."""
    edge = min(max(edge, 0.0, -gain), 1.0, 1.0 - gain)
    return Prediction(edge_quality=edge, cloud_quality=min(max(edge + gain, 0.0), 1.0), why=why)
