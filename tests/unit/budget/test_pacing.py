"""The shadow price: how it reacts, what it does not depend on, and that all processes share it."""

from __future__ import annotations

import json
import logging
import math
import random
import threading
from dataclasses import replace
from typing import Any

import pytest

from langchain_hybridflow.budget import (
    Account,
    AccountState,
    Amounts,
    Budget,
    Denial,
    Limits,
    MemoryLedger,
    Note,
    Pacing,
    Scope,
    Window,
)
from langchain_hybridflow.budget.dual import MAX_PRICE, Plan, PriceState, Reading, advance
from langchain_hybridflow.budget.pacing import Paced, Pacer, price_from_note, price_to_note
from langchain_hybridflow.errors import ConfigurationError, LedgerUnavailable
from langchain_hybridflow.testing import ManualClock

DAY_S = 86_400.0
MIDNIGHT_S = 20_000 * DAY_S
DAY = Plan(Window("day"))


class Town:
    """Calls that come to several processes with one ledger; the cloud for those worth its price."""

    def __init__(
        self,
        *,
        limits: Limits,
        window: Window | None = DAY.window,
        pacing: Pacing | None = None,
        processes: int = 1,
        scale: int = 1,
    ) -> None:
        self.clock = ManualClock()
        self.ledger = CountingLedger(self.clock, epoch_s=MIDNIGHT_S)
        self.limits, self.window, self.scale = limits, window, scale
        self.pacers = [Pacer(pacing or Pacing()) for _ in range(processes)]
        self.calls = 0

    @property
    def paced(self) -> Paced:
        if self.window is None:
            return Paced(Account("town", "budget", self.limits), None, "pace/town")
        key, earlier = self.window.keys(self.ledger.now())
        keys = tuple(f"town/{one}" for one in earlier)
        account = Account(f"town/{key}", "budget", self.limits, keys)
        return Paced(account, self.window, "pace/town")

    def price(self, process: int = 0) -> PriceState:
        """Route one call as far as its price."""
        pacer, paced = self.pacers[process], self.paced
        update = pacer.see(paced, self.ledger.snapshot(paced.reads))
        if update is not None:
            pacer.wrote(update, self.ledger.swap_note(*update.ask.args, **update.ask.kwargs))
        return pacer.state(paced)

    def buy(self, micros: int) -> bool:
        self.calls += 1
        amounts = Amounts(usd_micros=micros, cloud_tokens=500, cloud_calls=1)
        account = self.paced.account
        answer = self.ledger.reserve(str(self.calls), amounts, accounts=[account], ttl_s=60)
        if isinstance(answer, Denial):
            return False
        self.ledger.commit(answer.id, amounts)
        return True

    def call(self, gain: float, micros: int, *, process: int = 0) -> bool:
        """Route one call: is it worth it, and is there money?"""
        price = self.price(process)
        return gain > price.per_usd * micros * 1e-6 and self.buy(micros)

    def day(self, calls: int, *, seed: int = 0, cost: int = 1_000) -> list[bool]:
        """A steady day of calls that gain 0 to 1 and cost 0.2 to 1.8 times `cost`."""
        rng = random.Random(seed)
        bought = []
        for _ in range(calls):
            gain, micros = rng.random(), self.scale * int(cost * (0.2 + 1.6 * rng.random()))
            bought.append(self.call(gain, micros, process=rng.randrange(len(self.pacers))))
            self.clock.advance(DAY_S / calls)
        return bought


class CountingLedger(MemoryLedger):
    """Counts the notes written."""

    notes = 0

    def swap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        self.notes += 1
        return super().swap_note(key, expected_version=expected_version, text=text, keep_s=keep_s)


def reading(
    *, at_s: float, spent: int, calls: int, routed: int, limit: int = 1_000_000, held: int = 0
) -> Reading:
    account = Account("a", "budget", Limits(usd=f"{limit}e-6"))
    state = AccountState(
        account,
        used=Amounts(usd_micros=spent, cloud_calls=calls),
        held=Amounts(usd_micros=held, cloud_calls=1 if held else 0),
        at=MIDNIGHT_S + at_s,
    )
    return Reading(state, state, routed)


