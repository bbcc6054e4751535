"""Runs: more than the limit when somebody allows it, and money held for what comes later."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from langchain_hybridflow.budget import (
    Account,
    Allowance,
    Amounts,
    Budget,
    Denial,
    Lease,
    Limits,
    MemoryLedger,
    RunBudget,
    Scope,
)
from langchain_hybridflow.budget.about import about_key
from langchain_hybridflow.budget.allowance import Shortfall
from langchain_hybridflow.budget.settings import budget_from_settings, budget_settings
from langchain_hybridflow.budget.snapshot import BudgetSnapshot
from langchain_hybridflow.budget.stores.sqlite import SQLiteLedger
from langchain_hybridflow.errors import BudgetExceeded, ConfigurationError, LedgerUnavailable
from langchain_hybridflow.testing import ManualClock, OutageLedger

CALL = Amounts(cloud_tokens=100, cloud_calls=1)


class Face:
    """One of the two faces of a run, with the names of the sync one."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    async def do(self, run: RunBudget, method: str, *args: Any) -> Any:
        answer = getattr(run, f"{self.prefix}{method}")(*args)
        return await answer if asyncio.iscoroutine(answer) else answer


@pytest.fixture(params=["", "a"], ids=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


class Person:
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self, *, calls: int | None) -> None:
        self.calls = calls
        self.asked: list[dict[str, Any]] = []

    def __call__(
        self, owner: str, amounts: Amounts, *, refused: BudgetExceeded, lacking: Sequence[Shortfall]
    ) -> Allowance | None:
        limits = [one.to_json() for one in lacking]
        self.asked.append({"owner": owner, "limits": limits, "scope": refused.scope})
        if self.calls is None:
            return None
        return Allowance.covering(lacking, amounts, calls=self.calls)


async def spend(face: Face, run: RunBudget, *names: str) -> None:
    for name in names:
        await face.do(run, "commit", await face.do(run, "reserve", name, CALL), CALL)


# ------------------------------------------------------------------------- more than the limit


async def test_run_may_spend_what_was_allowed_and_not_a_call_more(face: Face) -> None:
    person = Person(calls=2)
    budget = Budget(max_cloud_calls=1, on_exhausted="ask")
    run = budget.start_run(ask=person)
    await spend(face, run, "a", "b", "c")
    with pytest.raises(BudgetExceeded) as caught:
        await face.do(run, "reserve", "d", CALL)
    assert caught.value.scope == "allowance"
    assert len(person.asked) == 1


async def test_what_was_spent_beyond_the_limit_is_seen_in_the_budget(face: Face) -> None:
    budget = Budget(max_cloud_calls=1, on_exhausted="ask")
    run = budget.start_run(ask=Person(calls=2))
    await spend(face, run, "a", "b")
    held = await face.do(run, "reserve", "c", CALL)
    state = json.loads(json.dumps(budget.snapshot()))
    assert state["cloud_calls"] == {"limit": 1, "spent": 2, "held": 1, "remaining": 0}
    assert state["allowance"] == {"usd": "0.000000", "cloud_tokens": 200, "cloud_calls": 2}
    await face.do(run, "release", held)
    assert budget.snapshot()["allowance"]["cloud_calls"] == 1


async def test_limit_that_nobody_may_lift_is_not_asked_about(face: Face) -> None:
    budget = Budget(
        max_cloud_calls=2,
        per_run=Limits(cloud_calls=1),
        on_exhausted="ask",
        liftable=["run"],
    )
    person = Person(calls=5)
    run = budget.start_run(ask=person)
    await spend(face, run, "a", "b")  # the second one is beyond the run's own limit
    with pytest.raises(BudgetExceeded) as caught:
        await face.do(run, "reserve", "c", CALL)
    assert caught.value.scope == "budget"
    assert [one["scope"] for asked in person.asked for one in asked["limits"]] == ["run"]
    with pytest.raises(BudgetExceeded):
        await face.do(budget.start_run(ask=person), "reserve", "a", CALL)
    assert len(person.asked) == 1


