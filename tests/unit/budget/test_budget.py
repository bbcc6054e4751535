"""Budgets and runs: limits, quotes, reservations, deadlines."""

from __future__ import annotations

import asyncio
import json
import threading
from decimal import Decimal
from typing import Any

import pytest

from langchain_hybridflow.budget import (
    Amounts,
    Budget,
    BudgetSnapshot,
    LearnedEstimate,
    Lease,
    Limits,
    MemoryLedger,
    Pacing,
    Price,
    Usage,
)
from langchain_hybridflow.errors import (
    BudgetExceeded,
    ConfigurationError,
    LedgerError,
    UnknownPriceError,
)
from langchain_hybridflow.testing import ManualClock

CALL = Amounts(cloud_tokens=100, cloud_calls=1)
PRICES = {"big": Price(2, 8), "small": Price("0.1", "0.2")}


# ------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit_usd": float("nan")},
        {"limit_usd": -0.01},
        {"limit_usd": True},
        {"limit_usd": float("inf")},
        {"limit_usd": "a dollar"},
        {"max_cloud_tokens": -1},
        {"max_cloud_tokens": 1.5},
        {"max_cloud_calls": True},
        {"deadline_s": 0},
        {"deadline_s": float("nan")},
        {"deadline_s": True},
        {"deadline_s": "30"},
        {"lease_ttl_s": -1.0},
        {"lease_ttl_s": float("inf")},
        {"on_exhausted": "cloud"},
        {"name": ""},
        {"prices": {"big": 2}},
        {"per_run": {"usd": 1}},
        {"pacing": 1},
        {"pacing": Pacing},
        {"estimates": "strict"},
        {"estimates": LearnedEstimate},
        {"ledger": "redis://localhost"},
    ],
    ids=str,
)
def test_budget_is_refused_when_a_parameter_cannot_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Budget(**wrong)


@pytest.mark.parametrize("elapsed_s", [-1.0, float("nan"), float("inf")])
def test_run_is_refused_when_its_past_cannot_be(elapsed_s: float) -> None:
    with pytest.raises(ConfigurationError, match="elapsed_s"):
        Budget().start_run(elapsed_s=elapsed_s)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (Budget(), (False, False)),
        (Budget(limit_usd=1), (True, True)),
        (Budget(max_cloud_tokens=1), (False, True)),
        (Budget(max_cloud_calls=1), (False, False)),
        (Budget(per_run=Limits(usd=1)), (True, True)),
        (Budget(per_run=Limits(cloud_tokens=1)), (False, True)),
        (Budget(deadline_s=1), (False, False)),
    ],
)
def test_budget_knows_what_its_limits_ask_for(budget: Budget, expected: tuple[bool, bool]) -> None:
    assert (budget.limits_usd, budget.caps_output) == expected


# ------------------------------------------------------------------------- quotes and costs


def test_quote_of_the_cloud_counts_tokens_the_call_and_its_price() -> None:
    quote = Budget(prices=PRICES).quote("cloud", "big", Usage(1_000, 500))
    assert quote == Amounts(usd_micros=6_000, cloud_tokens=1_500, cloud_calls=1)


def test_quote_of_the_edge_is_free_when_the_model_has_no_price() -> None:
    assert not Budget(limit_usd=1).quote("edge", "llama3.2:3b", Usage(1_000, 500))


def test_quote_of_the_edge_counts_money_only_when_the_model_has_a_price() -> None:
    quote = Budget(prices=PRICES).quote("edge", "small", Usage(1_000, 500))
    assert quote == Amounts(usd_micros=200)


@pytest.mark.parametrize("budget", [Budget(limit_usd=1), Budget(per_run=Limits(usd=1))])
def test_quote_raises_when_money_is_limited_and_the_price_unknown(budget: Budget) -> None:
    with pytest.raises(UnknownPriceError, match="never-heard-of-it"):
        budget.quote("cloud", "never-heard-of-it", Usage(10, 10))


def test_quote_counts_tokens_when_the_price_is_unknown_and_money_is_not_limited() -> None:
    quote = Budget(max_cloud_tokens=100).quote("cloud", "never-heard-of-it", Usage(10, 10))
    assert quote == Amounts(cloud_tokens=20, cloud_calls=1)


def test_cost_is_none_when_the_price_of_a_cloud_model_is_unknown() -> None:
    assert Budget().cost_usd("cloud", "never-heard-of-it", Usage(10, 10)) is None


def test_cost_of_an_unpriced_edge_model_is_zero() -> None:
    assert Budget().cost_usd("edge", "llama3.2:3b", Usage(10, 10)) == 0


