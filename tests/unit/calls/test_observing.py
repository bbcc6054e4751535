from __future__ import annotations

from typing import Any

import pytest

from langchain_hybridflow.calls.inner import TierModel
from langchain_hybridflow.calls.observing import decision_facts, observed, route_span
from langchain_hybridflow.routing import RouteDecision
from langchain_hybridflow.telemetry import NO_SPAN
from langchain_hybridflow.testing import ScriptedChatModel


def test_purchase_is_left_as_it_is_when_nobody_is_told() -> None:
    script: Any = (step for step in ())
    model = TierModel.of("edge", ScriptedChatModel(responses=["."]))
    assert observed(None, script, model=model, messages=[]) is script
    assert route_span(None) is NO_SPAN


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("planned difficulty 7 >= 5", "planned difficulty 7 >= 5"),
        ("router Mine failed (KeyError: 'the prompt'): edge", "router Mine failed"),
    ],
)
def test_error_of_a_router_is_cut_out_of_the_reason(reason: str, told: str) -> None:
    decision = RouteDecision(tier="edge", reason=reason, router="mine")
    assert decision_facts(decision)["hybridflow.reason"] == told
