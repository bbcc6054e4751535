"""Checks of what a budget is made with."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from langchain_hybridflow.budget.types import Limits
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["check_kind", "check_word", "limits_of", "seconds_of"]


def check_word(name: str, value: object, words: Sequence[str]) -> None:
    """Refuse a value that is none of some words.

    Raises:
        ConfigurationError: It is not.
    """
    if value not in words:
        listed = ", ".join(repr(word) for word in words)
        raise ConfigurationError(f"{name} is one of {listed}, not {value!r}.")


def check_kind(name: str, value: object, kind: type[Any], example: str) -> None:
    """Refuse a value that is neither `None` nor of a kind.

    Raises:
        ConfigurationError: It is not.
    """
    if value is not None and (isinstance(value, type) or not isinstance(value, kind)):
        raise ConfigurationError(f"{name} must be None or such as {example}, not {value!r}.")


def limits_of(name: str, value: object) -> Limits:
    """Return limits that may have been left out.

    Raises:
        ConfigurationError: They are no `Limits`.
    """
    if value is None:
        return Limits()
    if not isinstance(value, Limits):
        raise ConfigurationError(
            f"{name} must be Limits, such as Limits(usd=0.01, cloud_calls=3), not {value!r}."
        )
    return value


def seconds_of(value: float, name: str) -> float:
    """Return a time in seconds.

    Raises:
        ConfigurationError: It is not a finite, positive number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{name} must be a number of seconds, not {value!r}.")
    if not isfinite(value) or value <= 0:
        raise ConfigurationError(f"{name} must be finite and positive, not {value!r}.")
    return float(value)