@pytest.mark.parametrize("names", ["run", ["rnu"], ["user"]])
def test_limits_to_lift_are_those_of_known_scopes(names: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"liftable.*'budget', 'run'"):
        Budget(liftable=names)


@pytest.mark.parametrize("names", [None, (), ("run",)])
def test_limits_to_lift_are_written_down(names: Any) -> None:
    plain = json.loads(json.dumps(budget_settings(Budget(liftable=names))))
    assert budget_from_settings(plain).liftable == names


async def test_other_runs_are_refused_all_the_more(face: Face) -> None:
    budget = Budget(max_cloud_calls=1, on_exhausted="ask")
    await spend(face, budget.start_run(ask=Person(calls=5)), "a", "b")
    nobody = Person(calls=None)
    with pytest.raises(BudgetExceeded) as caught:
        await face.do(budget.start_run(ask=nobody), "reserve", "a", CALL)
    assert caught.value.scope == "budget"
    assert len(nobody.asked) == 1


async def test_refused_run_is_not_asked_for_again_by_itself(face: Face) -> None:
    person = Person(calls=None)
    run = Budget(max_cloud_calls=0, on_exhausted="ask").start_run(ask=person)
    with pytest.raises(BudgetExceeded):
        await face.do(run, "reserve", "a/1", CALL)
    assert person.asked == [
        {
            "owner": "a",
            "scope": "budget",
            "limits": [
                {
                    "scope": "budget",
                    "window": None,
                    "dimension": "cloud_calls",
                    "requested": 1,
                    "remaining": 0,
                    "limit": 0,
                }
            ],
        }
    ]


async def test_all_limits_in_the_way_are_named_and_lifted_and_no_others(face: Face) -> None:
    person = Person(calls=9)
    budget = Budget(
        max_cloud_tokens=50,
        scopes=[Scope("user", Limits(cloud_calls=0), window="day")],
        per_run=Limits(cloud_calls=2),
        on_exhausted="ask",
    )
    values = budget.scope_values({"configurable": {"user_id": "ada"}})
    run = budget.start_run(scope_values=values, ask=person)
    await spend(face, run, "a", "b")
    assert [(one["scope"], one["window"]) for one in person.asked[0]["limits"]] == [
        ("budget", None),
        ("user", "day"),
    ]
    with pytest.raises(BudgetExceeded) as caught:
        await face.do(run, "reserve", "c", CALL)
    assert caught.value.scope == "run"


async def test_allowance_counts_on_when_the_run_is_resumed(face: Face) -> None:
    budget = Budget(max_cloud_calls=0, on_exhausted="ask")
    first = budget.start_run("one", ask=Person(calls=1))
    await spend(face, first, "a")
    allowance = Allowance(("budget",), CALL)
    again = budget.start_run("one")
    again.allow(Allowance.from_json(json.loads(json.dumps(allowance.to_json()))))
    with pytest.raises(BudgetExceeded, match="allowance"):
        await face.do(again, "reserve", "b", CALL)


async def test_router_sees_what_is_left_of_the_allowance(face: Face) -> None:
    run = Budget(max_cloud_calls=0).start_run()
    run.allow(Allowance(("budget",), Amounts(cloud_tokens=500, cloud_calls=5)))
    snapshot: BudgetSnapshot = await face.do(run, "snapshot")
    assert (snapshot.cloud_calls.remaining, snapshot.exhausted) == (5, False)


async def test_same_reservation_is_the_same_lease_beyond_the_limit_too(face: Face) -> None:
    run = Budget(max_cloud_calls=0).start_run(ask=Person(calls=5))
    lease = await face.do(run, "reserve", "a", CALL)
    assert await face.do(run, "reserve", "a", CALL) == lease
    assert run.snapshot().run == CALL


async def test_whatever_the_asking_raises_leaves_nothing_held(face: Face) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    budget = Budget(max_cloud_calls=0)
    with pytest.raises(KeyboardInterrupt):
        await face.do(budget.start_run(ask=interrupted), "reserve", "a", CALL)
    assert budget.snapshot()["cloud_calls"]["held"] == 0