def test_costs_of_calls_add_up_to_what_the_ledger_says() -> None:
    budget = Budget(limit_usd=1, prices={"odd": Price("0.33", "1.7")})
    run = budget.start_run()
    reported = Decimal(0)
    for number in range(100):
        usage = Usage(number, 7 * number % 31)
        lease = run.reserve(f"call-{number}", budget.quote("cloud", "odd", usage))
        run.commit(lease, budget.quote("cloud", "odd", usage))
        reported += budget.cost_usd("cloud", "odd", usage) or 0
    assert run.snapshot().usd.spent == reported


# ------------------------------------------------------------------------- reservations


def test_shared_limit_holds_over_all_runs() -> None:
    budget = Budget(max_cloud_calls=2)
    for run_id in ("one", "two"):
        budget.start_run(run_id).reserve("a", CALL)
    with pytest.raises(BudgetExceeded) as caught:
        budget.start_run("three").reserve("a", CALL)
    assert caught.value.scope == "budget"


def test_run_limit_holds_for_each_run_alone() -> None:
    budget = Budget(per_run=Limits(cloud_calls=1))
    first, second = budget.start_run(), budget.start_run()
    first.reserve("a", CALL)
    with pytest.raises(BudgetExceeded) as caught:
        first.reserve("b", CALL)
    assert caught.value.scope == "run"
    assert second.reserve("a", CALL).amounts == CALL


def test_run_limit_goes_on_when_the_run_is_resumed() -> None:
    budget = Budget(per_run=Limits(cloud_calls=1))
    first = budget.start_run("thread-1")
    first.commit(first.reserve("a", CALL), CALL)
    with pytest.raises(BudgetExceeded):
        budget.start_run("thread-1").reserve("a", CALL)


def test_resumed_run_buys_anew_and_does_not_take_over_a_lease() -> None:
    budget = Budget(max_cloud_calls=5)
    budget.start_run("thread-1").reserve("a", CALL)
    budget.start_run("thread-1").reserve("a", CALL)
    assert budget.snapshot()["cloud_calls"]["held"] == 2


def test_budget_exceeded_carries_the_numbers_in_usd() -> None:
    run = Budget(limit_usd=0.05, prices=PRICES).start_run()
    run.commit(run.reserve("a", Amounts(usd_micros=20_000)), Amounts(usd_micros=20_000))
    with pytest.raises(BudgetExceeded) as caught:
        run.reserve("b", Amounts(usd_micros=30_001))
    error = caught.value
    assert error.dimension == "usd"
    assert (error.requested, error.remaining, error.limit) == (
        Decimal("0.030001"),
        Decimal("0.03"),
        Decimal("0.05"),
    )
    assert "0.030001 usd" in str(error)


def test_budget_exceeded_prints_round_money_plainly() -> None:
    with pytest.raises(BudgetExceeded, match=r"has 10 of 10 left"):
        Budget(limit_usd=10).start_run().reserve("a", Amounts(usd_micros=20_000_000))


def test_budget_exceeded_carries_counts_as_they_are() -> None:
    with pytest.raises(BudgetExceeded) as caught:
        Budget(max_cloud_tokens=99).start_run().reserve("a", CALL)
    error = caught.value
    assert (error.dimension, error.requested, error.remaining, error.limit) == (
        "cloud_tokens",
        100,
        99,
        99,
    )


def test_release_gives_everything_back() -> None:
    budget = Budget(max_cloud_calls=1)
    run = budget.start_run()
    run.release(run.reserve("a", CALL))
    assert run.reserve("b", CALL).amounts == CALL
    assert run.snapshot().tokens_used == 100


def test_release_after_commit_changes_nothing() -> None:
    run = Budget(max_cloud_calls=1).start_run()
    lease = run.reserve("a", CALL)
    run.commit(lease, CALL)
    run.release(lease)
    assert run.snapshot().run == CALL
    assert run.snapshot().cloud_calls.spent == 1


def test_commit_twice_counts_once() -> None:
    run = Budget().start_run()
    lease = run.reserve("a", CALL)
    run.commit(lease, CALL)
    run.commit(lease, CALL)
    assert run.snapshot().run == CALL


def test_reserve_twice_holds_once() -> None:
    run = Budget(max_cloud_calls=1).start_run()
    assert run.reserve("a", CALL) == run.reserve("a", CALL)
    assert run.snapshot().run == CALL


def test_reserve_raises_when_the_attempt_was_settled() -> None:
    run = Budget().start_run()
    run.release(run.reserve("a", CALL))
    with pytest.raises(LedgerError, match="new id"):
        run.reserve("a", CALL)


