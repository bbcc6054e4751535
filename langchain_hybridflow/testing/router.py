"""The conformance suite of routers: run it on your own.

```python
class TestMyRouter(RouterConformance):
    def make_router(self):
        return MyRouter(seed=7)
```

It needs pytest.
"""

from __future__ import annotations

import builtins
import copy
import json
import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from langchain_hybridflow.budget import Amounts, BudgetSnapshot
from langchain_hybridflow.budget.snapshot import Gauge
from langchain_hybridflow.plan import Role
from langchain_hybridflow.routing import TIERS, Needs, RouteDecision, Router, RouteRequest

__all__ = ["RouterConformance", "edge_case_requests"]

_CANARY = "zyxwv-canary-98765"
_THREADS = 8


def edge_case_requests() -> dict[str, RouteRequest]:
    """Return requests that a router must be able to answer, by what is special about them.

    Example:
        >>> edge_case_requests()["empty"].text
        ''
    """
    whole = RouteRequest(
        text="Compare the two treaties.",
        prompt="You are brief.\n\nCompare the two treaties.",
        attachments=True,
        needs=Needs(tools=True, image_inputs=True, min_prompt_tokens=9),
        prompt_tokens=40,
        subtask_id="3",
        role=Role.ANALYZE,
        difficulty=9,
        expected_output_tokens=400,
        depth=2,
        fan_in=2,
        fan_out=1,
        on_critical_path=True,
        parent_tiers=("edge", "cloud"),
        previous_tier="edge",
        cached_prompt_tokens=30,
        expected_cost_usd={"edge": Decimal(0), "cloud": Decimal("0.0123")},
        budget=_budget(spent=3, limit=9),
    )
    return {
        "plain": RouteRequest(text="What is the capital of France?"),
        "hard": RouteRequest(text="Prove that there are infinitely many primes, step by step."),
        "everything known": whole,
        "empty": RouteRequest(text=""),
        "blank": RouteRequest(text=" \n\t "),
        "huge": RouteRequest(text="why? " * 200_000, prompt_tokens=10**9),
        "half a surrogate pair": RouteRequest(text="odd \ud800 text", subtask_id="1"),
        "control characters": RouteRequest(text="a\x00b\x1b[31m\u202ec"),
        "other scripts": RouteRequest(text="巴黎在哪里? أين باريس؟ 🗼" * 20),
        "looks like markup": RouteRequest(text="{0} %s $1 <Plan/> {{x}} [bold]"),
        "easiest": RouteRequest(text="?", difficulty=1),
        "hardest": RouteRequest(text="?", difficulty=9),
        "streaming plan": RouteRequest(text="?", subtask_id="2", role=Role.EXPLAIN, fan_out=None),
        "unknown prices": RouteRequest(text="?", expected_cost_usd={"edge": None, "cloud": None}),
        "free cloud": RouteRequest(
            text="?", expected_cost_usd={"edge": Decimal(0), "cloud": Decimal(0)}
        ),
        "limit of nothing": RouteRequest(text="?", budget=_budget(spent=0, limit=0)),
        "exhausted": RouteRequest(text="?", budget=_budget(spent=9, limit=9)),
        "overdrawn": RouteRequest(text="?", budget=_budget(spent=12, limit=9)),
        "late": RouteRequest(text="?", budget=BudgetSnapshot(elapsed_s=90.0, deadline_s=60.0)),
        "dear": RouteRequest(text="?", budget=BudgetSnapshot(shadow_price=1e12)),
        "on the cloud": RouteRequest(text="?", previous_tier="cloud", cached_prompt_tokens=5_000),
        "kept local": RouteRequest(text="?", kept_local=True),
    }


def _budget(*, spent: int, limit: int) -> BudgetSnapshot:
    return BudgetSnapshot(
        usd=Gauge(Decimal(spent), Decimal(0), Decimal(limit)),
        cloud_tokens=Gauge(spent * 1_000, 0, limit * 1_000),
        cloud_calls=Gauge(spent, 0, limit),
        run=Amounts(usd_micros=spent * 1_000_000, cloud_tokens=spent * 1_000, cloud_calls=spent),
        elapsed_s=1.5,
        deadline_s=60.0,
    )


