r"""Whether an answer is right: scorers for texts, numbers, letters, JSON, and anything callable.

A scorer distinguishes three things. An answer that is there and wrong has the score 0. One that
gives nothing of the kind that was asked for, no number or no letter, has the score 0 and
`no_answer`. What the *scorer* cannot decide - there is no reference, or the answer names two
letters - has no score: a missing value, counted as such, and never taken for wrong.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Any, Final, Protocol, runtime_checkable

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.profiling._json_values import (
    json_in,
    json_of,
    read_schema,
    same_json,
    schema_check,
)
from langchain_hybridflow.profiling._letters import letter_meant, letters_in
from langchain_hybridflow.profiling._numbers import decimal_of, last_number, stated_number
from langchain_hybridflow.profiling._texts import accepted, brief, plain, text_of
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.sandbox.answers import extract_answer, matches
from langchain_hybridflow.sandbox.countdown import is_reached
from langchain_hybridflow.sandbox.language import format_value, parse_date

__all__ = [
    "SCORERS",
    "CallableScorer",
    "ChoiceScorer",
    "ExactScorer",
    "JsonScorer",
    "NumericScorer",
    "SandboxScorer",
    "Score",
    "Scorer",
    "scorer_named",
]


@dataclass(frozen=True, slots=True)
class Score:
    """What a scorer says of an answer.

    Args:
        value: 0 (wrong) to 1 (right); `None` if it cannot be decided.
        reason: Why, in words.
        no_answer: Whether the answer gives nothing that could be right.

    Raises:
        ConfigurationError: The value is not from 0 to 1.
    """

    value: float | None
    reason: str = ""
    no_answer: bool = False

    def __post_init__(self) -> None:
        if self.value is not None and not (isfinite(self.value) and 0 <= self.value <= 1):
            raise ConfigurationError(f"A score is from 0 to 1 or None, not {self.value!r}.")


@runtime_checkable
class Scorer(Protocol):
    """Scores an answer; must be safe to call from several threads at once.

    A scorer that asks models itself has a method `grade`, see `profiling.judging`.
    """

    @property
    def name(self) -> str:
        """What it is called in the records, with whatever makes its scores differ."""
        ...

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with a right answer."""
        ...

    def score(self, item: Item, answer: str) -> Score:
        """Score an answer that is not empty, to an item that has a reference if it needs one.

        Whatever it raises makes the answer one that could not be scored.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExactScorer:
    r"""The text that the reference is, apart from case, spaces, quotes and markup around it.

    Of an answer with reasoning, what stands behind its last `Answer:` (or in its last `\boxed{}`)
    counts. A reference that is a list holds all texts that are right.

    Example:
        >>> item = Item(id="1", question="Capital of France?", reference="Paris")
        >>> ExactScorer().score(item, "It has been for long. Answer: **paris**.").value
        1.0
    """

    @property
    def name(self) -> str:
        """What it is called in the records."""
        return "exact"

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with a right answer."""
        return True

    def score(self, item: Item, answer: str) -> Score:
        """Compare the texts."""
        given = {plain(answer), plain(extract_answer(answer) or "")} - {""}
        right = {plain(text_of(one)) for one in accepted(item.reference)} - {""}
        if not right:
            return Score(None, "the reference is empty")
        if not given:
            return Score(0.0, "there are only signs in it", no_answer=True)
        return Score(float(bool(given & right)))