# ------------------------------------------------------------------------- earmarks


async def test_earmark_keeps_others_from_spending_it(face: Face) -> None:
    budget = Budget(max_cloud_calls=2)
    run = budget.start_run()
    assert await face.do(run, "earmark", "last", CALL)
    await spend(face, run, "first/1")
    with pytest.raises(BudgetExceeded):
        await face.do(run, "reserve", "second/1", CALL)
    with pytest.raises(BudgetExceeded):
        await face.do(budget.start_run(), "reserve", "last/1", CALL)
    await spend(face, run, "last/1")
    assert budget.snapshot()["cloud_calls"] == {
        "limit": 2,
        "spent": 2,
        "held": 0,
        "remaining": 0,
    }


async def test_earmark_is_taken_over_in_one_step(face: Face) -> None:
    ledger = OutageLedger()
    run = Budget(max_cloud_calls=1, ledger=ledger).start_run()
    await face.do(run, "earmark", "last", Amounts(cloud_tokens=900, cloud_calls=1))
    asked = ledger.asked
    lease = await face.do(run, "reserve", "last/0-cloud", CALL)
    assert ledger.asked == asked + 1
    assert lease.amounts.cloud_tokens == 900
    await face.do(run, "commit", lease, CALL)
    assert run.snapshot().run == CALL


async def test_earmark_that_is_too_small_is_given_back_before_the_real_thing(face: Face) -> None:
    budget = Budget(max_cloud_tokens=150)
    run = budget.start_run()
    await face.do(run, "earmark", "last", Amounts(cloud_tokens=99))
    await spend(face, run, "last/1")
    assert budget.snapshot()["cloud_tokens"]["held"] == 0


async def test_earmark_beyond_the_limit_is_not_held_and_no_error(face: Face) -> None:
    run = Budget(max_cloud_calls=0).start_run()
    assert not await face.do(run, "earmark", "last", CALL)
    assert not await face.do(run, "earmark", "free", Amounts())


async def test_earmark_is_held_once_however_often_it_is_asked_for(face: Face) -> None:
    budget = Budget(max_cloud_calls=3)
    run = budget.start_run()
    for _ in range(2):
        assert await face.do(run, "earmark", "last", CALL)
    assert budget.snapshot()["cloud_calls"]["held"] == 1


async def test_earmark_goes_back_when_nobody_wants_it(face: Face) -> None:
    budget = Budget(max_cloud_calls=1)
    run = budget.start_run()
    await face.do(run, "earmark", "last", CALL)
    for _ in range(2):
        await face.do(run, "drop_earmarks")
    assert budget.snapshot()["cloud_calls"] == {"limit": 1, "spent": 0, "held": 0, "remaining": 1}


async def test_edge_call_leaves_the_earmark_alone(face: Face) -> None:
    budget = Budget(max_cloud_calls=1)
    run = budget.start_run()
    await face.do(run, "earmark", "last", CALL)
    await face.do(run, "reserve", "last/0-edge", Amounts())
    assert budget.snapshot()["cloud_calls"]["held"] == 1


async def test_earmark_is_free_to_its_owner_and_to_nobody_else(face: Face) -> None:
    run = Budget(max_cloud_calls=1).start_run()
    await face.do(run, "earmark", "last", CALL)
    assert (await face.do(run, "snapshot", "last")).cloud_calls.remaining == 1
    assert (await face.do(run, "snapshot", "first")).cloud_calls.remaining == 0
    assert (await face.do(run, "snapshot")).exhausted
    assert run.snapshot().run == Amounts()


async def test_earmark_does_not_expire_while_the_run_goes_on(face: Face) -> None:
    clock = ManualClock()
    budget = Budget(max_cloud_calls=9, lease_ttl_s=60, clock=clock)
    run = budget.start_run()
    await face.do(run, "earmark", "last", CALL)
    for number in range(5):
        clock.advance(40)
        await spend(face, run, f"call-{number}/1")
    assert budget.snapshot()["cloud_calls"]["held"] == 1
    await spend(face, run, "last/1")
    assert budget.snapshot()["cloud_calls"]["spent"] == 6


