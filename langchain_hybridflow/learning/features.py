"""The features of a request that are known before any call, under a versioned schema.

Nothing here reads an outcome: `structure_values` sees a `RouteRequest`, the text features see its
text, and the one exception, the edge's own answer, is a type of its own (`EdgeAnswer`) that only
a decision made after the edge has answered can have.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning._reading import SURFACE_NAMES
from langchain_hybridflow.routing import RouteRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Numbers = NDArray[np.float64]

__all__ = [
    "ANSWER_NAMES",
    "BEFORE_NAMES",
    "FEATURE_SCHEMA",
    "STRUCTURE_COLUMNS",
    "STRUCTURE_NAMES",
    "answer_features",
    "gives_no_answer",
    "structure_facts",
    "structure_matrix",
    "structure_values",
]

FEATURE_SCHEMA = 2
"""Changes whenever a feature is added, dropped or computed in another way."""

STRUCTURE_NAMES = (
    "role explain", "role analyze", "role generate", "planned difficulty", "planned answer tokens",
    "depth", "fan-in", "fan-out", "on the critical path", "parents on the cloud",
)  # fmt: skip

STRUCTURE_COLUMNS = (
    "role", "difficulty", "expected_output_tokens", "depth", "fan_in", "fan_out",
    "on_critical_path", "parent_cloud_share",
)  # fmt: skip
"""The columns of a dataset that carry the same facts as a `RouteRequest`."""

BEFORE_NAMES = (*SURFACE_NAMES, *STRUCTURE_NAMES)
"""All that is not learnt, in the order of the features."""

ANSWER_NAMES = (
    "length of the edge's answer", "the edge gave no answer", "answer longer than expected",
    "answer to whole question", "answer to question", "answer of unexpected length",
)  # fmt: skip

_NO_ANSWER = re.compile(
    r"</unknown>\s*$|\bI (?:do not|don't|cannot|can't) (?:know|answer|determine)\b|"
    r"\bI(?: am|'m) (?:unable|not able|sorry)\b",
    re.IGNORECASE,
)
_TAIL_CHARS = 400

_UNKNOWN = -1.0  # below every true value, so that a tree can tell it apart


def structure_values(request: RouteRequest) -> list[float]:
    """Describe where in a plan a request stands, in the order of `STRUCTURE_NAMES`.

    What nobody has said is -1.

    Example:
        >>> structure_values(RouteRequest(text="?", difficulty=7, depth=2))[3:6]
        [7.0, -1.0, 2.0]
    """
    return _values(structure_facts(request))


def structure_facts(request: RouteRequest) -> dict[str, Any]:
    """Say where in a plan a request stands, by the columns of a dataset, in plain JSON types.

    Example:
        >>> facts = structure_facts(RouteRequest(text="?", parent_tiers=("cloud", "edge")))
        >>> facts["parent_cloud_share"], facts["fan_out"]
        (0.5, None)
    """
    tiers = request.parent_tiers
    return {
        "role": None if request.role is None else str(request.role),
        "difficulty": request.difficulty,
        "expected_output_tokens": request.expected_output_tokens,
        "depth": request.depth,
        "fan_in": request.fan_in,
        "fan_out": request.fan_out,
        "on_critical_path": request.on_critical_path,
        "parent_cloud_share": tiers.count("cloud") / len(tiers) if tiers else None,
    }


def structure_matrix(columns: Mapping[str, Sequence[Any]], rows: int) -> NDArray[np.float64]:
    """Describe each row of a dataset as `structure_values` would describe its request.

    Raises:
        ConfigurationError: A value is not of the kind that its column holds.
    """
    import numpy as np

    if not columns:
        return np.tile(_values({}), (rows, 1))
    try:
        lines = [_values({name: columns[name][i] for name in columns}) for i in range(rows)]
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"The columns {', '.join(columns)} must hold numbers (role: text): {error}"
        ) from error
    return np.array(lines).reshape(rows, len(STRUCTURE_NAMES))


def _values(facts: Mapping[str, Any]) -> list[float]:
    role = facts.get("role")
    role = None if role is None else str(getattr(role, "value", role)).lower()
    tokens = _number(facts.get("expected_output_tokens"))
    return [
        *(float(role == name) for name in ("explain", "analyze", "generate")),
        _number(facts.get("difficulty")),
        math.log1p(tokens) if tokens >= 0 else _UNKNOWN,
        # A request outside a plan has depth and fan-in 0, and so has a row that says nothing.
        max(_number(facts.get("depth")), 0.0),
        max(_number(facts.get("fan_in")), 0.0),
        _number(facts.get("fan_out")),
        _number(facts.get("on_critical_path")),
        _number(facts.get("parent_cloud_share")),
    ]


def _number(value: Any) -> float:
    if value is None:
        return _UNKNOWN
    number = float(value)
    return number if math.isfinite(number) else _UNKNOWN


def gives_no_answer(text: str) -> bool:
    """Say whether an answer is none: it is empty, or ends in a refusal or a call for help.

    Example:
        >>> gives_no_answer("<unknown> I need external assistance </unknown>")
        True
        >>> gives_no_answer("The answer is (B).")
        False
    """
    return not text.strip() or _NO_ANSWER.search(text[-_TAIL_CHARS:]) is not None


def answer_features(rows: Floats, hints: Floats, chars: Numbers, no_answer: Numbers) -> Floats:
    """Describe answers of the edge beside what was to be expected, in the order of ANSWER_NAMES.

    Args:
        rows: Shape (n, features), those before the call.
        hints: Shape (n, 3); the third is the expected log length.
        chars: Shape (n,), lengths in characters.
        no_answer: Shape (n,), 1 where there is none.
    """
    import numpy as np

    length = np.log1p(np.asarray(chars, dtype=float))
    surprise = length - hints[:, 2]
    whole, question = rows[:, 0], rows[:, 1]  # logs of the characters of the text and the stem
    parts = (length, no_answer, surprise, length - whole, length - question, np.abs(surprise))
    return np.stack(parts, axis=1).astype(np.float32)