def test_reservation_of_nothing_never_reaches_the_ledger() -> None:
    budget = Budget(max_cloud_calls=0)
    run = budget.start_run()
    lease = run.reserve("edge", Amounts())
    run.extend(lease)
    run.commit(lease, Amounts())
    run.release(lease)
    assert lease.accounts == ()
    assert run.snapshot().run == Amounts()


def test_cost_of_a_call_quoted_at_nothing_is_booked_as_overdraft() -> None:
    budget = Budget(limit_usd=1)
    run = budget.start_run()
    run.commit(run.reserve("edge", Amounts()), Amounts(usd_micros=5))
    assert budget.snapshot()["overdraft_usd"] == 5e-06
    assert run.snapshot().run == Amounts(usd_micros=5)


def test_forgotten_reservation_is_charged_when_its_time_is_over() -> None:
    clock = ManualClock()
    budget = Budget(max_cloud_calls=1, lease_ttl_s=60, clock=clock)
    budget.start_run().reserve("a", CALL)
    clock.advance(60)
    assert budget.snapshot()["cloud_calls"] == {"limit": 1, "spent": 1, "held": 0, "remaining": 0}


def test_extend_gives_a_long_call_another_lease_time() -> None:
    clock = ManualClock()
    budget = Budget(max_cloud_calls=1, lease_ttl_s=60, clock=clock)
    run = budget.start_run()
    lease = run.reserve("a", CALL)
    clock.advance(59)
    run.extend(lease)
    clock.advance(59)
    assert budget.snapshot()["cloud_calls"]["held"] == 1


def test_budgets_of_one_name_share_their_limits_in_one_ledger() -> None:
    ledger = MemoryLedger()
    for _ in range(2):
        Budget(max_cloud_calls=2, ledger=ledger, name="team").start_run().reserve("a", CALL)
    other = Budget(max_cloud_calls=2, ledger=ledger, name="others")
    with pytest.raises(BudgetExceeded):
        Budget(max_cloud_calls=2, ledger=ledger, name="team").start_run().reserve("a", CALL)
    assert other.start_run().reserve("a", CALL).amounts == CALL


# ------------------------------------------------------------------------- async and concurrency


async def test_async_twins_do_what_the_sync_methods_do() -> None:
    budget = Budget(max_cloud_calls=3, per_run=Limits(cloud_calls=2))
    run = budget.start_run()
    committed = await run.areserve("a", CALL)
    await run.aextend(committed)
    await run.acommit(committed, Amounts(cloud_tokens=40, cloud_calls=1))
    await run.arelease(await run.areserve("b", CALL))
    await run.areserve("c", CALL)
    with pytest.raises(BudgetExceeded):
        await run.areserve("d", CALL)
    snapshot = await run.asnapshot()
    assert (snapshot.cloud_calls.spent, snapshot.cloud_calls.held) == (1, 1)
    assert snapshot.run == Amounts(cloud_tokens=140, cloud_calls=2)
    assert (await budget.asnapshot()) == budget.snapshot()


async def test_async_reservation_of_nothing_never_reaches_the_ledger() -> None:
    run = Budget(max_cloud_calls=0).start_run()
    lease = await run.areserve("edge", Amounts())
    await run.aextend(lease)
    await run.arelease(lease)
    await run.acommit(lease, Amounts())
    assert run.snapshot().run == Amounts()
    await run.acommit(lease, Amounts(usd_micros=5))
    assert run.snapshot().run == Amounts(usd_micros=5)


async def test_limits_are_never_passed_when_200_coroutines_spend() -> None:
    budget = Budget(limit_usd="0.01", max_cloud_calls=60, prices=PRICES)
    worst = budget.quote("cloud", "big", Usage(50, 50))
    real = budget.quote("cloud", "big", Usage(40, 10))
    refused = 0

    async def call(number: int) -> None:
        nonlocal refused
        run = budget.start_run()
        try:
            lease = await run.areserve("only", worst)
        except BudgetExceeded:
            refused += 1
            return
        await asyncio.sleep(0)
        state = budget.snapshot()
        assert state["usd"]["spent"] + state["usd"]["held"] <= 0.01
        assert state["cloud_calls"]["spent"] + state["cloud_calls"]["held"] <= 60
        await (run.arelease(lease) if number % 5 == 0 else run.acommit(lease, real))

    await asyncio.gather(*(call(number) for number in range(200)))
    state = budget.snapshot()
    assert refused > 0
    assert (state["usd"]["held"], state["cloud_calls"]["held"]) == (0, 0)


