"""The conformance suite of routers catches the mistakes that routers are known for."""

from __future__ import annotations

import inspect
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from langchain_hybridflow.routing import AlwaysEdge, RouteDecision, Router, RouteRequest, Tier
from langchain_hybridflow.testing import RouterConformance


def decided(tier: Tier = "edge", **fields: Any) -> RouteDecision:
    return RouteDecision(**({"tier": tier, "reason": "so", "router": "faulty"} | fields))


class Unseeded:
    def route(self, request: RouteRequest) -> RouteDecision:
        return decided(score=random.random())


class Counting:
    def __init__(self) -> None:
        self.asked = 0

    def route(self, request: RouteRequest) -> RouteDecision:
        self.asked += 1
        return decided("cloud" if self.asked % 2 else "edge")


class LearningWhileItRoutes:
    """The first decision about anything is repeated, so asking twice shows nothing."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def route(self, request: RouteRequest) -> RouteDecision:
        return decided(score=self.known.setdefault(repr(request), len(self.known)))


class LookingAtTheClock:
    def __init__(self) -> None:
        self.made_at = time.time()

    def route(self, request: RouteRequest) -> RouteDecision:
        return decided("cloud" if time.time() - self.made_at > 3_600 else "edge")


class ReadingAFile:
    def route(self, request: RouteRequest) -> RouteDecision:
        with open(__file__) as file:  # noqa: PTH123
            return decided(score=len(file.read()))


class NotThreadSafe:
    """Keeps the request in itself while it thinks."""

    def __init__(self) -> None:
        self.request = RouteRequest(text="")

    def route(self, request: RouteRequest) -> RouteDecision:
        self.request = request
        time.sleep(1e-4)
        return decided(score=float(len(self.request.text)))


class Async:
    async def route(self, request: RouteRequest) -> RouteDecision:
        return decided()


class Quoting:
    def route(self, request: RouteRequest) -> RouteDecision:
        return decided(reason=f"asked {request.text!r}")


class Inventive:
    def route(self, request: RouteRequest) -> RouteDecision:
        return RouteDecision.model_construct(
            tier="fog", reason="so", router="faulty", allowed=("edge", "cloud")
        )


class Contradicting:
    def route(self, request: RouteRequest) -> RouteDecision:
        return decided("cloud", allowed=("edge",))


class Infinite:
    def route(self, request: RouteRequest) -> RouteDecision:
        return RouteDecision.model_construct(
            tier="edge", reason="so", router="faulty", allowed=("edge",), score=float("nan")
        )


class Undecided:
    def route(self, request: RouteRequest) -> Any:
        return None


class Silent:
    def route(self, request: RouteRequest) -> RouteDecision:
        return decided(reason="")


class NeedingEverything:
    def route(self, request: RouteRequest) -> RouteDecision:
        return decided(score=float(request.difficulty + 1))  # type: ignore[operator]


class NeedingCleanText:
    def route(self, request: RouteRequest) -> RouteDecision:
        return decided(score=float(len(request.text.encode())))


class DividingByTheLimit:
    def route(self, request: RouteRequest) -> RouteDecision:
        calls = request.budget.cloud_calls
        return decided(score=calls.spent / calls.limit if calls.limit is not None else 0.0)


class WritingIntoTheRequest:
    def route(self, request: RouteRequest) -> RouteDecision:
        request.expected_cost_usd["edge"] = None
        return decided()


def rules_of(case: RouterConformance) -> Iterator[Callable[..., None]]:
    for name, test in inspect.getmembers(case, callable):
        if name.startswith("test_"):
            yield test


def failures(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    class Case(RouterConformance):
        def make_router(self) -> Router:
            return make()  # type: ignore[no-any-return]

    failed = set()
    for test in rules_of(Case()):
        given = {"router": make(), "monkeypatch": monkeypatch}
        wanted = inspect.signature(test).parameters
        try:
            test(**{name: given[name] for name in wanted})
        except Exception:  # noqa: BLE001 - whatever it is, the fault was found
            failed.add(test.__name__)
    return failed


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("faulty", "found_by"),
    [
        (Unseeded, "test_decision_does_not_depend_on_global_chance"),
        (Counting, "test_decision_does_not_depend_on_what_was_asked_before"),
        (LearningWhileItRoutes, "test_decision_does_not_depend_on_what_was_asked_before"),
        (LookingAtTheClock, "test_decision_does_not_depend_on_the_clock"),
        (ReadingAFile, "test_route_reads_no_file_and_calls_nobody"),
        (NotThreadSafe, "test_many_threads_get_what_one_gets"),
        (Async, "test_decision_is_one"),
        (Quoting, "test_decision_does_not_quote_what_is_asked"),
        (Inventive, "test_tier_is_allowed"),
        (Contradicting, "test_tier_is_allowed"),
        (Infinite, "test_decision_survives_json"),
        (Undecided, "test_decision_is_one"),
        (Silent, "test_decision_is_one"),
        (NeedingEverything, "test_decision_is_one"),
        (NeedingCleanText, "test_decision_is_one"),
        (DividingByTheLimit, "test_decision_is_one"),
        (WritingIntoTheRequest, "test_request_is_left_as_it_is"),
        (object, "test_router_satisfies_the_protocol"),
    ],
)
def test_suite_catches_a_router_that_breaks_the_contract(
    faulty: Callable[[], Any], found_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found_by in failures(faulty, monkeypatch)


def test_suite_passes_a_router_that_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failures(AlwaysEdge, monkeypatch) == set()


def test_suite_leaves_chance_clock_and_files_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (random.getstate(), time.time, open)
    failures(Unseeded, monkeypatch)
    failures(AlwaysEdge, monkeypatch)
    assert (time.time, open) == before[1:]
    assert Path(__file__).read_text()
    assert threading.active_count() < 50


def test_suite_says_what_is_missing_when_there_is_no_router() -> None:
    with pytest.raises(NotImplementedError, match="make_router"):
        RouterConformance().make_router()
