"""How many answer tokens to reserve for a call: the most it can be, or what such calls use.

The strict estimate is the cap of the answer. It never lets a limit be passed, and it starves a
small budget: answers are mostly far shorter than their cap, so a few open calls hold all that is
left. A learned estimate holds a quantile of the lengths observed, and states what it risks.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite, log2
from typing import Any, Final, Protocol, runtime_checkable

from langchain_hybridflow.errors import ConfigurationError

__all__ = ["Estimator", "LearnedEstimate", "LengthHistogram", "StrictEstimate"]

_FORMAT: Final = 1
_BINS_PER_OCTAVE: Final = 8  # a bin is 9 % wide
_MOST_OBSERVATIONS: Final = 2_000  # from then on the older ones fade
_FEWEST_OBSERVATIONS: Final = 20
_LONGEST: Final = 2**40


@runtime_checkable
class Estimator(Protocol):
    """Says how many answer tokens are reserved for a call. Safe to share by threads."""

    def output_tokens(self, cap: int, *, tier: str, model: str, role: str | None = None) -> int:
        """Answer tokens to hold for one answer, at most `cap`.

        Args:
            cap: The longest that the answer can be, in tokens.
            tier: `"edge"` or `"cloud"`.
            model: Name of the model.
            role: Role of the subtask; `None` outside a plan.
        """
        ...

    def observe(
        self, output_tokens: int, *, tier: str, model: str, role: str | None = None
    ) -> None:
        """Learn how long an answer was, as counted by the provider."""
        ...


class StrictEstimate:
    """Reserve the longest answer that is possible: no limit is ever passed.

    Example:
        >>> StrictEstimate().output_tokens(1_024, tier="cloud", model="gpt-4.1")
        1024
    """

    def output_tokens(self, cap: int, *, tier: str, model: str, role: str | None = None) -> int:
        """Return the cap."""
        return cap

    def observe(
        self, output_tokens: int, *, tier: str, model: str, role: str | None = None
    ) -> None:
        """Learn nothing."""


@dataclass(frozen=True, slots=True)
class LengthHistogram:
    """Counts of answer lengths in bins that grow by 9 %; bounded, mergeable, plain JSON.

    Args:
        counts: Number of answers by bin; lengths of 0 and 1 are in bin 0.
    """

    counts: tuple[tuple[int, int], ...] = ()

    @property
    def total(self) -> int:
        """How many lengths are in it, the faded ones not counted."""
        return sum(count for _, count in self.counts)

    def with_length(self, tokens: int) -> LengthHistogram:
        """Return the histogram with one more answer; beyond 2,000 all older counts are halved.

        Example:
            >>> LengthHistogram().with_length(100).with_length(100).counts
            ((54, 2),)
        """
        return self.merged(LengthHistogram(((_bin_of(tokens), 1),)))

    def merged(self, other: LengthHistogram) -> LengthHistogram:
        """Return the counts of both together."""
        counts = dict(self.counts)
        for index, count in other.counts:
            counts[index] = counts.get(index, 0) + count
        while sum(counts.values()) > _MOST_OBSERVATIONS:
            counts = _halved(counts)
        return LengthHistogram(tuple(sorted(counts.items())))

    def bound(self, quantile: float) -> int | None:
        """A length that the next answer passes with a probability of at most 1 - `quantile`.

        That is the k-th shortest of n observed, k = ceil(quantile * (n + 1)), rounded up to the end
        of its bin. It holds for any distribution, if the next answer is drawn like the others.

        Returns:
            Tokens; `None` if there are too few observations to say so.
        """
        rank = ceil(quantile * (self.total + 1))
        for index, count in self.counts:
            rank -= count
            if rank <= 0:
                return int(2 ** (index / _BINS_PER_OCTAVE))
        return None


def _halved(counts: Mapping[int, int]) -> dict[int, int]:
    """Half as many observations with the same quantiles: it is the sums that are halved.

    Summed from the longest on and rounded up, so that the tail is never made lighter.
    """
    halved, longer, kept = {}, 0, 0
    for index in sorted(counts, reverse=True):
        longer += counts[index]
        count = -(-longer // 2) - kept
        if count:
            halved[index] = count
            kept += count
    return halved


def _bin_of(tokens: int) -> int:
    """The bin whose end is the first at or above a length."""
    index = max(0, ceil(log2(min(max(tokens, 1), _LONGEST)) * _BINS_PER_OCTAVE))
    # The end of a bin is rounded down to whole tokens, which may be one too few.
    return index if int(2 ** (index / _BINS_PER_OCTAVE)) >= min(tokens, _LONGEST) else index + 1


class LearnedEstimate:
    """Reserve a quantile of the answer lengths that were observed, by role, tier and model.

    What is risked: a call passes its reservation with a probability of at most 1 - `quantile`, and
    then by at most its cap less the reservation. So with k calls open at once a limit is
    passed by at most k times that, and on average by at most (1 - `quantile`) * k times that.
    What a call costs beyond its reservation is booked as overdraft, and nothing more is granted
    until the window ends or the limit is raised. The prompt is always reserved in full, and the
    answer's cap is still sent to the model.

    Until there are enough observations for such a promise (20 for a quantile of 0.95) the
    estimate is strict. Few of one role: all roles of that model count.

    Args:
        quantile: Above 0 and below 1.
        learnt: What `to_dict` returned, of this process or another one.

    Raises:
        ConfigurationError: If the quantile is not between 0 and 1, or `learnt` is not what
            `to_dict` returns.

    Example:
        >>> estimate = LearnedEstimate(quantile=0.9)
        >>> for tokens in range(100, 130):
        ...     estimate.observe(tokens, tier="cloud", model="gpt-4.1", role="analyze")
        >>> estimate.output_tokens(1_024, tier="cloud", model="gpt-4.1", role="analyze")
        128
        >>> estimate.output_tokens(1_024, tier="edge", model="llama3.2")
        1024
    """

    def __init__(self, quantile: float = 0.95, *, learnt: Mapping[str, Any] | None = None) -> None:
        if isinstance(quantile, bool) or not isinstance(quantile, int | float):
            raise ConfigurationError(f"quantile must be a number, not {quantile!r}.")
        if not isfinite(quantile) or not 0 < quantile < 1:
            raise ConfigurationError(f"quantile must be above 0 and below 1, not {quantile!r}.")
        self.quantile = float(quantile)
        self._lock = threading.Lock()
        self._lengths: dict[tuple[str, str, str], LengthHistogram] = {}
        if learnt is not None:
            self.merge(learnt)

    def output_tokens(self, cap: int, *, tier: str, model: str, role: str | None = None) -> int:
        """Return the quantile, or the cap while too little is known or if that is less."""
        with self._lock:
            for key in ((tier, model, role or ""), (tier, model, "")):
                lengths = self._lengths.get(key)
                if lengths is None or lengths.total < _FEWEST_OBSERVATIONS:
                    continue
                bound = lengths.bound(self.quantile)
                if bound is not None:
                    return min(cap, bound)
        return cap

    def observe(
        self, output_tokens: int, *, tier: str, model: str, role: str | None = None
    ) -> None:
        """Learn how long an answer was."""
        with self._lock:
            for key in {(tier, model, role or ""), (tier, model, "")}:
                lengths = self._lengths.get(key, LengthHistogram())
                self._lengths[key] = lengths.with_length(output_tokens)

    def merge(self, learnt: Mapping[str, Any]) -> None:
        """Add what `to_dict` returned in another process.

        Raises:
            ConfigurationError: If it is something else; nothing is added then.
        """
        read = _read(learnt)
        with self._lock:
            for key, lengths in read.items():
                self._lengths[key] = self._lengths.get(key, LengthHistogram()).merged(lengths)

    def to_dict(self) -> dict[str, Any]:
        """Return what was learnt as plain JSON."""
        with self._lock:
            rows = [
                {"tier": tier, "model": model, "role": role, "counts": list(map(list, it.counts))}
                for (tier, model, role), it in sorted(self._lengths.items())
            ]
        return {"format": _FORMAT, "lengths": rows}

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel with what was learnt; the copy learns on its own."""
        return _learnt_again, (type(self), self.quantile, self.to_dict())


def _learnt_again(
    kind: type[LearnedEstimate], quantile: float, learnt: dict[str, Any]
) -> LearnedEstimate:
    return kind(quantile, learnt=learnt)


def _read(learnt: Mapping[str, Any]) -> dict[tuple[str, str, str], LengthHistogram]:
    try:
        if learnt["format"] != _FORMAT:
            raise ValueError(f"its format is {learnt['format']!r}, not {_FORMAT}")
        return {
            (str(row["tier"]), str(row["model"]), str(row["role"])): _histogram(row["counts"])
            for row in learnt["lengths"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"Learnt answer lengths cannot be read ({type(error).__name__}: {error}). They must be "
            f"what LearnedEstimate.to_dict() returned."
        ) from error


def _histogram(counts: Sequence[Sequence[int]]) -> LengthHistogram:
    for index, count in counts:
        if type(index) is not int or type(count) is not int or index < 0 or count < 1:
            raise ValueError(f"{[index, count]!r} is no bin and its count")
    return LengthHistogram().merged(LengthHistogram(tuple((i, n) for i, n in counts)))
