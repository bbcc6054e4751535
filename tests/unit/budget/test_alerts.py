"""Alerts: each share of a limit once for each account and window, whoever finds it."""

from __future__ import annotations

import logging
import threading
from decimal import Decimal
from typing import Any

import pytest

from langchain_hybridflow.budget import (
    Amounts,
    Budget,
    BudgetAlert,
    Lease,
    Ledger,
    Limits,
    MemoryLedger,
    RunBudget,
    Scope,
    Window,
)
from langchain_hybridflow.budget.alerts import checked_fractions
from langchain_hybridflow.budget.inventory import inventory, reset_row
from langchain_hybridflow.errors import BudgetExceeded, ConfigurationError, LedgerUnavailable
from langchain_hybridflow.testing import ManualClock

DAY_S = 86_400.0


class Bell:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.alerts: list[BudgetAlert] = []

    def __call__(self, alert: BudgetAlert) -> None:
        self.alerts.append(alert)

    @property
    def rung(self) -> list[tuple[str, float]]:
        return [(alert.scope, alert.fraction) for alert in self.alerts]


@pytest.fixture
def bell() -> Bell:
    return Bell()


def buy(run: RunBudget, lease_id: str, calls: int) -> None:
    run.commit(run.reserve(lease_id, Amounts(cloud_calls=calls)), Amounts(cloud_calls=calls))


def test_each_share_is_told_once_when_it_is_reached(bell: Bell) -> None:
    run = Budget(max_cloud_calls=10, on_alert=bell).start_run()
    for turn in range(10):
        buy(run, str(turn), 1)
    assert [(alert.spent, alert.fraction) for alert in bell.alerts] == [
        (5, 0.5),
        (8, 0.8),
        (10, 1.0),
    ]


def test_alert_says_what_was_reached(bell: Bell) -> None:
    scopes = [Scope("user", Limits(usd="0.01"), window="day")]
    budget = Budget(name="team", scopes=scopes, on_alert=bell, alert_at=[0.8])
    values = budget.scope_values({"configurable": {"user_id": "ada"}})
    run = budget.start_run(scope_values=values)
    run.commit(run.reserve("a", Amounts(usd_micros=9_000)), Amounts(usd_micros=8_001))
    (alert,) = bell.alerts
    assert alert.account.startswith("user/team/ada/day=")
    assert (alert.budget, alert.scope, alert.window, alert.dimension) == (
        "team",
        "user",
        "day",
        "usd",
    )
    assert (alert.spent, alert.limit, alert.fraction) == (
        Decimal("0.008001"),
        Decimal("0.01"),
        0.8,
    )


def test_shares_are_told_together_when_one_call_reaches_them(bell: Bell) -> None:
    buy(Budget(max_cloud_calls=10, on_alert=bell).start_run(), "a", 9)
    assert bell.rung == [("budget", 0.5), ("budget", 0.8)]


def test_nothing_is_told_when_it_is_only_held(bell: Bell) -> None:
    run = Budget(max_cloud_calls=10, on_alert=bell).start_run()
    run.reserve("a", Amounts(cloud_calls=9))
    run.snapshot()
    assert bell.alerts == []


def test_whole_limit_is_told_when_a_call_does_not_fit_any_more(bell: Bell) -> None:
    run = Budget(max_cloud_calls=10, on_alert=bell, alert_at=[1.0]).start_run()
    buy(run, "a", 9)
    for _ in range(2):
        with pytest.raises(BudgetExceeded):
            run.reserve("b", Amounts(cloud_calls=2))
    assert [(alert.spent, alert.fraction) for alert in bell.alerts] == [(9, 1.0)]


def test_nothing_is_told_when_a_call_does_not_fit_beside_others(bell: Bell) -> None:
    """What they hold may come back."""
    run = Budget(max_cloud_calls=10, on_alert=bell).start_run()
    run.reserve("a", Amounts(cloud_calls=9))
    with pytest.raises(BudgetExceeded):
        run.reserve("b", Amounts(cloud_calls=2))
    assert bell.alerts == []


def test_next_window_is_told_anew(bell: Bell) -> None:
    clock = ManualClock()
    ledger = MemoryLedger(clock, epoch_s=100 * DAY_S)
    budget = Budget(max_cloud_calls=2, window="day", ledger=ledger, on_alert=bell, alert_at=[1.0])
    run = budget.start_run()
    for turn in range(3):
        buy(run, str(turn), 2)
        clock.advance(DAY_S)
    assert bell.rung == [("budget", 1.0)] * 3


def test_rolling_window_is_told_once_in_its_length(bell: Bell) -> None:
    clock = ManualClock()
    ledger = MemoryLedger(clock, epoch_s=100 * DAY_S)
    window = Window("12h", rolling=True)
    budget = Budget(max_cloud_calls=12, window=window, ledger=ledger, on_alert=bell, alert_at=[0.5])
    run = budget.start_run()
    told_at = []
    for hour in range(48):
        before = len(bell.alerts)
        if run.snapshot().cloud_calls.remaining:
            buy(run, str(hour), 1)
        if len(bell.alerts) > before:
            told_at.append(hour)
        clock.advance(3_600)
    assert told_at == [5, 17, 29, 41]


def test_processes_tell_once_between_them(bell: Bell) -> None:
    """Each has a budget of its own, on one ledger."""
    ledger = MemoryLedger()
    runs = [Budget(max_cloud_calls=10, ledger=ledger, on_alert=bell).start_run() for _ in range(4)]
    for turn in range(10):
        buy(runs[turn % 4], str(turn), 1)
        for run in runs:
            run.snapshot()
    assert bell.rung == [("budget", 0.5), ("budget", 0.8), ("budget", 1.0)]


