from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_hybridflow.calls.conversation import conversation_tier, tier_of_answer
from langchain_hybridflow.routing import Tier


def record(tier: str, decided: str | None = None, router: str = "difficulty") -> dict[str, Any]:
    return {"tier": tier, "decision": {"tier": decided or tier, "router": router}}


def answer(kept: Any) -> AIMessage:
    return AIMessage("?", response_metadata={} if kept is None else {"hybridflow": kept})


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (record("edge"), "edge"),
        (record("cloud"), "cloud"),
        (record("cloud", "edge"), "cloud"),  # the edge failed, or a verifier sent it on
        (record("edge", "cloud"), "cloud"),  # the cloud was refused, or failed
        (record("edge", router="policy"), None),
        (record("edge", router="capabilities"), None),
        (record("cloud", router="capabilities"), "cloud"),
        ({"tier": "edge"}, "edge"),
        ({"tier": "fog"}, None),
        ({}, None),
        ({"complete": True, "totals": {}}, None),  # the answer of a graph
        ({"tier": None, "decision": "nonsense"}, None),
    ],
)
def test_answer_puts_its_conversation_on_a_tier(kept: Any, expected: Tier | None) -> None:
    assert tier_of_answer(kept) == expected


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([], None),
        ([None], None),
        ([record("cloud"), record("edge")], "edge"),
        ([record("cloud"), record("edge", router="policy")], "cloud"),
        ([record("cloud"), None], "cloud"),
        (["nonsense"], None),
    ],
)
def test_last_answer_that_tells_counts(records: list[Any], expected: Tier | None) -> None:
    history: list[BaseMessage] = [HumanMessage("?"), *map(answer, records)]
    assert conversation_tier(history) == expected
