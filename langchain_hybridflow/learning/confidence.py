"""What a confidence is worth: P(right | score), and the score from which on an answer is kept.

A calibrator is fitted by `fit_confidence` and is plain data from then on: knots of a rising line,
or Platt's two numbers. It foresees with nothing but Python's own arithmetic, and is saved as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import exp
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias, cast, get_args

from langchain_hybridflow.errors import ArtifactError, ConfigurationError

__all__ = [
    "ConfidenceCalibrator",
    "ConfidencePoint",
    "IsotonicCurve",
    "Method",
    "OnMissing",
    "PlattCurve",
]

FORMAT: Final = "hybridflow-confidence"
VERSION: Final = 1
_MOST_BYTES: Final = 16_000_000
_MOST: Final = sys.float_info.max  # JSON has integers that are no float

Method: TypeAlias = Literal["isotonic", "platt"]
"""How scores become probabilities."""

OnMissing: TypeAlias = Literal["accept", "escalate"]
"""What happens to an answer of which nobody knows how sure the model was."""


@dataclass(frozen=True, slots=True)
class IsotonicCurve:
    """A line that never falls, straight between its knots and level beyond them.

    Args:
        scores: Of the knots, rising.
        probabilities: P(right) there, in 0..1, never falling.

    Raises:
        ConfigurationError: The knots make no such line.

    Example:
        >>> IsotonicCurve((0.25, 0.75), (0.5, 0.75)).at(0.5)
        0.625
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        scores, probabilities = _floats(self.scores), _floats(self.probabilities)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "probabilities", probabilities)
        if not scores or len(scores) != len(probabilities):
            raise ConfigurationError(
                f"A curve has a probability for each score, and one at least; got {len(scores)} "
                f"scores and {len(probabilities)} probabilities."
            )
        if any(a >= b for a, b in pairwise(scores)):
            raise ConfigurationError("The scores of a curve must rise from knot to knot.")
        if any(a > b for a, b in pairwise(probabilities)):
            raise ConfigurationError("The probabilities of a curve must not fall.")
        if not 0 <= probabilities[0] <= probabilities[-1] <= 1:
            raise ConfigurationError("The probabilities of a curve must be in 0..1.")

    def at(self, score: float) -> float:
        """Return P(right) at a score."""
        place = bisect_right(self.scores, score)
        if place == 0:
            return self.probabilities[0]
        if place == len(self.scores):
            return self.probabilities[-1]
        x0, x1 = self.scores[place - 1 : place + 1]
        y0, y1 = self.probabilities[place - 1 : place + 1]
        return min(y1, y0 + (y1 - y0) * ((score - x0) / (x1 - x0)))

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types."""
        return {"scores": list(self.scores), "probabilities": list(self.probabilities)}


@dataclass(frozen=True, slots=True)
class PlattCurve:
    """Platt's sigmoid: 1 / (1 + exp(-(slope * score + intercept))).

    Args:
        slope: 0 or more; 0 makes every answer as likely to be right as any other.
        intercept: The logit of P(right) at the score 0.

    Raises:
        ConfigurationError: The slope is negative, or a number is not finite.

    Example:
        >>> PlattCurve(4.0, -2.0).at(0.5)
        0.5
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        slope, intercept = _floats((self.slope, self.intercept))
        object.__setattr__(self, "slope", slope)
        object.__setattr__(self, "intercept", intercept)
        if slope < 0:
            raise ConfigurationError(f"The slope of a sigmoid must be 0 or more, not {slope!r}.")

    def at(self, score: float) -> float:
        """Return P(right) at a score."""
        logit = self.slope * score + self.intercept
        # Of the opposite of a large number: its own exponential would overflow.
        small = exp(-abs(logit))
        return 1 / (1 + small) if logit >= 0 else small / (1 + small)

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types."""
        return {"slope": self.slope, "intercept": self.intercept}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidencePoint:
    """Where an answer is kept: from which score on.

    P(right) rises with the score, so this is a threshold on it, too; but one that tells answers
    apart to which an isotonic curve gives the same probability.

    Attributes:
        min_score: An answer is kept if its score is at least this; `None` keeps all.
        cloud_share: Share of the runs it was chosen on that went to the cloud by it, 0 to 1.
        tied_cloud_share: Of the answers whose score is exactly `min_score`, this share goes to the
            cloud all the same; the lot is drawn from the text of the question.
    """

    min_score: float | None
    cloud_share: float
    tied_cloud_share: float = 0.0

    def __post_init__(self) -> None:
        (share, tied) = _floats((self.cloud_share, self.tied_cloud_share))
        if not (0 <= share <= 1 and 0 <= tied <= 1):
            raise ConfigurationError(f"Shares are in 0..1, got {share!r} and {tied!r}.")
        if self.min_score is not None:
            object.__setattr__(self, "min_score", _floats((self.min_score,))[0])

    def keeps(self, score: float, *, question: str = "") -> bool:
        """Whether an answer with this score is kept.

        Args:
            score: Of the answer.
            question: What was asked; the same one has the same lot every time.

        Example:
            >>> point = ConfidencePoint(min_score=0.6, cloud_share=0.25)
            >>> point.keeps(0.6), point.keeps(0.59)
            (True, False)
        """
        if self.min_score is None or score > self.min_score:
            return True
        if score < self.min_score:
            return False
        return self.tied_cloud_share == 0 or _lot(question) >= self.tied_cloud_share

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types."""
        return {
            "min_score": self.min_score,
            "cloud_share": self.cloud_share,
            "tied_cloud_share": self.tied_cloud_share,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceCalibrator:
    """What the scores of one signal, of one edge model, are worth.

    Attributes:
        curve: From a score to P(right).
        point: Which answers are kept.
        signal: The signal's settings, see `verify.signal_settings`; empty if nobody has said.
        on_missing: What happens to an answer without a score.
        facts: What it was fitted on and how well it does, for people: plain JSON.

    Raises:
        ConfigurationError: `on_missing` is neither "accept" nor "escalate".

    Example:
        >>> calibrator = ConfidenceCalibrator(
        ...     curve=PlattCurve(4.0, -2.0), point=ConfidencePoint(min_score=0.5, cloud_share=0.3)
        ... )
        >>> calibrator.probability(0.5), calibrator.keeps(0.4)
        (0.5, False)
        >>> ConfidenceCalibrator.from_json(calibrator.to_json()) == calibrator
        True
    """

    curve: IsotonicCurve | PlattCurve
    point: ConfidencePoint
    signal: Mapping[str, Any] = field(default_factory=dict)
    on_missing: OnMissing = "accept"
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.on_missing not in get_args(OnMissing):
            raise ConfigurationError(
                f"on_missing must be 'accept' or 'escalate', not {self.on_missing!r}."
            )

    @property
    def method(self) -> Method:
        """How scores become probabilities."""
        return "platt" if isinstance(self.curve, PlattCurve) else "isotonic"

    def probability(self, score: float) -> float:
        """Return P(right) of an answer with this score, 0 to 1."""
        return self.curve.at(score)

    def keeps(self, score: float | None, *, question: str = "") -> bool:
        """Whether an answer is kept; `None` is one without a score."""
        if score is None:
            return self.on_missing == "accept"
        return self.point.keeps(score, question=question)

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "signal": dict(self.signal),
            "method": self.method,
            "curve": self.curve.to_json(),
            "point": self.point.to_json(),
            "on_missing": self.on_missing,
            "facts": dict(self.facts),
        }

    @classmethod
    def from_json(cls, plain: object) -> Self:
        """Read what `to_json` has written.

        Raises:
            ArtifactError: It is no calibrator, or of another version; the message says what is
                wrong with it.
        """
        if not isinstance(plain, Mapping) or plain.get("format") != FORMAT:
            found = plain.get("format") if isinstance(plain, Mapping) else type(plain).__name__
            raise ArtifactError(
                f"This is no calibrator of confidences ({FORMAT}), but {found!r}. hybridflow "
                f"calibrate writes one."
            )
        if plain.get("version") != VERSION:
            raise ArtifactError(
                f"This calibrator is of version {plain.get('version')!r}, and version {VERSION} "
                f"can be read. Fit it anew with hybridflow calibrate."
            )
        try:
            return cls(
                curve=_curve(plain),
                point=ConfidencePoint(**_mapping(plain, "point")),
                signal=_mapping(plain, "signal"),
                on_missing=plain["on_missing"],
                facts=_mapping(plain, "facts"),
            )
        except (KeyError, TypeError, ValueError, ConfigurationError) as error:
            lacks = "it has no " if isinstance(error, KeyError) else ""
            raise ArtifactError(f"This calibrator cannot be used: {lacks}{error}") from error

    def save(self, path: str | Path) -> None:
        """Write it to a JSON file.

        Raises:
            ArtifactError: The file cannot be written.
        """
        text = json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ArtifactError(f"{path} cannot be written: {error.strerror or error}.") from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read it from a JSON file; needs neither scikit-learn nor NumPy.

        Raises:
            ArtifactError: The file cannot be read, or holds no calibrator.
        """
        try:
            with Path(path).open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
            plain = json.loads(content)
        except (OSError, RecursionError, ValueError) as error:
            raise ArtifactError(f"{path} cannot be read: {error}.") from error
        try:
            return cls.from_json(plain)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error


def _curve(plain: Mapping[str, Any]) -> IsotonicCurve | PlattCurve:
    given = _mapping(plain, "curve")
    if plain["method"] == "isotonic":
        return IsotonicCurve(tuple(given["scores"]), tuple(given["probabilities"]))
    if plain["method"] == "platt":
        return PlattCurve(given["slope"], given["intercept"])
    raise ConfigurationError(f"its method {plain['method']!r} is neither isotonic nor platt")


def _mapping(plain: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(plain[name], Mapping):
        raise ConfigurationError(f"its {name} is no object")
    return dict(plain[name])


def _floats(values: Sequence[object]) -> tuple[float, ...]:
    """Return numbers as floats; anything else, infinities included, is refused."""
    bad = [
        one
        for one in values
        if isinstance(one, bool) or not isinstance(one, int | float) or not abs(one) <= _MOST
    ]
    if bad:
        raise ConfigurationError(f"A finite number was expected, not {bad[0]!r}.")
    return tuple(float(one) for one in cast("Sequence[float]", values))


def _lot(question: str) -> float:
    """Draw a number in [0, 1) that is the same for the same question in every process."""
    digest = hashlib.blake2b(question.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