def at_noon() -> PriceState:
    """A price after half a day on which 1,000 calls were routed and half the limit was spent."""
    state = None
    for hour in range(13):
        now = reading(
            at_s=hour * 3_600, spent=41_666 * hour, calls=42 * hour, routed=83 if hour else 0
        )
        state = advance(state, now, DAY)
    assert state is not None
    return state


# ------------------------------------------------------------------------------- how it reacts


def test_price_rises_when_more_is_spent_than_planned() -> None:
    before = at_noon()
    after = advance(before, reading(at_s=44_000, spent=540_000, calls=540, routed=20), DAY)
    assert after.price > before.price


def test_price_falls_when_less_is_spent_than_planned() -> None:
    before = at_noon()
    after = advance(before, reading(at_s=44_000, spent=500_000, calls=505, routed=20), DAY)
    assert after.price < before.price


def test_price_is_the_higher_the_more_was_spent() -> None:
    spends = [500_000, 510_000, 530_000, 560_000, 700_000]
    prices = [
        advance(at_noon(), reading(at_s=44_000, spent=spent, calls=520, routed=20), DAY).price
        for spent in spends
    ]
    assert prices == sorted(prices)
    assert prices[0] < prices[-1]


def test_price_counts_open_calls_at_what_a_call_costs_and_not_at_their_worst_case() -> None:
    idle = advance(at_noon(), reading(at_s=44_000, spent=505_000, calls=520, routed=20), DAY)
    busy = reading(at_s=44_000, spent=505_000, calls=520, routed=20, held=20_000)
    one_open_call = advance(at_noon(), busy, DAY)
    assert idle.price < one_open_call.price < 1.2 * idle.price


def test_price_is_higher_when_the_last_of_the_limit_cannot_be_reserved() -> None:
    small = reading(at_s=44_000, spent=505_000, calls=520, routed=20, held=1_000)
    large = reading(at_s=44_000, spent=505_000, calls=520, routed=20, held=200_000)
    assert advance(at_noon(), large, DAY).price > 1.2 * advance(at_noon(), small, DAY).price


def test_price_is_zero_when_the_budget_does_not_bind() -> None:
    town = Town(limits=Limits(usd=100))
    assert all(town.day(400)[100:])
    assert town.price().price == 0.0


def test_price_doubles_within_64_calls_when_everything_is_bought_at_once() -> None:
    town = Town(limits=Limits(usd=1))
    for seed in range(2):
        town.day(3_000, seed=seed)
    before = town.price().price
    bought = 0
    while town.price().price < 2 * before:
        town.clock.advance(0.5)
        town.buy(1_000)
        bought += 1
    assert 0 < bought < 64


def test_price_does_not_oscillate_when_traffic_is_steady() -> None:
    town = Town(limits=Limits(usd=1))
    town.day(3_000)
    logs = []
    rng = random.Random(5)
    for _ in range(2_400):
        town.call(rng.random(), int(200 + 1_600 * rng.random()))
        town.clock.advance(DAY_S / 3_000)
        logs.append(math.log(town.pacers[0].state(town.paced).price))
    mean = sum(logs) / len(logs)
    assert math.sqrt(sum((log - mean) ** 2 for log in logs) / len(logs)) < 0.35


def test_price_leaves_something_for_the_end_of_the_window() -> None:
    town = Town(limits=Limits(usd=1))
    town.day(2_000)
    bought = town.day(2_000, seed=1)
    middle = sum(bought[800:1_200]) / 400
    assert sum(bought[1_800:]) / 200 > 0.6 * middle


def test_price_spends_what_there_is_until_the_window_ends() -> None:
    town = Town(limits=Limits(usd=1))
    town.day(2_000)
    bought = town.day(2_000, seed=1)
    spent = town.ledger.snapshot([replace(town.paced.account, key=yesterday(town))])[0].used
    assert spent.usd_micros > 960_000
    assert sum(bought) > 700


def yesterday(town: Town) -> str:
    key, _ = Window("day").keys(town.ledger.now() - DAY_S)
    return f"town/{key}"


def test_price_is_that_of_yesterday_when_a_window_begins() -> None:
    town = Town(limits=Limits(usd=1))
    town.day(2_000)
    before = town.pacers[0].state(town.paced)
    after = town.price()  # at midnight
    assert after.key != before.key
    assert after.price == pytest.approx(before.price, rel=0.5)
    assert after.call_micros == pytest.approx(before.call_micros, rel=0.05)