class RouterConformance:
    """What every router must do, one behaviour a test; subclass it in a test module.

    Subclasses define `make_router()`, which makes the same router each time. `requests()` may add
    requests that are special to it. A router decides by its request and by how it was made, so
    that a decision can be explained, repeated and tested: one that learns does so elsewhere than
    in `route`. How fast it is, is not looked at.

    Example:
        >>> from langchain_hybridflow.routing import DifficultyRouter
        >>> class TestDifficulty(RouterConformance):
        ...     def make_router(self):
        ...         return DifficultyRouter(threshold=4)
        >>> TestDifficulty().test_decision_is_one(DifficultyRouter())
    """

    def make_router(self) -> Router:
        """Make the router that is tested."""
        raise NotImplementedError(f"{type(self).__name__} defines no make_router().")

    def requests(self) -> Mapping[str, RouteRequest]:
        """Return what is asked, by name."""
        return edge_case_requests()

    @pytest.fixture
    def router(self) -> Router:
        """A new router for each test."""
        return self.make_router()

    def test_router_satisfies_the_protocol(self, router: Router) -> None:
        """It has a method `route`."""
        assert isinstance(router, Router)

    def test_decision_is_one(self, router: Router) -> None:
        """Whatever is asked, the answer is a decision with a reason, not a coroutine or `None`."""
        for name, decision in self._decisions(router).items():
            assert isinstance(decision, RouteDecision), f"{name}: {decision!r}"
            assert decision.reason.strip(), f"{name}: the decision has no reason"
            assert decision.router.strip(), f"{name}: the decision has no router"

    def test_tier_is_allowed(self, router: Router) -> None:
        """It chooses a tier, and one of those that it leaves for fallbacks."""
        for name, decision in self._decisions(router).items():
            assert decision.tier in TIERS, f"{name}: {decision.tier!r} is no tier"
            assert decision.tier in decision.allowed, f"{name}: chose what it does not allow"
            assert set(decision.allowed) <= set(TIERS), f"{name}: allows {decision.allowed}"

    def test_decision_survives_json(self, router: Router) -> None:
        """It goes into checkpoints and metadata as plain JSON, and comes back the same."""
        for name, decision in self._decisions(router).items():
            text = json.dumps(decision.model_dump(mode="json"), allow_nan=False)
            assert text.encode("utf-8"), name
            assert RouteDecision.model_validate_json(text) == decision, name

    def test_same_request_gets_the_same_decision(self, router: Router) -> None:
        """Asked again, the same router says the same."""
        first = self._decisions(router)
        self._assert_same(first, self._decisions(router), "asked a second time")

    def test_decision_does_not_depend_on_what_was_asked_before(self, router: Router) -> None:
        """Asked in another order, another router of the same make says the same."""
        backwards = dict(reversed(list(self.requests().items())))
        other = self._decisions(self.make_router(), backwards)
        self._assert_same(self._decisions(router), other, "asked in another order")

    def test_decision_does_not_depend_on_global_chance(self, router: Router) -> None:
        """Random choices come from a seed of its own."""
        first = self._decisions(router)
        state = random.getstate()
        try:
            for seed in range(5):
                random.seed(seed)
                self._assert_same(first, self._decisions(self.make_router()), f"seed {seed}")
        finally:
            random.setstate(state)

    def test_decision_does_not_depend_on_the_clock(
        self, router: Router, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """How late it is stands in the request."""
        first = self._decisions(router)
        with monkeypatch.context() as later:
            for name in ("time", "monotonic", "perf_counter"):
                clock = getattr(time, name)
                later.setattr(time, name, lambda clock=clock: clock() + 1e6)
            self._assert_same(first, self._decisions(router), "a million seconds later")

    def test_route_reads_no_file_and_calls_nobody(
        self, router: Router, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What it needs is loaded when it is made, or at the first call."""

        def refuse(*args: Any, **_: Any) -> Any:
            raise AssertionError(f"route() went outside of its request: {args[:1]!r}")

        first = self._decisions(router)
        with monkeypatch.context() as closed:
            closed.setattr(builtins, "open", refuse)
            closed.setattr(socket.socket, "connect", refuse)
            second = self._decisions(router)
        self._assert_same(first, second, "with files and sockets closed")

    def test_request_is_left_as_it_is(self, router: Router) -> None:
        """A request is read, not written to."""
        for name, request in self.requests().items():
            before = copy.deepcopy(request)
            router.route(request)
            assert request == before, f"{name}: the router changed its request"

    def test_decision_does_not_quote_what_is_asked(self, router: Router) -> None:
        """Decisions go into traces and checkpoints, where prompts may not be."""
        request = RouteRequest(text=f"Why is {_CANARY} so hard to prove?", prompt=_CANARY)
        assert _CANARY not in router.route(request).model_dump_json()

    def test_many_threads_get_what_one_gets(self, router: Router) -> None:
        """One router serves all threads at once."""
        expected = self._decisions(router)
        together = threading.Barrier(_THREADS)

        def ask(_: int) -> list[Mapping[str, RouteDecision]]:
            together.wait(timeout=60)
            return [self._decisions(router) for _ in range(3)]

        with ThreadPoolExecutor(_THREADS) as pool:
            answers: Iterator[list[Mapping[str, RouteDecision]]] = pool.map(ask, range(_THREADS))
            for decisions in (one for answer in answers for one in answer):
                self._assert_same(expected, decisions, "asked by many threads")

    def _decisions(
        self, router: Router, requests: Mapping[str, RouteRequest] | None = None
    ) -> dict[str, RouteDecision]:
        asked = self.requests() if requests is None else requests
        return {name: router.route(request) for name, request in asked.items()}

    def _assert_same(
        self, first: Mapping[str, RouteDecision], second: Mapping[str, RouteDecision], when: str
    ) -> None:
        for name, decision in first.items():
            assert second[name] == decision, f"{name}: another decision when {when}"
