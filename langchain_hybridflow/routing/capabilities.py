"""What a call needs of a model, and what a model lacks: the first filter, before any policy.

A call never goes where it cannot be answered. What nobody has said about a model is assumed to be
there: a profile is a description, and most local models have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CHARS_PER_TOKEN", "Needs", "fewest_tokens", "lacks"]

CHARS_PER_TOKEN = 8
"""More characters than the tokens of any written language have on average, spaces not counted."""

_INPUTS = ("image_inputs", "audio_inputs", "pdf_inputs", "video_inputs")
_NOTHING: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a call needs of the model that is to answer it.

    Attributes:
        tools: It may call tools.
        structured_output: It must give structured output by its provider's own means.
        any_structured_output: It must give structured output, by a tool call if need be.
        image_inputs: There are images in the prompt.
        audio_inputs: There is audio in it.
        pdf_inputs: There are PDF documents in it.
        video_inputs: There are videos in it.
        min_prompt_tokens: The fewest tokens that the prompt can have; see `fewest_tokens`.
    """

    tools: bool = False
    structured_output: bool = False
    any_structured_output: bool = False
    image_inputs: bool = False
    audio_inputs: bool = False
    pdf_inputs: bool = False
    video_inputs: bool = False
    min_prompt_tokens: int = 0


def fewest_tokens(text: str) -> int:
    """Return the fewest tokens that a text can have: one for every 8 characters but spaces.

    Reservations count generously, and so would refuse prompts that fit. Here the error goes the
    other way: a prompt that fits is never refused, and one that is a little too long is left to
    the model, which says so itself, and to the rules for its errors.

    Example:
        >>> fewest_tokens("the quick brown fox jumps over the lazy dog")  # 9 to 11 in truth
        4
    """
    spaces = sum(map(text.count, " \n\t\r"))
    return (len(text) - spaces) // CHARS_PER_TOKEN


def lacks(profile: Mapping[str, Any] | None, needs: Needs) -> tuple[str, ...]:
    """Say in words what a model lacks for a call; nothing if it can answer.

    Args:
        profile: LangChain's description of the model, `model.profile`; what is absent from it or
            `None` is unknown, and assumed to be there.
        needs: What the call needs.

    Example:
        >>> lacks({"tool_calling": False, "image_inputs": True}, Needs(tools=True))
        ('tool calling',)
        >>> lacks({"max_input_tokens": 4_096}, Needs(min_prompt_tokens=9_000))
        ('room for a prompt of 9,000 tokens or more (it takes 4,096)',)
    """
    if not profile:
        return _NOTHING
    lacking = []
    if needs.tools and profile.get("tool_calling") is False:
        lacking.append("tool calling")
    native = profile.get("structured_output") is not False
    if needs.structured_output and not native:
        lacking.append("structured output")
    elif needs.any_structured_output and not native and profile.get("tool_calling") is False:
        lacking.append("structured output and tool calling")
    lacking += [
        name.replace("_", " ")
        for name in _INPUTS
        if getattr(needs, name) and profile.get(name) is False
    ]
    most = profile.get("max_input_tokens")
    # Zero stands in some lists of models for "unknown".
    if isinstance(most, int) and 0 < most < needs.min_prompt_tokens:
        lacking.append(
            f"room for a prompt of {needs.min_prompt_tokens:,} tokens or more (it takes {most:,})"
        )
    return tuple(lacking)
