r"""Whether an answer is right: one question, put alike to the model that is trained and the cloud.

| name | right is |
|---|---|
| `exact`, `numeric`, `choice`, `json`, `sandbox` | what scores 1 in `profiling.scoring` |
| `math` | what equals the reference, by the library math-verify (extra `rl`) |
| `json:schema.json` | what the JSON schema admits; `json-schema`: the one in the column `schema` |
| `tests` | what passes the unit tests in the column `tests`, see `unit_tests` |
| `module:function` | what a function `(item, answer) -> bool | float | None` says |

There are three findings. `correct` and `wrong` are about the answer; `unverified` is about the
verifier: there is no reference, tests that do not compile, a comparison that took too long. A
response that could not be verified carries no signal, and is left out of its group.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from langchain_hybridflow.answer_or_ask import read_reply
from langchain_hybridflow.errors import ConfigurationError, MissingExtraError
from langchain_hybridflow.posttrain.ruling import AnswerVerifier, Ruling
from langchain_hybridflow.posttrain.unit_tests import UnitTestVerifier
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.profiling.scoring import (
    CallableScorer,
    JsonScorer,
    Scorer,
    scorer_named,
)

__all__ = [
    "VERIFIERS",
    "JsonSchemaVerifier",
    "MathVerifier",
    "ScorerVerifier",
    "rule_on",
    "verifier_of",
    "whole_answer",
]

VERIFIERS: Final = ("exact", "numeric", "math", "choice", "json", "json-schema", "tests", "sandbox")
"""The verifiers that can be chosen by name; `module:function` is your own."""


@dataclass(frozen=True, slots=True)
class ScorerVerifier:
    """Any scorer of `profiling.scoring` as a verifier.

    Args:
        scorer: The scorer. What it gives no score is unverified.
        least: The lowest score that is right.

    Example:
        >>> verifier = verifier_of("numeric")
        >>> verifier.verify(Item(id="1", question="?", reference="1/2"), "0.5").status
        'correct'
    """

    scorer: Scorer
    least: float = 1.0

    @property
    def name(self) -> str:
        """What the scorer is called."""
        return self.scorer.name

    def verify(self, item: Item, answer: str) -> Ruling:
        """Let the scorer score."""
        if self.scorer.needs_reference and item.reference is None:
            return Ruling("unverified", "there is no reference")
        score = self.scorer.score(item, answer)
        if score.value is None:
            return Ruling("unverified", score.reason)
        return Ruling("correct" if score.value >= self.least else "wrong", score.reason)


@dataclass(frozen=True, slots=True)
class MathVerifier:
    r"""Whether an answer equals the reference as mathematics: 1/2, 0.5 and \frac{1}{2} are one.

    It needs the library math-verify, of the extra `rl`. Time is limited in the main thread only:
    the library's clock is a signal.

    Args:
        timeout_s: Longest time for reading, and for comparing, in whole seconds.

    Raises:
        MissingExtraError: math-verify is not installed; when it is first used.
    """

    timeout_s: int = 5

    @property
    def name(self) -> str:
        """What it is called."""
        return "math"

    def verify(self, item: Item, answer: str) -> Ruling:
        """Compare."""
        try:
            import math_verify
            from math_verify.errors import TimeoutException
        except ImportError as error:
            raise MissingExtraError("The verifier math", "rl") from error
        limit = self.timeout_s if threading.current_thread() is threading.main_thread() else None
        given = item.reference if isinstance(item.reference, list) else [item.reference]
        try:
            right = [_read_math(_as_math(str(one)), limit) for one in given if one is not None]
            if not any(right):
                return Ruling("unverified", "there is no mathematics in the reference")
            found = _read_math(answer, limit) or _read_math(_as_math(answer), limit)
            if not found:
                return Ruling("wrong", "there is no mathematics in it")
            same = any(
                math_verify.verify(one, found, timeout_seconds=limit, raise_on_error=True)
                for one in right
                if one
            )
        except TimeoutException:
            return Ruling("unverified", f"the comparison took longer than {self.timeout_s} s")
        return Ruling("correct" if same else "wrong")


def _read_math(text: str, limit: int | None) -> list[Any]:
    """Read mathematics; what takes too long is an error, not a text without any."""
    import math_verify

    return list(math_verify.parse(text, parsing_timeout=limit, raise_on_error=True))


def _as_math(text: str) -> str:
    """Set a bare expression in dollars: the library reads LaTeX only where it is marked."""
    return text if "$" in text or "\\boxed" in text else f"${text}$"


@dataclass(frozen=True, slots=True)
class JsonSchemaVerifier:
    """Whether an answer is JSON that a schema admits, each prompt with a schema of its own.

    Args:
        column: The column of the data that holds the schema, as an object or as JSON text.
    """

    column: str = "schema"
    _known: dict[str, JsonScorer] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """What it is called."""
        return "json-schema"

    def verify(self, item: Item, answer: str) -> Ruling:
        """Check."""
        schema = item.extra.get(self.column)
        if schema is None:
            return Ruling("unverified", f"the column {self.column} is empty")
        text = schema if isinstance(schema, str) else json.dumps(schema, sort_keys=True)
        if text not in self._known:
            try:
                self._known[text] = JsonScorer(json.loads(text))
            except (ValueError, TypeError, ConfigurationError) as error:
                return Ruling("unverified", f"the schema is none: {error}")
        return ScorerVerifier(self._known[text]).verify(item, answer)


def verifier_of(
    chosen: str | AnswerVerifier | Scorer | Callable[[Item, str], Any],
) -> AnswerVerifier:
    """Return a verifier: by its name, of a scorer, or of a function `(item, answer)`.

    A function returns a bool, a number from 0 (1 is right), a `Ruling`, or `None` if it cannot say.

    Raises:
        ConfigurationError: There is none of that name.

    Example:
        >>> short = verifier_of(lambda item, answer: len(answer) < 10)
        >>> short.verify(Item(id="1", question="?"), "yes").status
        'correct'
    """
    if isinstance(chosen, str):
        own: dict[str, Callable[[], AnswerVerifier]] = {
            "math": MathVerifier,
            "tests": UnitTestVerifier,
            "json-schema": JsonSchemaVerifier,
        }
        return own[chosen]() if chosen in own else ScorerVerifier(_scorer(chosen))
    if isinstance(chosen, AnswerVerifier):
        return chosen
    if isinstance(chosen, Scorer):
        return ScorerVerifier(chosen)
    if callable(chosen):
        name = getattr(chosen, "__name__", type(chosen).__name__)
        return FunctionVerifier(chosen, name)
    raise ConfigurationError(
        f"A verifier is one of {', '.join(VERIFIERS)}, module:function, or a function "
        f"(item, answer) -> bool; not {chosen!r}."
    )


@dataclass(frozen=True, slots=True)
class FunctionVerifier:
    """A function of the user's own as a verifier; see `verifier_of`."""

    function: Callable[[Item, str], Any]
    name: str

    def verify(self, item: Item, answer: str) -> Ruling:
        """Ask the function."""
        found = self.function(item, answer)
        if isinstance(found, Ruling):
            return found
        scorer = CallableScorer(lambda *_: found, self.name)
        return ScorerVerifier(scorer).verify(item, answer)


