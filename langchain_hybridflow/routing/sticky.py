"""Keep a conversation where it is: it may go up to the cloud, and does not come down again."""

from __future__ import annotations

import threading
from collections import OrderedDict

from langchain_hybridflow.routing.self_routing import HelpTerms, terms_of
from langchain_hybridflow.routing.types import RouteDecision, Router, RouteRequest, Tier

__all__ = ["StickyRouter", "ThreadTiers"]


class StickyRouter:
    """Leave a conversation on the cloud once it is there; until then, let another router decide.

    A model that reads a conversation for the first time pays for all of it, while the one that
    has answered before reads most of it from its prompt cache; and an easy question in the middle
    of a hard conversation is rarely as easy as it looks. So the other router can send a
    conversation up, and nothing but a filter or the budget brings it down.

    Args:
        router: Decides as long as the conversation is not on the cloud.

    Example:
        >>> from langchain_hybridflow.routing import AlwaysEdge
        >>> router = StickyRouter(AlwaysEdge())
        >>> router.route(RouteRequest(text="Thanks!")).tier
        'edge'
        >>> router.route(RouteRequest(text="Thanks!", previous_tier="cloud")).tier
        'cloud'
    """

    def __init__(self, router: Router) -> None:
        self.router = router

    @property
    def terms(self) -> HelpTerms | None:
        """On what terms the other router lets the edge ask for help, if it does."""
        return terms_of(self.router)

    def route(self, request: RouteRequest) -> RouteDecision:
        """Stay on the cloud, or ask the other router."""
        if request.previous_tier != "cloud":
            return self.router.route(request)
        return RouteDecision(
            tier="cloud",
            reason="the conversation is on the cloud and stays there",
            router="sticky",
            expected_cost_usd=request.expected_cost_usd.get("cloud"),
        )


class ThreadTiers:
    """Which tier each thread is on, for histories that do not say so themselves.

    Holds the threads that were used last; one that is forgotten begins anew. It lives in this
    process: a history that keeps the metadata of its answers is the better memory. Safe to share
    by threads and tasks.

    Args:
        max_threads: How many to remember.

    Example:
        >>> tiers = ThreadTiers(max_threads=1)
        >>> tiers.note("alice", "cloud"), tiers.get("alice")
        (None, 'cloud')
        >>> tiers.note("bob", "edge"), tiers.get("alice")
        (None, None)
    """

    def __init__(self, *, max_threads: int = 10_000) -> None:
        self._tiers: OrderedDict[str, Tier] = OrderedDict()
        self._max_threads = max_threads
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tiers)

    def get(self, thread_id: str) -> Tier | None:
        """Return the tier that a thread is on; `None` if nobody knows."""
        with self._lock:
            tier = self._tiers.get(thread_id)
            if tier is not None:
                self._tiers.move_to_end(thread_id)
            return tier

    def note(self, thread_id: str, tier: Tier) -> None:
        """Remember the tier of a thread; one that is on the cloud stays there."""
        with self._lock:
            on_cloud = tier == "cloud" or self._tiers.get(thread_id) == "cloud"
            self._tiers[thread_id] = "cloud" if on_cloud else "edge"
            self._tiers.move_to_end(thread_id)
            if len(self._tiers) > self._max_threads:
                self._tiers.popitem(last=False)