def test_threads_tell_once_between_them(bell: Bell) -> None:
    budget = Budget(max_cloud_calls=200, on_alert=bell, alert_at=[0.1, 0.5, 0.9])

    def work(worker: int) -> None:
        run = budget.start_run()
        for turn in range(25):
            buy(run, f"{worker}/{turn}", 1)
            run.snapshot()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(alert.fraction for alert in bell.alerts) == [0.1, 0.5, 0.9]


async def test_async_face_tells_the_same(bell: Bell) -> None:
    run = Budget(max_cloud_calls=2, on_alert=bell).start_run()
    lease = await run.areserve("a", Amounts(cloud_calls=1))
    await run.acommit(lease, Amounts(cloud_calls=1))
    assert bell.rung == [("budget", 0.5)]


def test_call_goes_on_when_the_callback_fails(caplog: pytest.LogCaptureFixture) -> None:
    def fail(alert: BudgetAlert) -> None:
        raise RuntimeError("no network")

    run = Budget(max_cloud_calls=1, on_alert=fail, alert_at=[1.0]).start_run()
    with caplog.at_level(logging.ERROR):
        buy(run, "a", 1)
    assert run.snapshot().cloud_calls.spent == 1
    assert "on_alert failed, at 1 of the cloud_calls limit of scope 'budget'" in caplog.text


def test_callback_may_use_the_budget(bell: Bell) -> None:
    """It runs outside of all locks."""
    seen: list[Any] = []
    budget = Budget(max_cloud_calls=1, on_alert=lambda _: seen.append(budget.snapshot()))
    buy(budget.start_run(), "a", 1)
    assert [one["cloud_calls"]["spent"] for one in seen] == [1, 1, 1]


class Failing(MemoryLedger):
    """Does not write notes for a while."""

    down = False

    def swap_note(self, *args: Any, **kwargs: Any) -> Any:
        if self.down:
            raise LedgerUnavailable("memory://", "it sleeps")
        return super().swap_note(*args, **kwargs)


def test_alert_comes_later_when_the_store_does_not_answer(bell: Bell) -> None:
    ledger = Failing()
    ledger.down = True
    run = Budget(max_cloud_calls=10, ledger=ledger, on_alert=bell, alert_at=[0.5]).start_run()
    buy(run, "a", 6)
    assert bell.alerts == []
    ledger.down = False
    run.snapshot()
    assert [(alert.spent, alert.fraction) for alert in bell.alerts] == [(6, 0.5)]


class LosesReplies(MemoryLedger):
    """Writes a note, and says that it does not answer, once."""

    lost = False

    def swap_note(self, *args: Any, **kwargs: Any) -> Any:
        note = super().swap_note(*args, **kwargs)
        if not self.lost:
            self.lost = True
            raise LedgerUnavailable("memory://", "the line was cut")
        return note


def test_alert_is_not_lost_when_the_reply_to_its_claim_is(bell: Bell) -> None:
    run = Budget(
        max_cloud_calls=10, ledger=LosesReplies(), on_alert=bell, alert_at=[0.5]
    ).start_run()
    buy(run, "a", 6)
    run.snapshot()
    run.snapshot()
    assert bell.rung == [("budget", 0.5)]


class Counting(MemoryLedger):
    """Counts what it is asked."""

    asked = 0

    def snapshot(self, accounts: Any) -> Any:
        self.asked += 1
        return super().snapshot(accounts)


def test_ledger_is_not_asked_more_when_no_mark_is_near(bell: Bell) -> None:
    ledger = Counting()
    run = Budget(max_cloud_calls=1_000, ledger=ledger, on_alert=bell).start_run()
    for turn in range(100):
        buy(run, str(turn), 1)
    assert ledger.asked == 0


def test_share_is_told_anew_when_the_account_was_reset(bell: Bell) -> None:
    ledger = MemoryLedger()
    run = Budget(max_cloud_calls=10, ledger=ledger, on_alert=bell, alert_at=[0.5]).start_run()
    buy(run, "a", 5)
    (row,) = inventory(ledger)
    reset_row(ledger, row)
    run.snapshot()
    buy(run, "b", 5)
    assert bell.rung == [("budget", 0.5)] * 2


def test_limit_of_nothing_has_no_shares(bell: Bell) -> None:
    Budget(max_cloud_calls=0, on_alert=bell).start_run().snapshot()
    assert bell.alerts == []


@pytest.mark.parametrize(
    "at",
    [
        [],
        [0],
        [1.1],
        [-0.5],
        [float("nan")],
        ["x"],
        [True],
        None,
        "0.5",
        [0.01 * n for n in range(1, 12)],
    ],
)
def test_shares_that_are_none_are_refused(at: Any) -> None:
    with pytest.raises(ConfigurationError, match="alert_at"):
        checked_fractions(at)


async def _async(alert: BudgetAlert) -> None:
    """Nobody would await it."""


@pytest.mark.parametrize("callback", [_async, "print"])
def test_callback_that_cannot_be_called_is_refused(callback: Any) -> None:
    with pytest.raises(ConfigurationError, match="on_alert is a plain function"):
        Budget(on_alert=callback)


def test_alert_without_a_mark_leaves_the_lease_alone(bell: Bell) -> None:
    ledger: Ledger = MemoryLedger()
    run = Budget(max_cloud_calls=10, ledger=ledger, on_alert=bell).start_run()
    assert isinstance(run.reserve("a", Amounts(cloud_calls=1)), Lease)
