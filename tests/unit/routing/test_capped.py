"""A cap on the share of cloud calls."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import (
    AlwaysCloud,
    AlwaysEdge,
    CappedRouter,
    RouteDecision,
    RouteRequest,
)

ASKED = RouteRequest(text="?", expected_cost_usd={"edge": Decimal(0), "cloud": Decimal("0.01")})


class Wishes:
    """Sends to the cloud what says so."""

    def route(self, request: RouteRequest) -> RouteDecision:
        return RouteDecision(
            tier="cloud" if request.text == "cloud" else "edge",
            reason="it says so",
            router="wishes",
            score=0.7,
            expected_cost_usd=request.expected_cost_usd.get("cloud"),
            decision_id="d1",
            propensity=0.9,
        )


@given(
    wishes=st.lists(st.booleans(), max_size=200),
    share=st.floats(0, 1),
    burst=st.floats(1, 20),
)
def test_no_stretch_of_decisions_passes_the_cap(
    wishes: list[bool], share: float, burst: float
) -> None:
    router = CappedRouter(Wishes(), max_share=share, burst=burst)
    went = [router.route(RouteRequest(text="cloud" if one else "edge")).tier for one in wishes]
    for begin in range(0, len(went), 7):
        for end in range(begin + 1, len(went) + 1, 5):
            calls = went[begin:end].count("cloud")
            assert calls <= share * (end - begin) + burst + 1e-9


@given(share=st.floats(0.05, 1))
def test_cap_is_used_up_when_everything_wants_the_cloud(share: float) -> None:
    router = CappedRouter(AlwaysCloud(), max_share=share, burst=1)
    calls = sum(router.route(ASKED).tier == "cloud" for _ in range(400))
    assert calls >= share * 399 - 1


def test_decisions_below_the_cap_are_passed_on_as_they_are() -> None:
    router = CappedRouter(Wishes(), max_share=0.5)
    asked = RouteRequest(text="cloud", expected_cost_usd={"cloud": Decimal("0.01")})
    assert router.route(asked) == Wishes().route(asked)


def test_decision_beyond_the_cap_says_why_and_teaches_nothing() -> None:
    router = CappedRouter(Wishes(), max_share=0.0, burst=1)
    asked = RouteRequest(text="cloud", expected_cost_usd={"edge": Decimal("0.001")})
    router.route(asked)
    decision = router.route(asked)
    assert decision.tier == "edge"
    assert decision.reason == "it says so; but the cloud has its 0% of calls"
    assert decision.expected_cost_usd == Decimal("0.001")
    assert (decision.decision_id, decision.propensity) == (None, None)
    assert (decision.router, decision.score) == ("wishes", 0.7)


def test_edge_calls_are_never_touched() -> None:
    router = CappedRouter(AlwaysEdge(), max_share=0.0, burst=1)
    assert router.route(ASKED) == AlwaysEdge().route(ASKED)


def test_cap_holds_with_many_threads() -> None:
    router = CappedRouter(AlwaysCloud(), max_share=0.25, burst=2)
    with ThreadPoolExecutor(8) as pool:
        tiers = list(pool.map(lambda _: router.route(ASKED).tier, range(2_000)))
    assert 0.25 * 1_999 <= tiers.count("cloud") <= 0.25 * 2_000 + 2


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match="max_share"):
        CappedRouter(AlwaysEdge(), max_share=share)


@pytest.mark.parametrize("burst", [0.9, float("inf"), float("nan")])
def test_burst_out_of_range_is_refused(burst: float) -> None:
    with pytest.raises(ConfigurationError, match="burst"):
        CappedRouter(AlwaysEdge(), max_share=0.5, burst=burst)