def test_price_recovers_overnight_when_the_limit_was_used_up() -> None:
    town = Town(limits=Limits(usd=1))
    town.day(2_000)
    usual = town.price().price
    for _ in range(40):  # somebody spends it all, whatever it is worth
        town.buy(50_000)
        town.price()
    assert town.price().price > 2 * usual
    town.clock.advance(DAY_S)
    bought = town.day(2_000, seed=2)
    assert sum(bought[:200]) > 60


def test_price_stays_within_its_bounds_when_the_limit_is_zero() -> None:
    state = None
    for hour in range(24):
        now = reading(at_s=hour * 3_600, spent=hour * 1_000, calls=hour, routed=9, limit=0)
        state = advance(state, now, DAY)
        assert 0 <= state.price <= MAX_PRICE


@pytest.mark.parametrize(
    "limits",
    [Limits(cloud_calls=1_000), Limits(cloud_tokens=500_000), Limits(100, 10**9, 1_000)],
    ids=["calls", "tokens", "calls are the tightest"],
)
def test_price_paces_whichever_limit_is_the_tightest(limits: Limits) -> None:
    town = Town(limits=limits)
    town.day(2_000)
    bought = town.day(2_000, seed=1)
    assert sum(bought) == pytest.approx(1_000, rel=0.05)
    assert sum(bought[1_800:]) > 50


# ----------------------------------------------------------------------- what it does not depend on


@pytest.mark.parametrize(
    "window", [Window("day"), Window("last 1d".removeprefix("last "), True), None]
)
def test_decisions_are_the_same_when_limit_and_costs_are_a_million_times_as_high(
    window: Window | None,
) -> None:
    def decisions(scale: int) -> list[bool]:
        pacing = Pacing(expected_calls=600)
        town = Town(limits=Limits(usd=scale), window=window, pacing=pacing, scale=scale)
        return town.day(600, cost=5_000)

    small, large = decisions(1), decisions(1_000_000)
    assert small == large
    assert 0 < sum(small) < 600


def test_price_per_usd_falls_as_money_is_worth_less() -> None:
    cheap, dear = PriceState(price=0.2, call_micros=1_000), PriceState(price=0.2, call_micros=2_000)
    assert cheap.per_usd == pytest.approx(200)
    assert dear.per_usd == pytest.approx(100)
    assert PriceState(price=0.2).per_usd == 0.0


# --------------------------------------------------------------------------------- without a window


def test_price_rises_with_the_share_spent_when_nothing_is_known_of_the_future() -> None:
    town = Town(limits=Limits(usd=1), window=None)
    prices = []
    for _ in range(10):
        prices.append(town.price().price)
        town.buy(100_000)
    assert prices == sorted(prices)
    assert prices[0] < 0.005
    assert town.price().price == pytest.approx(1.0)


def test_budget_lasts_for_the_calls_that_are_expected_without_a_window() -> None:
    town = Town(limits=Limits(usd=1), window=None, pacing=Pacing(expected_calls=2_000))
    bought = town.day(2_000)
    assert sum(bought[1_800:]) > 40
    assert sum(bought) > 700


def test_budget_is_not_gone_when_more_calls_come_than_were_expected() -> None:
    town = Town(limits=Limits(usd="0.4"), window=None, pacing=Pacing(expected_calls=1_000))
    bought = town.day(1_500)
    assert any(bought[1_100:])


def test_rolling_window_is_paced_without_ever_passing_its_limit() -> None:
    town = Town(limits=Limits(usd=1), window=Window("1d", rolling=True))
    days = [town.day(1_500, seed=seed) for seed in range(4)]
    tenths = [sum(days[-1][start : start + 150]) for start in range(0, 1_500, 150)]
    assert min(tenths) > 0.3 * max(tenths)
    assert town.ledger.snapshot([town.paced.account])[0].used.usd_micros > 700_000


# ------------------------------------------------------------------------------ shared by processes