@dataclass(frozen=True, slots=True)
class NumericScorer:
    r"""The number that the reference is: `Answer: ...`, `\boxed{...}`, or the last one there is.

    Reads signs, thousands separators (1,250 or 1 250), decimals, exponents, fractions (3/4,
    \frac{3}{4}) and per cent. 12 % equals 12 and 0.12 alike: which is meant, questions leave open.

    Args:
        tolerance: Largest relative difference, and largest absolute one where the reference is 0.

    Raises:
        ConfigurationError: The tolerance is negative or not finite.

    Example:
        >>> item = Item(id="1", question="?", reference=1250)
        >>> NumericScorer().score(item, "10 of 125 each. That makes 1,250.00 euros.").value
        1.0
    """

    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if not (isfinite(self.tolerance) and self.tolerance >= 0):
            raise ConfigurationError(f"tolerance must be >= 0 and finite, not {self.tolerance!r}.")

    @property
    def name(self) -> str:
        """What it is called in the records."""
        return "numeric" if self.tolerance == 1e-4 else f"numeric:{self.tolerance:g}"

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with a right answer."""
        return True

    def score(self, item: Item, answer: str) -> Score:
        """Compare the numbers."""
        right = [value for one in accepted(item.reference) for value in last_number(text_of(one))]
        if not right:
            return Score(None, "there is no number in the reference")
        given = stated_number(extract_answer(answer) or "") or last_number(answer)
        if not given:
            return Score(0.0, "there is no number in it", no_answer=True)
        same = any(self._equal(one, other) for one in given for other in right)
        return Score(float(same))

    def _equal(self, given: Decimal, right: Decimal) -> bool:
        return abs(given - right) <= Decimal(repr(self.tolerance)) * (abs(right) or 1)


@dataclass(frozen=True, slots=True)
class ChoiceScorer:
    """The letter of the right choice.

    Reads "The answer is (C)", "Answer: c", "**C**", "C) because ..." and a lone letter; the last
    clear statement counts. The reference is a letter, the text of a choice, or its number counted
    from 0. An answer that names more than one letter, and says of none that it is the answer, is
    not scored.

    Example:
        >>> item = Item(id="1", question="?", reference="C", choices=dict(zip("ABC", "xyz")))
        >>> ChoiceScorer().score(item, "A is too small. The answer is (C).").value
        1.0
        >>> ChoiceScorer().score(item, "A or C").value is None
        True
    """

    @property
    def name(self) -> str:
        """What it is called in the records."""
        return "choice"

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with a right answer."""
        return True

    def score(self, item: Item, answer: str) -> Score:
        """Compare the letters."""
        right = {letter_meant(one, item) for one in accepted(item.reference)} - {None}
        if not right:
            return Score(None, f"the reference {brief(text_of(item.reference))!r} is no choice")
        found = letters_in(answer, item)
        if len(found) > 1:
            return Score(None, f"it names {' and '.join(sorted(found))}")
        if not found:
            return Score(0.0, "it names no choice", no_answer=True)
        return Score(float(bool(found & right)))