async def test_earmark_of_a_run_that_died_expires(face: Face) -> None:
    clock = ManualClock()
    budget = Budget(ledger=MemoryLedger(clock, "refund"), max_cloud_calls=1, lease_ttl_s=60)
    await face.do(budget.start_run(), "earmark", "last", CALL)
    clock.advance(60)
    await spend(face, budget.start_run(), "a")


async def test_earmark_that_expired_is_bought_anew(face: Face) -> None:
    clock = ManualClock()
    budget = Budget(ledger=MemoryLedger(clock, "refund"), max_cloud_calls=1, lease_ttl_s=60)
    run = budget.start_run()
    await face.do(run, "earmark", "last", CALL)
    clock.advance(60)
    await spend(face, run, "last/1")
    assert budget.snapshot()["cloud_calls"]["spent"] == 1


async def test_earmark_stays_when_the_store_goes_while_it_is_taken_over(face: Face) -> None:
    ledger = OutageLedger()
    budget = Budget(max_cloud_calls=1, ledger=ledger)
    run = budget.start_run()
    await face.do(run, "earmark", "last", CALL)
    ledger.state = "down"
    with pytest.raises(LedgerUnavailable):
        await face.do(run, "reserve", "last/1", CALL)
    ledger.state = "up"
    await spend(face, run, "last/2")
    assert budget.snapshot()["cloud_calls"]["held"] == 0


async def test_dropping_is_no_error_when_the_store_is_away(face: Face) -> None:
    ledger = OutageLedger()
    run = Budget(max_cloud_calls=1, ledger=ledger).start_run()
    await face.do(run, "earmark", "last", CALL)
    ledger.state = "down"
    await face.do(run, "drop_earmarks")


async def test_earmark_does_not_expire_while_others_work_for_free(face: Face) -> None:
    clock = ManualClock()
    budget = Budget(max_cloud_calls=9, lease_ttl_s=60, clock=clock, ledger=MemoryLedger(clock))
    run = budget.start_run()
    await face.do(run, "earmark", "last", CALL)
    for number in range(5):
        clock.advance(40)
        await face.do(run, "reserve", f"edge-{number}/1", Amounts())
    assert budget.snapshot()["cloud_calls"]["held"] == 1


async def test_earmark_does_not_expire_while_others_are_routed(face: Face) -> None:
    clock = ManualClock()
    budget = Budget(max_cloud_calls=9, lease_ttl_s=60, clock=clock, ledger=MemoryLedger(clock))
    run = budget.start_run()
    await face.do(run, "earmark", "last", CALL)
    for _ in range(5):
        clock.advance(40)
        await face.do(run, "snapshot", "first")
    assert budget.snapshot()["cloud_calls"]["held"] == 1


async def test_earmark_that_was_charged_when_it_expired_pays_for_the_call(face: Face) -> None:
    clock = ManualClock()
    budget = Budget(ledger=MemoryLedger(clock), max_cloud_calls=1, lease_ttl_s=60)
    run = budget.start_run()
    await face.do(run, "earmark", "last", CALL)
    clock.advance(60)
    await spend(face, run, "last/1")
    assert budget.snapshot()["cloud_calls"] == {"limit": 1, "spent": 1, "held": 0, "remaining": 0}


async def test_earmark_of_a_window_that_is_over_is_bought_anew(face: Face) -> None:
    clock = ManualClock()
    ledger = MemoryLedger(clock, epoch_s=0.0)
    budget = Budget(max_cloud_calls=1, window="last 1m", ledger=ledger)
    run = budget.start_run()
    await face.do(run, "earmark", "last", CALL)
    clock.advance(66)
    await spend(face, budget.start_run(), "other")
    with pytest.raises(BudgetExceeded):
        await face.do(run, "reserve", "last/1", CALL)