def test_one_process_wins_and_the_others_go_by_its_price() -> None:
    town = Town(limits=Limits(usd=1), processes=2)
    one, other = town.pacers
    town.price(0)
    paced = town.paced
    states = town.ledger.snapshot(paced.reads)
    first = one.see(paced, states) or one.see(paced, states)
    second = other.see(paced, states) or other.see(paced, states)
    assert first is not None
    assert second is not None
    one.wrote(first, town.ledger.swap_note(*first.ask.args, **first.ask.kwargs))
    other.wrote(second, town.ledger.swap_note(*second.ask.args, **second.ask.kwargs))
    assert one.state(paced) == other.state(paced) == price_from_note(first.text)


def test_a_process_that_lost_tells_of_its_calls_the_next_time() -> None:
    town = Town(limits=Limits(usd=1), processes=2)
    paced = town.paced
    states = town.ledger.snapshot(paced.reads)
    updates = [pacer.see(paced, states) for pacer in town.pacers]
    for pacer, update in zip(town.pacers, updates, strict=True):
        assert update is not None
        pacer.wrote(update, town.ledger.swap_note(*update.ask.args, **update.ask.kwargs))
    assert town.pacers[0].state(paced).routed == 1
    town.clock.advance(1)
    assert town.price(1).routed == 3  # one that won, one that lost, and this one


