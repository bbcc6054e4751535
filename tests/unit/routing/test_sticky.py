from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from langchain_hybridflow.routing import AlwaysCloud, AlwaysEdge, Router, RouteRequest, Tier
from langchain_hybridflow.routing.sticky import StickyRouter, ThreadTiers


@pytest.mark.parametrize(
    ("previous", "router", "expected"),
    [
        (None, AlwaysEdge(), "edge"),
        (None, AlwaysCloud(), "cloud"),
        ("edge", AlwaysEdge(), "edge"),
        ("edge", AlwaysCloud(), "cloud"),
        ("cloud", AlwaysEdge(), "cloud"),
        ("cloud", AlwaysCloud(), "cloud"),
    ],
)
def test_conversation_goes_up_and_not_down(
    previous: Tier | None, router: Router, expected: Tier
) -> None:
    request = RouteRequest(text="?", previous_tier=previous)
    assert StickyRouter(router).route(request).tier == expected


def test_other_router_is_not_asked_when_the_conversation_is_on_the_cloud() -> None:
    decision = StickyRouter(AlwaysCloud()).route(RouteRequest(text="?", previous_tier="cloud"))
    assert decision.router == "sticky"


def test_least_recently_used_thread_is_forgotten() -> None:
    tiers = ThreadTiers(max_threads=2)
    tiers.note("a", "cloud")
    tiers.note("b", "cloud")
    tiers.get("a")
    tiers.note("c", "cloud")
    assert [tiers.get(key) for key in "abc"] == ["cloud", None, "cloud"]


def test_thread_on_the_cloud_is_not_noted_down_again() -> None:
    tiers = ThreadTiers()
    tiers.note("a", "cloud")
    tiers.note("a", "edge")
    assert tiers.get("a") == "cloud"


def test_memory_stays_bounded_when_many_threads_write() -> None:
    tiers = ThreadTiers(max_threads=50)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: tiers.note(str(number), "cloud"), range(2_000)))
    assert len(tiers) == 50
