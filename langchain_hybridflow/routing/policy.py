"""Where a call may go at all: a hard filter, asked before any router.

A policy sees the whole text that would be sent and says which tiers may see it. What it forbids
stays forbidden for fallbacks, under any budget, and for whatever builds on the answer.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing.detectors import DETECTORS, Preset, readings
from langchain_hybridflow.routing.types import TIERS, RouteRequest, Tier

__all__ = ["KeepLocal", "Policy", "Verdict", "ask_policy"]

Policy: TypeAlias = Callable[[RouteRequest], Collection[Tier]]
"""Says which tiers may answer a call.

It is asked before each purchase, so it should be quick, and from several threads at once. The
budget and the costs in the request are not filled in yet: a policy says what may leave the house,
not what can be afforded. If it raises, or returns anything but a collection of tiers, only the
edge may answer.
"""


@dataclass(frozen=True, slots=True)
class Verdict(Collection[Tier]):
    """The tiers that a policy allows, and why it allows no others.

    Args:
        tiers: Who may answer.
        reason: Why nobody else may, in words. It goes into decisions, traces and checkpoints, so
            it must never quote the text it speaks of.

    Example:
        >>> list(Verdict(("edge",), "the customer said so"))
        ['edge']
    """

    tiers: tuple[Tier, ...]
    reason: str = ""

    def __iter__(self) -> Iterator[Tier]:
        return iter(self.tiers)

    def __len__(self) -> int:
        return len(self.tiers)

    def __contains__(self, tier: object) -> bool:
        return tier in self.tiers


_FREE = Verdict(TIERS)


def ask_policy(policy: Policy | None, request: RouteRequest) -> Verdict:
    """Ask who may answer; in doubt, only the edge.

    The text of an error is not passed on: it may quote what was to be kept.

    Example:
        >>> def broken(request: RouteRequest) -> list[Tier]:
        ...     raise KeyError(request.prompt)
        >>> ask_policy(broken, RouteRequest(text="?"))
        Verdict(tiers=('edge',), reason='kept local, the policy failed with KeyError')
    """
    verdict = _FREE if policy is None else _verdict(policy, request)
    if request.kept_local and "cloud" in verdict:
        tiers = tuple(tier for tier in verdict if tier != "cloud")
        return Verdict(tiers, "kept local, like a result that it builds on")
    return verdict


def _verdict(policy: Policy, request: RouteRequest) -> Verdict:
    try:
        given: object = policy(request)
        if inspect.iscoroutine(given):
            given.close()
        if isinstance(given, Verdict) and all(tier in TIERS for tier in given.tiers):
            return given
        known = isinstance(given, Collection) and not isinstance(given, str | bytes | Mapping)
        if known and all(tier in TIERS for tier in given):  # type: ignore[attr-defined]  # known
            tiers = tuple(tier for tier in TIERS if tier in given)  # type: ignore[operator]  # known
            return Verdict(tiers, "kept local by the policy" if "cloud" not in tiers else "")
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, nothing leaves
        return Verdict(("edge",), f"kept local, the policy failed with {type(error).__name__}")
    return Verdict(
        ("edge",), f"kept local, the policy returned no tiers but {type(given).__name__}"
    )


class KeepLocal:
    r"""A policy that keeps calls on the edge if their text matches a pattern.

    All text that would be sent is searched: the system prompt, the conversation, tool calls and
    their results, the schemas of tools, and other call options. Images, audio and documents
    cannot be searched, and so stay on the edge, too, unless you allow them.

    Args:
        patterns: Regular expressions of your own. A mapping gives each the words that stand for
            it in reasons; a pattern itself is never shown. They are searched by Python's `re`,
            whose time is not always linear: keep them simple.
        presets: The ready detectors to use; by default all: "api_key", "credit_card" (with its
            check digit), "email", "iban" (with its checksum), "ip_address", "phone", "us_ssn".
        allow_attachments: Whether what is not text may go to the cloud unseen.

    Raises:
        ConfigurationError: A pattern is no regular expression, or there is no such preset.

    Example:
        >>> policy = KeepLocal(patterns={"a case number": r"case-\d+"}, presets=["email"])
        >>> policy(RouteRequest(text="?", prompt="Sum up case-4711."))
        Verdict(tiers=('edge',), reason='kept local, a case number in the prompt')
        >>> list(policy(RouteRequest(text="?", prompt="Sum up the case.")))
        ['edge', 'cloud']
    """

    def __init__(
        self,
        *,
        patterns: Mapping[str, str] | Iterable[str] = (),
        presets: Iterable[Preset] = tuple(DETECTORS),
        allow_attachments: bool = False,
    ) -> None:
        if isinstance(patterns, str) or isinstance(presets, str):
            raise ConfigurationError("patterns and presets are collections, not one string.")
        named = patterns if isinstance(patterns, Mapping) else _numbered(patterns)
        self.patterns = {name: _source(pattern) for name, pattern in named.items()}
        self.presets = tuple(presets)
        unknown = [preset for preset in self.presets if preset not in DETECTORS]
        if unknown:
            raise ConfigurationError(
                f"There is no preset {', '.join(map(repr, unknown))}; choose from "
                f"{', '.join(DETECTORS)}."
            )
        self.allow_attachments = allow_attachments
        self._compiled = {name: _compiled(text) for name, text in self.patterns.items()}

    def __call__(self, request: RouteRequest) -> Verdict:
        """Say who may see the text."""
        if request.attachments and not self.allow_attachments:
            return Verdict(("edge",), "kept local, something that is not text in the prompt")
        found = self._find(request.prompt or request.text)
        return Verdict(("edge",), f"kept local, {found} in the prompt") if found else _FREE

    def __repr__(self) -> str:
        """Name the detectors; patterns may be as secret as what they find."""
        return f"KeepLocal(patterns={len(self.patterns)}, presets={list(self.presets)})"

    def _find(self, text: str) -> str | None:
        for reading in readings(text):
            for name, pattern in self._compiled.items():
                if pattern.search(reading):
                    return name
            for preset in self.presets:
                name, finds = DETECTORS[preset]
                if finds(reading):
                    return name
        return None


def _numbered(patterns: Iterable[str]) -> dict[str, str]:
    return {f"a match of pattern {number}": text for number, text in enumerate(patterns, start=1)}


def _source(pattern: object) -> str:
    if not isinstance(pattern, str):
        raise ConfigurationError(
            f"A pattern is a regular expression as text, got {type(pattern).__name__}."
        )
    return pattern


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigurationError(
            f"{pattern!r} is no regular expression: {error}. Mend it, or write it with re.escape() "
            f"if it is meant as it stands."
        ) from error