def test_no_call_is_lost_when_threads_race_for_the_note() -> None:
    town = Town(limits=Limits(usd=1), processes=4)
    barrier = threading.Barrier(4)

    def work(process: int) -> None:
        barrier.wait()
        for _ in range(200):
            town.price(process)

    threads = [threading.Thread(target=work, args=(process,)) for process in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in range(4):  # whatever is still waiting is told now
        for _ in range(32):
            town.price(process)
    told = town.price(0).routed
    total = 4 * 200 + 4 * 32 + 1
    assert total - 4 * 32 <= told <= total


def test_four_processes_buy_about_what_one_would() -> None:
    shares = []
    for processes in (1, 4):
        town = Town(limits=Limits(usd=1), processes=processes)
        town.day(2_000)
        shares.append(sum(town.day(2_000, seed=1)))
    assert shares[1] == pytest.approx(shares[0], rel=0.1)


def test_most_calls_write_no_note() -> None:
    town = Town(limits=Limits(usd=1))
    town.day(4_000)
    before = town.ledger.notes
    town.day(4_000, seed=1)
    assert town.ledger.notes - before < 4_000 / 10


def test_note_stays_small() -> None:
    town = Town(limits=Limits(usd=1))
    for seed in range(3):
        town.day(300, seed=seed)
    note = town.ledger.snapshot(town.paced.reads)[1].note
    assert note is not None
    assert len(note.text.encode()) < 2_500


def test_price_is_the_same_after_a_note_was_written_and_read() -> None:
    state = at_noon()
    again = price_from_note(price_to_note(state))
    assert again is not None
    assert again.price == pytest.approx(state.price, rel=1e-5)
    assert (again.at, again.taken, again.key) == (state.at, state.taken, state.key)


def broken_notes() -> list[str]:
    plain = json.loads(price_to_note(at_noon()))
    return [
        "no JSON",
        "[]",
        "7",
        "{}",
        json.dumps(plain | {"format": 99}),
        json.dumps(plain | {"price": math.nan}),
        json.dumps(plain | {"price": [1]}),
        json.dumps(plain | {"unknown": 1}),
        json.dumps(plain | {"demand": {"levels": []}}),
        json.dumps({name: value for name, value in plain.items() if name != "demand"}),
    ]


@pytest.mark.parametrize("text", broken_notes())
def test_price_is_learnt_anew_when_its_note_cannot_be_read(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    town = Town(limits=Limits(usd=1))
    town.ledger.swap_note(town.paced.note_key, expected_version=0, text=text)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            town.price()
            town.buy(100_000)
    assert town.price().price > 0
    assert "learnt anew" in caplog.text


# --------------------------------------------------------------------------------- in a budget


def morning() -> MemoryLedger:
    """A ledger with most of a day before it, whatever the time is now."""
    return MemoryLedger(ManualClock(), epoch_s=1_000 * 86_400 + 600)


def spent_run(budget: Budget, *, calls: int = 20, user: str = "ada") -> Any:
    values = budget.scope_values({"configurable": {"user_id": user}})
    run = budget.start_run(scope_values=values)
    cost = Amounts(usd_micros=20_000, cloud_tokens=500, cloud_calls=1)
    for number in range(calls):
        run.snapshot()
        run.commit(run.reserve(str(number), cost), cost)
    return run


def test_routers_see_no_price_without_pacing() -> None:
    assert spent_run(Budget(limit_usd=1, window="day")).snapshot().shadow_price == 0.0


def test_routers_see_the_price_per_usd() -> None:
    pacing = Pacing(expected_calls=100)
    run = spent_run(Budget(limit_usd=1, window="day", pacing=pacing, ledger=morning()))
    assert run.snapshot().shadow_price > 0.05 / 0.02


async def test_routers_see_the_same_price_without_blocking() -> None:
    run = spent_run(Budget(limit_usd=1, pacing=Pacing()))
    snapshot = await run.asnapshot()
    assert snapshot.shadow_price == run.snapshot().shadow_price > 0


def test_budgets_of_one_name_in_one_ledger_share_the_price() -> None:
    ledger = MemoryLedger()
    budgets = [
        Budget(limit_usd=1, pacing=Pacing(expected_calls=100), ledger=ledger) for _ in range(2)
    ]
    spent_run(budgets[0])
    price = budgets[0].start_run().snapshot().shadow_price
    assert budgets[1].start_run().snapshot().shadow_price == pytest.approx(price, rel=0.2)


def test_users_with_a_window_have_prices_of_their_own() -> None:
    budget = Budget(
        scopes=[Scope("user", Limits(usd=1), window="day")],
        pacing=Pacing(expected_calls=50),
        ledger=morning(),
    )
    ada = spent_run(budget, user="ada").snapshot().shadow_price
    bob = spent_run(budget, user="bob", calls=1).snapshot().shadow_price
    assert ada > bob


def test_runs_are_not_paced() -> None:
    run = spent_run(Budget(per_run=Limits(usd=1), pacing=Pacing()))
    assert run.snapshot().shadow_price == 0.0


class NoNotes(MemoryLedger):
    """A store that fails whenever a note is to be written."""

    def swap_note(
        self, key: str, *, expected_version: int, text: str, keep_s: float | None = None
    ) -> Note:
        raise LedgerUnavailable("memory://", "it is down")


def test_a_call_goes_on_when_its_price_cannot_be_written() -> None:
    budget = Budget(limit_usd=1, pacing=Pacing(), ledger=NoNotes())
    assert spent_run(budget).snapshot().shadow_price == 0.0


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "demand",
    [
        "learned",
        [],
        [1.0] * 23,
        [1.0] * 25,
        [0.0] * 24,
        [-1.0] + [1.0] * 23,
        [math.nan] + [1.0] * 23,
        [math.inf] + [1.0] * 23,
        [True] * 24,
        ["1"] * 24,
        7,
        None,
    ],
)
def test_pacing_refuses_a_demand_that_is_none(demand: Any) -> None:
    with pytest.raises(ConfigurationError, match="demand"):
        Pacing(demand=demand)


@pytest.mark.parametrize("calls", [0, -1, 1.5, True, "9", math.inf])
def test_pacing_refuses_a_number_of_calls_that_is_none(calls: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected_calls"):
        Pacing(expected_calls=calls)


def test_given_demand_keeps_money_for_the_busy_hours() -> None:
    weights = [1] * 12 + [9] * 12
    flat = Town(limits=Limits(usd=1), pacing=Pacing(expected_calls=2_000))
    told = Town(limits=Limits(usd=1), pacing=Pacing(demand=weights, expected_calls=2_000))
    mornings = []
    for town in (flat, told):
        rng = random.Random(3)
        bought = 0
        for _ in range(200):
            bought += town.call(rng.random(), int(200 + 1_600 * rng.random()))
            town.clock.advance(DAY_S / 2 / 200)
        mornings.append(bought)
    assert mornings[1] < mornings[0]


@pytest.mark.parametrize("window", [Window("day"), None])
def test_calls_that_all_stay_on_the_edge_write_few_notes(window: Window | None) -> None:
    town = Town(limits=Limits(usd=1), window=window)
    for _ in range(500):
        town.price()
        town.clock.advance(DAY_S / 10_000)
    assert town.ledger.notes < 500 / 4
