"""A cap on the share of calls that a router sends to the cloud."""

from __future__ import annotations

import threading
from math import isfinite

from langchain_hybridflow.budget.share import MICRO_CALLS, refilled
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing.self_routing import HelpTerms, terms_of
from langchain_hybridflow.routing.types import RouteDecision, Router, RouteRequest

__all__ = ["CappedRouter"]


class CappedRouter:
    """Let another router decide, and send no more than a share of all calls to the cloud.

    Of any n decisions in a row at most `max_share` x n + `burst` are for the cloud, whatever is
    asked and however the other router may be deceived. Each decision puts `max_share` of a call
    aside, up to `burst` calls, and one for the cloud takes a whole call away (a token bucket).
    Beyond that the edge is asked; nobody waits.

    It counts decisions, in this process: a fallback after a failure of the edge is not one, nor is
    the help that the edge asks for under `SelfRouter`, and each process has a cap of its own. Plans
    are decided on subtask by subtask. `Budget(max_cloud_share=...)` is the hard cap, on whatever is
    bought from the cloud, by all processes together.

    Args:
        router: Decides while the cap is not reached.
        max_share: Highest share of cloud calls in 0..1, in the long run.
        burst: Cloud calls in a row that are allowed after a quiet time; at least 1.

    Raises:
        ConfigurationError: A number is out of its range.

    Example:
        >>> from langchain_hybridflow.routing import AlwaysCloud
        >>> router = CappedRouter(AlwaysCloud(), max_share=0.25, burst=1)
        >>> [router.route(RouteRequest(text="?")).tier for _ in range(6)]
        ['cloud', 'edge', 'edge', 'edge', 'cloud', 'edge']
    """

    def __init__(self, router: Router, *, max_share: float, burst: float = 10.0) -> None:
        if not 0.0 <= max_share <= 1.0:
            raise ConfigurationError(f"max_share is a share in 0..1, got {max_share!r}.")
        if not (isfinite(burst) and burst >= 1.0):
            raise ConfigurationError(f"burst is a number of calls, at least 1, got {burst!r}.")
        self.router = router
        self.max_share = max_share
        self.burst = burst
        self._part = int(max_share * MICRO_CALLS)
        self._drained = 0
        self._lock = threading.Lock()

    @property
    def terms(self) -> HelpTerms | None:
        """On what terms the other router lets the edge ask for help, if it does."""
        return terms_of(self.router)

    def route(self, request: RouteRequest) -> RouteDecision:
        """Decide on one call."""
        decision = self.router.route(request)
        if self._allows(wanted=decision.tier == "cloud"):
            return decision
        return decision.model_copy(
            update={
                "tier": "edge",
                "reason": f"{decision.reason}; but the cloud has its {self.max_share:.0%} of calls",
                "expected_cost_usd": request.expected_cost_usd.get("edge"),
                # A router that learns did not choose this, and must not learn from it.
                "decision_id": None,
                "propensity": None,
            }
        )

    def _allows(self, *, wanted: bool) -> bool:
        """Put a part of a call aside; take one away if the cloud is wanted and there is one."""
        with self._lock:
            granted = wanted and self._drained + MICRO_CALLS <= self.burst * MICRO_CALLS
            self._drained = refilled(
                self._drained + granted * MICRO_CALLS, self._part, beyond=self._part
            )
        return granted or not wanted