@dataclass(frozen=True)
class JsonScorer:
    """The JSON value that the reference is, or one that a JSON schema admits.

    The answer's last value in a code fence counts, or else the whole answer, or else its last
    object or list. Numbers are equal by value; the order of keys does not count.

    Args:
        schema: A JSON schema that the answer must meet; without a reference that is all that is
            asked. It needs the package `jsonschema`.

    Raises:
        ConfigurationError: The schema is none.
        MissingExtraError: `jsonschema` is not installed.

    Example:
        >>> item = Item(id="1", question="?", reference='{"n": 1, "of": ["x"]}')
        >>> JsonScorer().score(item, 'Here it is: {"of": ["x"], "n": 1.0}').value
        1.0
    """

    schema: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.schema is not None:
            object.__setattr__(self, "_check", schema_check(self.schema))

    @property
    def name(self) -> str:
        """What it is called in the records."""
        return "json" if self.schema is None else f"json:{json.dumps(self.schema, sort_keys=True)}"

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with a right answer."""
        return self.schema is None

    def score(self, item: Item, answer: str) -> Score:
        """Compare the values."""
        found, given = json_in(answer)
        if not found:
            return Score(0.0, "there is no JSON in it", no_answer=True)
        if self.schema is not None:
            fault = self._check(given)  # type: ignore[attr-defined]
            if fault:
                return Score(0.0, fault)
            if item.reference is None:
                return Score(1.0)
        return Score(float(same_json(given, json_of(item.reference))))


@dataclass(frozen=True, slots=True)
class CallableScorer:
    """A function of the user's own: `(item, answer) -> bool | float | None`.

    Args:
        function: Is given the `Item` and the text of the answer.
        name: What it is called in the records.

    Example:
        >>> short = CallableScorer(lambda item, answer: len(answer) < 10, name="short")
        >>> short.score(Item(id="1", question="?"), "yes").value
        1.0
    """

    function: Callable[[Item, str], bool | float | None]
    name: str

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with a right answer: nobody knows, so nothing is required."""
        return False

    def score(self, item: Item, answer: str) -> Score:
        """Ask the function."""
        found: Any = self.function(item, answer)
        if isinstance(found, Score):
            return found
        found = getattr(found, "item", lambda: found)()  # NumPy's scalars
        if found is None:
            return Score(None, f"{self.name} cannot say")
        if not isinstance(found, bool | int | float):
            raise TypeError(f"{self.name} returns a bool, a number or None, got {found!r}")
        return Score(float(found))

    @classmethod
    def load(cls, path: str) -> CallableScorer:
        """Import a function by `module:function`; the current directory is looked into, too.

        Raises:
            ConfigurationError: There is no such function.
        """
        module, _, name = path.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError(
                f"The scorer {path!r} cannot be imported: {error}. Write it as module:function, "
                f"and run the command where the module can be found."
            ) from error
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise ConfigurationError(
                f"The scorer {path!r} is no plain function (item, answer) -> bool | float | None."
            )
        return cls(function, path)


@dataclass(frozen=True, slots=True)
class SandboxScorer:
    """How the sandbox itself marks answers to its problems and puzzles.

    Example:
        >>> item = Item(id="1", question="?", reference="2025-03-03")
        >>> SandboxScorer().score(item, "Answer: 3 March 2025").value
        1.0
    """

    @property
    def name(self) -> str:
        """What it is called in the records."""
        return "sandbox"

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with a right answer."""
        return True

    def score(self, item: Item, answer: str) -> Score:
        """Compare as `is_correct` and `is_solved` do."""
        given = extract_answer(answer)
        if given is None:
            return Score(0.0, "it comes to no answer", no_answer=True)
        if isinstance(item.reference, Mapping):
            wanted, numbers = item.reference["target"], item.reference["numbers"]
            return Score(float(is_reached(given, target=wanted, numbers=numbers)))
        text = text_of(item.reference)
        values = (decimal_of(text), parse_date(text), text)
        value = next(one for one in values if one is not None and format_value(one) == text)
        return Score(float(matches(given, value)))


SCORERS: Final = ("exact", "numeric", "choice", "json")
"""The scorers that can be chosen by name; `judge` asks a model, `module:function` is your own."""


def scorer_named(name: str) -> Scorer:
    """Return a scorer by its name on the command line.

    `numeric:0.01` sets the tolerance, `json:schema.json` the file of a JSON schema.

    Raises:
        ConfigurationError: There is none of that name.

    Example:
        >>> scorer_named("numeric:0.01").name
        'numeric:0.01'
    """
    kind, colon, rest = name.strip().partition(":")
    plain: dict[str, Callable[[], Scorer]] = {
        "exact": ExactScorer,
        "numeric": NumericScorer,
        "choice": ChoiceScorer,
        "json": JsonScorer,
        "sandbox": SandboxScorer,
    }
    if not colon and kind in plain:
        return plain[kind]()
    if kind == "numeric" and rest:
        return NumericScorer(_tolerance(rest))
    if kind == "json" and rest:
        return JsonScorer(read_schema(rest))
    if colon and kind not in plain and rest:
        return CallableScorer.load(name.strip())
    raise ConfigurationError(
        f"There is no scorer {name!r}. Choose {', '.join(SCORERS)}, judge, or module:function "
        f"for one of your own."
    )


def _tolerance(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ConfigurationError(f"numeric:{text} has no tolerance; write numeric:0.01.") from error
