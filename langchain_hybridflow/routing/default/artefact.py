"""The file that the default router's weights are kept in: JSON, with a hash over all of it.

    {"manifest": {...}, "sha256": "...", "weights": {...}}

The words are kept as their hashes and as whole numbers of one byte; nothing in the file is code,
and no row of the training data is in it. The hash finds damage; whoever can change the file could
change this module, too.
"""

from __future__ import annotations

import json
from array import array
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from sys import byteorder
from typing import Any, Final

from langchain_hybridflow.errors import ArtifactError
from langchain_hybridflow.routing.default.reading import SURFACE_NAMES
from langchain_hybridflow.routing.default.weights import Pair, Weights

__all__ = ["FILE_NAME", "SCHEMA", "DefaultArtefact", "load_default", "pack", "unpack"]

FILE_NAME: Final = "weights.json"
SCHEMA: Final = 1
"""Changes whenever the reading of a text or the meaning of a weight does."""

_LEVELS = 127
_DIFFICULTIES = 9


@dataclass(frozen=True, slots=True)
class DefaultArtefact:
    """The file's contents.

    Attributes:
        weights: What the default router has learnt.
        min_gain: Its operating point: the gain that a cloud call must promise whatever it costs.
        manifest: What is known of it, in plain JSON: training data, figures, versions.
    """

    weights: Weights
    min_gain: float
    manifest: Mapping[str, Any]


@cache
def load_default() -> DefaultArtefact:
    """Load what ships in the package; it is read and checked once in a process.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    try:
        raw = files(__package__).joinpath(FILE_NAME).read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"The default router's file cannot be read: {error}. {_CURE}"
        ) from error
    return unpack(raw)


def pack(weights: Weights, manifest: Mapping[str, Any]) -> bytes:
    """Write the file; `unpack` gives the same weights again if they come from `quantised`."""
    words = sorted(weights.words.items())
    steps = _steps(weights.words)
    plain = {
        "base": list(weights.base),
        "bound": list(weights.bound),
        "damping": weights.damping,
        "difficulty": [list(pair) for pair in weights.difficulty],
        "surface": {
            name: {"gain": pair.gain, "edge": pair.edge, "mean": mean}
            for name, pair, mean in zip(SURFACE_NAMES, weights.surface, weights.means, strict=True)
        },
        "words": {
            "crc32": _text(array("I", [key for key, _ in words])),
            **{
                name: _text(array("b", [round(pair[i] / steps[i]) for _, pair in words]))
                for i, name in enumerate(Pair._fields)
            },
            "steps": list(steps),
        },
    }
    body = {"manifest": dict(manifest), "weights": plain}
    text = json.dumps({**body, "sha256": _hash(body)}, indent=1, sort_keys=True)
    return f"{text}\n".encode()


def unpack(raw: bytes) -> DefaultArtefact:
    """Read the file, strictly.

    Raises:
        ArtifactError: It is damaged, or of another version.
    """
    try:
        body = json.loads(raw)
        given = body.pop("sha256")
        if given != _hash(body):
            raise ArtifactError(f"The default router's file has been changed. {_CURE}")
        manifest = body["manifest"]
        if manifest["feature_schema"] != SCHEMA:
            raise ArtifactError(
                f"The default router's file is of schema {manifest['feature_schema']!r}, and this "
                f"release reads schema {SCHEMA}. {_CURE}"
            )
        weights = _weights(body["weights"])
        return DefaultArtefact(weights, float(manifest["parameters"]["min_gain"]), manifest)
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"The default router's file is damaged. {_CURE}") from error


def _weights(plain: Mapping[str, Any]) -> Weights:
    words = plain["words"]
    keys = _numbers("I", words["crc32"])
    gains, edges = (_numbers("b", words[name]) for name in Pair._fields)
    gain_step, edge_step = map(float, words["steps"])
    pairs = (
        Pair(gain * gain_step, edge * edge_step) for gain, edge in zip(gains, edges, strict=True)
    )
    surface = [plain["surface"][name] for name in SURFACE_NAMES]
    difficulty = tuple(Pair(*map(float, pair)) for pair in plain["difficulty"])
    if len(difficulty) != _DIFFICULTIES:
        raise ValueError("nine levels of difficulty are needed")
    return Weights(
        base=Pair(*map(float, plain["base"])),
        words=dict(zip(keys, pairs, strict=True)),
        surface=tuple(Pair(float(one["gain"]), float(one["edge"])) for one in surface),
        means=tuple(float(one["mean"]) for one in surface),
        difficulty=difficulty,
        damping=float(plain["damping"]),
        bound=Pair(*map(float, plain["bound"])),
    )


def _steps(words: Mapping[int, Pair]) -> tuple[float, ...]:
    """Return the size of one level of each head."""
    largest = [max(abs(pair[i]) for pair in words.values()) for i in range(len(Pair._fields))]
    return tuple(round(value / _LEVELS, 9) for value in largest)


def _text(numbers: array[int]) -> str:
    if byteorder == "big":
        numbers.byteswap()
    return b64encode(numbers.tobytes()).decode()


def _numbers(kind: str, text: str) -> array[int]:
    numbers = array(kind, b64decode(text, validate=True))
    if byteorder == "big":
        numbers.byteswap()
    return numbers


def _hash(body: Mapping[str, Any]) -> str:
    plain = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256(plain.encode()).hexdigest()


_CURE = (
    "Install langchain-hybridflow again, or give a router yourself, such as "
    "router=DifficultyRouter()."
)