# ------------------------------------------------------------------------- windows end


class MeanwhileLedger(MemoryLedger):
    """Something happens between the moment when a run reads the clock and its reservation."""

    meanwhile: Callable[[], Any] | None = None

    def reserve(
        self, lease_id: str, amounts: Amounts, *, accounts: Sequence[Account], ttl_s: float
    ) -> Lease | Denial:
        todo, self.meanwhile = self.meanwhile, None
        if todo is not None:
            todo()
        return super().reserve(lease_id, amounts, accounts=accounts, ttl_s=ttl_s)


async def test_rolling_limit_is_not_spent_twice_where_two_buckets_meet(face: Face) -> None:
    clock = ManualClock()
    ledger = MeanwhileLedger(clock, epoch_s=4.0)
    budget = Budget(max_cloud_calls=1, window="last 1m", ledger=ledger)
    late, prompt = budget.start_run(), budget.start_run()

    def cross() -> None:
        clock.advance(2)
        prompt.commit(prompt.reserve("a", CALL), CALL)

    ledger.meanwhile = cross
    with pytest.raises(BudgetExceeded):
        await face.do(late, "reserve", "a", CALL)
    assert budget.snapshot()["cloud_calls"]["spent"] == 1


async def test_call_is_held_in_the_window_of_now_when_the_clock_had_stood_still(
    face: Face,
) -> None:
    clock = ManualClock()
    ledger = MeanwhileLedger(clock, epoch_s=0.0)
    budget = Budget(max_cloud_calls=1, window="1h", ledger=ledger)
    run = budget.start_run()
    ledger.meanwhile = lambda: clock.advance(3_600)
    lease = await face.do(run, "reserve", "a", CALL)
    assert budget.snapshot()["cloud_calls"]["held"] == 1
    assert await face.do(run, "reserve", "a", CALL) == lease
    await face.do(run, "commit", lease, CALL)
    assert budget.snapshot()["cloud_calls"]["spent"] == 1
    assert ledger.reconcile().differences == ()


async def test_refusal_of_a_window_that_is_over_does_not_count(face: Face) -> None:
    clock = ManualClock()
    ledger = MeanwhileLedger(clock, epoch_s=0.0)
    budget = Budget(max_cloud_calls=1, window="1h", ledger=ledger)
    await spend(face, budget.start_run(), "a")
    ledger.meanwhile = lambda: clock.advance(3_600)
    await spend(face, budget.start_run(), "b")
    assert budget.snapshot()["cloud_calls"]["spent"] == 1


async def test_open_reservation_is_the_same_lease_though_the_window_has_ended(face: Face) -> None:
    clock = ManualClock()
    budget = Budget(max_cloud_calls=9, window="1h", ledger=MemoryLedger(clock, epoch_s=3_599.0))
    run = budget.start_run()
    lease = await face.do(run, "reserve", "a", CALL)
    clock.advance(2)
    assert await face.do(run, "reserve", "a", CALL) == lease
    assert run.snapshot().run == CALL


async def test_limits_are_told_to_the_store_before_anything_is_held(
    face: Face, tmp_path: Path
) -> None:
    ledger = SQLiteLedger(tmp_path / "budget.db")
    await face.do(Budget(max_cloud_calls=3, ledger=ledger).start_run(), "reserve", "a", CALL)
    (state,) = ledger.snapshot([Account(about_key("budget"), "about")])
    await ledger.aclose()
    assert state.note is not None
    assert json.loads(state.note.text)["own"]["limits"] == [None, None, 3]


# ------------------------------------------------------------------------- the store goes


async def test_grant_that_nobody_heard_of_is_given_back_by_the_next_run(face: Face) -> None:
    ledger = OutageLedger()
    budget = Budget(max_cloud_calls=2, ledger=ledger)
    ledger.state = "deaf"
    with pytest.raises(LedgerUnavailable):
        await face.do(budget.start_run(), "reserve", "a", CALL)
    ledger.state = "up"
    assert budget.snapshot()["cloud_calls"]["held"] == 1
    await spend(face, budget.start_run(), "a")
    assert budget.snapshot()["cloud_calls"] == {"limit": 2, "spent": 1, "held": 0, "remaining": 1}