def test_limits_are_used_to_the_last_unit_when_64_threads_share_a_run() -> None:
    run = Budget(max_cloud_tokens=6_400, per_run=Limits(cloud_calls=50)).start_run()
    granted: list[Lease] = []
    start = threading.Barrier(64)

    def spend(worker: int) -> None:
        start.wait(timeout=30)
        for turn in range(2):
            try:
                lease = run.reserve(f"{worker}-{turn}", CALL)
            except BudgetExceeded:
                continue
            granted.append(lease)
            run.commit(lease, CALL)

    threads = [threading.Thread(target=spend, args=(n,), daemon=True) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(granted) == 50
    assert run.snapshot().run == Amounts(cloud_tokens=5_000, cloud_calls=50)


# ------------------------------------------------------------------------- time and snapshots


def test_deadline_counts_from_the_start_of_each_run() -> None:
    clock = ManualClock()
    budget = Budget(deadline_s=30, clock=clock)
    first = budget.start_run()
    clock.advance(10)
    second = budget.start_run()
    clock.advance(25)
    assert (first.remaining_s(), first.elapsed_s()) == (0, 35)
    assert (second.remaining_s(), second.elapsed_s()) == (5, 25)


def test_deadline_counts_the_time_before_a_resume() -> None:
    run = Budget(deadline_s=30, clock=ManualClock()).start_run("run", elapsed_s=12)
    assert run.remaining_s() == 18
    assert run.snapshot().remaining_s == 18


def test_remaining_time_is_none_without_a_deadline() -> None:
    run = Budget().start_run()
    assert run.remaining_s() is None
    assert run.snapshot().remaining_s is None


def test_snapshot_shows_the_account_with_the_least_left() -> None:
    budget = Budget(max_cloud_calls=5, max_cloud_tokens=1_000, per_run=Limits(cloud_calls=4))
    first, second = budget.start_run(), budget.start_run()
    for name in "abc":
        first.reserve(name, CALL)
    assert first.snapshot().cloud_calls.scope == "run"
    assert first.snapshot().cloud_calls.remaining == 1
    assert second.snapshot().cloud_calls.scope == "budget"
    assert second.snapshot().cloud_calls.remaining == 2
    assert second.snapshot().cloud_tokens.scope == "budget"


def test_snapshot_counts_the_tokens_of_this_run_alone() -> None:
    budget = Budget(max_cloud_tokens=1_000)
    first, second = budget.start_run(), budget.start_run()
    first.reserve("a", CALL)
    first.commit(first.reserve("b", CALL), Amounts(cloud_tokens=30, cloud_calls=1))
    assert first.snapshot().tokens_used == 130
    assert second.snapshot().tokens_used == 0
    assert second.snapshot().cloud_tokens.remaining == 870


def test_snapshot_is_exhausted_when_any_limit_is_used_up() -> None:
    run = Budget(max_cloud_calls=2, max_cloud_tokens=100).start_run()
    assert not run.snapshot().exhausted
    run.reserve("a", CALL)
    assert run.snapshot().exhausted
    assert run.snapshot().pressure == 1.0


@pytest.mark.parametrize("limit", [{"limit_usd": 0}, {"max_cloud_calls": 0}])
def test_snapshot_is_exhausted_from_the_start_when_a_limit_is_zero(limit: dict[str, int]) -> None:
    assert Budget(**limit).start_run().snapshot().exhausted  # type: ignore[arg-type]


def test_snapshot_without_limits_feels_no_pressure() -> None:
    run = Budget().start_run()
    run.reserve("a", CALL)
    snapshot = run.snapshot()
    assert (snapshot.pressure, snapshot.exhausted, snapshot.shadow_price) == (0.0, False, 0.0)


def test_snapshot_can_be_made_without_a_budget() -> None:
    assert BudgetSnapshot().usd.spent == Decimal(0)
    assert not BudgetSnapshot().exhausted


def test_budget_snapshot_is_plain_json() -> None:
    budget = Budget(limit_usd="0.05", prices=PRICES)
    budget.start_run().reserve("a", Amounts(usd_micros=12_345, cloud_tokens=10, cloud_calls=1))
    assert json.loads(json.dumps(budget.snapshot())) == {
        "name": "budget",
        "usd": {"limit": 0.05, "spent": 0.0, "held": 0.012345, "remaining": 0.037655},
        "cloud_tokens": {"limit": None, "spent": 0, "held": 10, "remaining": None},
        "cloud_calls": {"limit": None, "spent": 0, "held": 1, "remaining": None},
        "overdraft_usd": 0.0,
    }


def test_repr_of_a_budget_says_its_limits() -> None:
    assert "Decimal('0.05')" in repr(Budget(limit_usd=0.05))