def _scorer(name: str) -> Scorer:
    try:
        return scorer_named(name)
    except ConfigurationError as error:
        if ":" in name:
            raise
        raise ConfigurationError(
            f"There is no verifier {name!r}. Choose {', '.join(VERIFIERS)}, or module:function "
            f"for one of your own."
        ) from error


def whole_answer(text: str) -> str:
    """Return what a cloud model's text gives as its answer: what is tagged as one, else all of it.

    Example:
        >>> whole_answer("<think>6 * 7</think><answer>42</answer>"), whole_answer("Answer: 42")
        ('42', 'Answer: 42')
    """
    return read_reply(text).answer or text


def rule_on(
    verifier: AnswerVerifier,
    answers: Sequence[tuple[Item, str | None]],
    *,
    threads: int = 1,
) -> list[Ruling]:
    """Let a verifier rule on answers; what it raises makes an answer unverified.

    No answer at all is wrong. The same answer to the same item is verified once.

    Args:
        verifier: Who rules.
        answers: Each with its item; `None` is no answer.
        threads: How many work at once; 1 is this thread, where the clock of `math` runs.

    Raises:
        MissingExtraError: The verifier is not installed.
    """
    keys = [(one.id, one.question, repr((one.reference, one.extra)), text) for one, text in answers]
    distinct = dict(zip(keys, answers, strict=True))

    def one(pair: tuple[Item, str | None]) -> Ruling:
        return _rule(verifier, *pair)

    if threads == 1 or len(distinct) == 1:
        found: Iterable[Ruling] = [one(pair) for pair in distinct.values()]
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="hybridflow-verify") as pool:
            found = list(pool.map(one, distinct.values()))
    known = dict(zip(distinct, found, strict=True))
    return [known[key] for key in keys]


def _rule(verifier: AnswerVerifier, item: Item, answer: str | None) -> Ruling:
    if answer is None or not answer.strip():
        return Ruling("wrong", "there is no answer")
    try:
        return verifier.verify(item, answer)
    except MissingExtraError:
        raise
    except Exception as error:  # noqa: BLE001 - a verifier that fails has found nothing out
        return Ruling("unverified", f"{verifier.name} failed: {type(error).__name__}: {error}")