async def test_call_whose_grant_was_not_heard_can_be_tried_again(face: Face) -> None:
    ledger = OutageLedger()
    budget = Budget(max_cloud_calls=1, ledger=ledger)
    run = budget.start_run()
    ledger.state = "deaf"
    with pytest.raises(LedgerUnavailable):
        await face.do(run, "reserve", "a", CALL)
    ledger.state = "up"
    await spend(face, run, "a")
    assert budget.snapshot()["cloud_calls"] == {"limit": 1, "spent": 1, "held": 0, "remaining": 0}


async def test_cost_that_could_not_be_booked_is_booked_by_the_next_run(face: Face) -> None:
    ledger = OutageLedger()
    budget = Budget(max_cloud_calls=9, ledger=ledger)
    run = budget.start_run()
    lease = await face.do(run, "reserve", "a", CALL)
    ledger.state = "down"
    await face.do(run, "commit", lease, CALL)
    ledger.state = "up"
    await spend(face, budget.start_run(), "a")
    assert budget.snapshot()["cloud_calls"] == {"limit": 9, "spent": 2, "held": 0, "remaining": 7}


async def test_settlement_that_the_store_refuses_is_in_nobodys_way(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = OutageLedger()
    budget = Budget(max_cloud_calls=9, ledger=ledger)
    run = budget.start_run()
    lease = await face.do(run, "reserve", "a", CALL)
    ledger.state = "down"
    await face.do(run, "commit", lease, CALL)
    ledger.state = "up"
    ledger.commit(lease.id, Amounts(cloud_tokens=1, cloud_calls=1))  # another cost
    await spend(face, budget.start_run(), "a")
    assert "is not settled" in caplog.text
    assert budget.snapshot()["cloud_calls"]["spent"] == 2


async def test_answer_is_not_lost_when_its_cost_cannot_be_booked(face: Face) -> None:
    ledger = OutageLedger()
    budget = Budget(max_cloud_calls=9, ledger=ledger)
    run = budget.start_run()
    lease = await face.do(run, "reserve", "a", CALL)
    other = await face.do(run, "reserve", "b", CALL)
    ledger.state = "down"
    await face.do(run, "commit", lease, CALL)
    await face.do(run, "release", other)
    with pytest.raises(LedgerUnavailable):  # and nothing new is bought
        await face.do(run, "reserve", "c", CALL)
    ledger.state = "up"
    await spend(face, run, "d")
    assert budget.snapshot()["cloud_calls"] == {"limit": 9, "spent": 2, "held": 0, "remaining": 7}
    assert run.snapshot().run == CALL + CALL


async def test_cost_that_was_booked_unheard_is_booked_once(face: Face) -> None:
    ledger = OutageLedger()
    budget = Budget(max_cloud_calls=9, ledger=ledger)
    run = budget.start_run()
    lease = await face.do(run, "reserve", "a", CALL)
    ledger.state = "deaf"
    await face.do(run, "commit", lease, CALL)
    ledger.state = "up"
    await face.do(run, "drop_earmarks")
    assert budget.snapshot()["cloud_calls"]["spent"] == 1


async def test_cost_that_is_never_booked_is_charged_in_full(face: Face) -> None:
    clock = ManualClock()
    ledger = OutageLedger(MemoryLedger(clock))
    budget = Budget(max_cloud_calls=9, ledger=ledger, lease_ttl_s=60)
    run = budget.start_run()
    lease = await face.do(run, "reserve", "a", CALL)
    ledger.state = "down"
    await face.do(run, "commit", lease, Amounts(cloud_tokens=1, cloud_calls=1))
    ledger.state = "up"
    clock.advance(60)
    assert budget.snapshot()["cloud_tokens"]["spent"] == 100
