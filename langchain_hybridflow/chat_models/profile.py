"""What can be promised of a model made of two: only what both can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from langchain_core.language_models import BaseChatModel, ModelProfile

__all__ = ["common_profile"]


def common_profile(edge: BaseChatModel, cloud: BaseChatModel) -> ModelProfile | None:
    """Intersect the profiles of both tiers: a call may go to either.

    A capability is there if both have it, a limit is the smaller one, lists keep what stands in
    both, and other facts stay where both agree. What is unknown of one tier is left out.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> small = FakeListChatModel(
        ...     responses=[""], profile={"max_input_tokens": 8_192, "tool_calling": True}
        ... )
        >>> large = FakeListChatModel(
        ...     responses=[""],
        ...     profile={"max_input_tokens": 1_000_000, "image_inputs": True, "tool_calling": True},
        ... )
        >>> common_profile(small, large)
        {'max_input_tokens': 8192, 'tool_calling': True}
    """
    ours: Mapping[str, Any] | None = edge.profile
    theirs: Mapping[str, Any] | None = cloud.profile
    if not ours or not theirs:
        return None
    common: dict[str, Any] = {}
    for name in ours:
        if ours[name] is not None and theirs.get(name) is not None:
            value = _common(ours[name], theirs[name])
            if value is not None:
                common[name] = value
    return cast("ModelProfile", common)


def _common(one: Any, other: Any) -> Any:
    if isinstance(one, bool) and isinstance(other, bool):
        return one and other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return min(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return [item for item in one if item in other]
    return one if one == other else None
