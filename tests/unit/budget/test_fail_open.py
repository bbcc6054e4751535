"""A ledger that goes on without its store: a cap of its own, and nothing lost when it is back."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.budget import (
    NOTHING,
    Account,
    Amounts,
    Denial,
    FailOpenLedger,
    Lease,
    Limits,
    Note,
)
from langchain_hybridflow.errors import ConfigurationError, LedgerError, LedgerUnavailable
from langchain_hybridflow.testing import ManualClock, OutageLedger

CALL = Amounts(cloud_calls=1)
TEAM = Account("team", "team", Limits(cloud_calls=100))
CAP = Limits(cloud_calls=3)


class Bench:
    """A ledger over a store that can be switched off, and a clock; called by either face."""

    def __init__(self, prefix: str, cap: Limits = CAP) -> None:
        self.store = OutageLedger()
        self.clock = ManualClock()
        self.ledger = FailOpenLedger(self.store, cap, retry_s=5.0, clock=self.clock)
        self.prefix = prefix

    async def do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        answer = getattr(self.ledger, f"{self.prefix}{method}")(*args, **kwargs)
        return await answer if asyncio.iscoroutine(answer) else answer

    async def reserve(self, name: str, account: Account = TEAM) -> Lease | Denial:
        answer: Lease | Denial = await self.do("reserve", name, CALL, accounts=[account], ttl_s=60)
        return answer

    def turn(self, state: Literal["up", "down", "deaf"]) -> None:
        self.store.state = state
        self.clock.advance(5.0)  # after this time the store is asked again

    def booked(self, account: Account = TEAM) -> int:
        """What the store itself says was spent."""
        return self.store.ledger.snapshot([account])[0].used.cloud_calls

    def held(self) -> int:
        return self.store.ledger.snapshot([TEAM])[0].held.cloud_calls


@pytest.fixture(params=["", "a"], ids=["sync", "async"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


async def test_store_is_the_ledger_as_long_as_it_answers(bench: Bench) -> None:
    lease = await bench.reserve("a")
    assert isinstance(lease, Lease)
    assert bench.held() == 1
    await bench.do("extend", "a", 90.0)
    assert await bench.do("commit", "a", CALL)
    assert (bench.booked(), bench.held()) == (1, 0)
    assert (await bench.do("snapshot", [TEAM]))[0].used == CALL
    assert (await bench.do("swap_note", "team", expected_version=0, text="x")) == Note(1, "x")
    assert not (await bench.do("reconcile")).differences
    assert await bench.do("now") == pytest.approx(bench.store.now(), abs=1)
    await bench.do("close")


async def test_calls_go_on_up_to_the_cap_while_the_store_is_down(bench: Bench) -> None:
    bench.turn("down")
    for name in "abc":
        assert isinstance(await bench.reserve(name), Lease)
    denial = await bench.reserve("d")
    assert isinstance(denial, Denial)
    assert denial.scope == "fail-open cap"


async def test_what_was_spent_without_the_store_is_booked_when_it_is_back(bench: Bench) -> None:
    bench.turn("down")
    for name in "abc":
        await bench.reserve(name)
    await bench.do("commit", "a", CALL)
    await bench.do("commit", "b", Amounts(cloud_calls=2))
    await bench.do("release", "c")
    assert bench.booked() == 0
    bench.turn("up")
    await bench.do("snapshot", [TEAM])
    assert (bench.booked(), bench.held()) == (3, 0)
    assert bench.ledger.status()["unbooked"]["cloud_calls"] == 0
    assert bench.store.ledger.snapshot([TEAM])[0].overdraft == Amounts(cloud_calls=3)


async def test_late_bookings_pass_the_limits_of_their_accounts(bench: Bench) -> None:
    full = Account("full", "full", Limits(cloud_calls=0))
    bench.turn("down")
    await bench.reserve("a", full)
    await bench.do("commit", "a", CALL)
    bench.turn("up")
    assert isinstance(await bench.reserve("b", full), Denial)
    assert bench.booked(full) == 1


async def test_cap_is_not_renewed_by_every_outage(bench: Bench) -> None:
    for name in "abc":
        bench.turn("down")
        await bench.reserve(name)
        await bench.do("commit", name, CALL)
        bench.turn("up")
        await bench.do("expire")
    bench.turn("down")
    assert isinstance(await bench.reserve("d"), Denial)


async def test_lease_of_the_store_is_settled_later_when_the_store_goes_meanwhile(
    bench: Bench,
) -> None:
    await bench.reserve("a")
    await bench.reserve("b")
    bench.turn("down")
    assert await bench.do("commit", "a", CALL)
    assert await bench.do("release", "b")
    bench.turn("up")
    await bench.do("expire")
    assert (bench.booked(), bench.held()) == (1, 0)


async def test_call_is_counted_once_when_the_store_granted_it_unheard(bench: Bench) -> None:
    bench.turn("deaf")
    await bench.reserve("a")
    assert bench.held() == 1
    await bench.do("commit", "a", CALL)
    bench.turn("up")
    await bench.do("expire")
    assert (bench.booked(), bench.held()) == (1, 0)


async def test_call_is_counted_once_when_the_store_booked_it_unheard(bench: Bench) -> None:
    await bench.reserve("a")
    bench.turn("deaf")
    await bench.do("commit", "a", CALL)
    assert bench.booked() == 1
    bench.turn("up")
    await bench.do("expire")
    assert (bench.booked(), bench.held()) == (1, 0)


async def test_lease_held_here_can_be_extended_and_expires_like_any_other(bench: Bench) -> None:
    bench.turn("down")
    await bench.reserve("a")
    assert (await bench.do("extend", "a", 90.0)).accounts == (TEAM,)
    with pytest.raises(LedgerUnavailable):
        await bench.do("extend", "never-heard-of-it", 90.0)


async def test_lease_of_the_store_stays_as_it_is_when_it_cannot_be_extended(bench: Bench) -> None:
    lease = await bench.reserve("a")
    bench.turn("down")
    assert await bench.do("extend", "a", 600.0) == lease


async def test_store_that_is_down_is_left_alone_for_a_while(bench: Bench) -> None:
    bench.turn("down")
    await bench.reserve("a")
    asked = bench.store.asked
    for _ in range(5):
        await bench.do("snapshot", [TEAM])
    assert bench.store.asked == asked
    bench.clock.advance(5.0)
    await bench.do("snapshot", [TEAM])
    assert bench.store.asked == asked + 1


async def test_counters_are_those_last_seen_and_what_came_since(bench: Bench) -> None:
    await bench.reserve("before")
    await bench.do("commit", "before", CALL)
    await bench.do("snapshot", [TEAM])
    bench.turn("down")
    await bench.reserve("a")
    await bench.do("commit", "a", CALL)
    await bench.reserve("b")
    (state,) = await bench.do("snapshot", [TEAM])
    assert (state.used.cloud_calls, state.held.cloud_calls) == (2, 1)
    assert state.overdraft == CALL


async def test_nobody_writes_notes_while_the_store_is_down(bench: Bench) -> None:
    note = await bench.do("swap_note", "team", expected_version=0, text="price")
    await bench.do("snapshot", [TEAM])
    bench.turn("down")
    assert await bench.do("swap_note", "team", expected_version=1, text="other") == note
    assert await bench.do("swap_note", "new", expected_version=0, text="other") == Note()


async def test_counters_cannot_be_compared_while_the_store_is_down(bench: Bench) -> None:
    bench.turn("down")
    with pytest.raises(LedgerUnavailable):
        await bench.do("reconcile")


async def test_wrong_use_is_still_an_error(bench: Bench) -> None:
    await bench.reserve("a")
    await bench.do("commit", "a", CALL)
    with pytest.raises(LedgerError, match="before"):
        await bench.reserve("a")


async def test_close_books_what_is_late_if_it_can(bench: Bench) -> None:
    bench.turn("down")
    await bench.reserve("a")
    await bench.do("commit", "a", CALL)
    await bench.do("close")
    assert bench.booked() == 0
    bench.turn("up")
    await bench.do("close")
    assert bench.booked() == 1


async def test_close_books_what_is_late_when_the_store_is_back_before_it_is_asked_again(
    bench: Bench,
) -> None:
    bench.turn("down")
    await bench.reserve("a")
    await bench.do("commit", "a", CALL)
    bench.store.state = "up"
    await bench.do("close")
    assert bench.booked() == 1


async def test_nothing_stays_held_when_the_cap_refuses_what_the_store_granted_unheard(
    bench: Bench,
) -> None:
    bench.turn("down")
    for name in "abc":
        await bench.reserve(name)
        await bench.do("release", name)
    for name in "def":
        await bench.reserve(name)
    bench.turn("up")
    await bench.do("expire")
    bench.turn("deaf")
    assert isinstance(await bench.reserve("g"), Denial)
    assert bench.held() == 1
    bench.turn("up")
    await bench.do("expire")
    assert bench.held() == 0


async def test_refusals_of_the_cap_are_not_remembered_while_the_store_is_left_alone(
    bench: Bench,
) -> None:
    bench.turn("down")
    for number in range(9):
        await bench.reserve(f"{number}")
    bench.turn("up")
    asked = bench.store.asked
    await bench.do("expire")
    assert bench.store.asked == asked + 1


async def test_time_is_not_asked_for_while_the_store_is_left_alone(bench: Bench) -> None:
    told: list[float] = []

    def now() -> float:
        told.append(bench.clock())
        raise LedgerUnavailable("memory://outage", "it has never answered")

    bench.store.now = now  # type: ignore[method-assign]
    bench.turn("down")
    for name in "ab":
        await bench.do("now")
        await bench.reserve(name)
    assert len(told) == 1
    bench.clock.advance(5.0)
    await bench.do("now")
    assert len(told) == 2


async def test_error_does_not_grow_however_often_it_is_met(bench: Bench) -> None:
    bench.turn("down")
    for _ in range(20):
        with pytest.raises(LedgerUnavailable) as caught:
            await bench.do("reconcile")
    assert len(caught.traceback) < 20


async def test_outage_is_told_once_with_what_may_be_spent(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.turn("down")
    for name in "ab":
        await bench.reserve(name)
    bench.turn("up")
    await bench.do("expire")
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert "cloud_calls=3" in said[0]
    assert "answers again" in said[1]


async def test_status_says_what_the_store_has_not_been_told(bench: Bench) -> None:
    bench.turn("down")
    await bench.reserve("a")
    await bench.reserve("b")
    await bench.do("commit", "a", CALL)
    status = bench.ledger.status()
    assert (status["answers"], status["unbooked"]["cloud_calls"]) == (False, 1)
    assert (status["held_here"]["cloud_calls"], status["spent_without_store"]["cloud_calls"]) == (
        1,
        1,
    )


@pytest.mark.parametrize("wrong", [(Limits(), 5.0), (CAP, 0.0), (CAP, float("nan"))])
def test_ledger_is_refused_when_it_cannot_work(wrong: tuple[Limits, float]) -> None:
    with pytest.raises(ConfigurationError):
        FailOpenLedger(OutageLedger(), wrong[0], retry_s=wrong[1])


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_every_call_is_counted_exactly_once_however_the_store_comes_and_goes(
    seed: int, steps: int
) -> None:
    rng = random.Random(seed)
    bench = Bench("", Limits(cloud_calls=10_000))
    ledger, open_, spent = bench.ledger, [], 0
    for number in range(steps):
        bench.turn(rng.choice(["up", "down", "deaf"]))
        if open_ and rng.random() < 0.5:
            name = open_.pop(rng.randrange(len(open_)))
            if rng.random() < 0.7:
                ledger.commit(name, CALL)
                spent += 1
            else:
                ledger.release(name)
        elif isinstance(ledger.reserve(str(number), CALL, accounts=[TEAM], ttl_s=1e6), Lease):
            open_.append(str(number))
    bench.turn("up")
    for name in open_:
        ledger.release(name)
    ledger.close()
    assert (bench.booked(), bench.held()) == (spent, 0)
    assert ledger.status()["unbooked"] == {"usd": "0.000000", "cloud_tokens": 0, "cloud_calls": 0}
    assert not bench.store.ledger.reconcile().differences
    assert bench.store.ledger.snapshot([TEAM])[0].held == NOTHING
