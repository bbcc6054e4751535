"""Which accounts there are in a ledger, and what their budgets say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.budget import (
    Account,
    Amounts,
    Budget,
    Limits,
    MemoryLedger,
    Pacing,
    Scope,
    Window,
)
from langchain_hybridflow.budget.about import (
    BudgetDescription,
    LimitDescription,
    Publisher,
    about_key,
    publisher_for,
)
from langchain_hybridflow.budget.accounts import account_entry
from langchain_hybridflow.budget.inventory import AccountName, inventory, reset_row, sorted_rows
from langchain_hybridflow.budget.stores.sqlite import SQLiteLedger
from langchain_hybridflow.budget.twins import do
from langchain_hybridflow.errors import LedgerError
from langchain_hybridflow.testing import ManualClock

WINDOWS = [
    None,
    Window("hour"),
    Window("day"),
    Window("month", tz="Europe/Berlin"),
    Window("30m"),
    Window("7d"),
    Window("12h", rolling=True),
]


@given(
    value=st.one_of(st.none(), st.text(max_size=300)),
    budget=st.text(min_size=1, max_size=200),
    window=st.sampled_from(WINDOWS),
    now=st.floats(0, 4e9),
)
def test_key_says_whose_account_it_is(
    value: str | None, budget: str, window: Window | None, now: float
) -> None:
    scope = "global" if value is None else "user"
    try:
        entry = account_entry(budget, scope, Limits(), value=value, window=window)
    except UnicodeEncodeError:
        return  # a budget checks its names before
    name = AccountName.of(entry.account(now).key)
    assert name is not None
    assert (name.scope, name.window, name.stem) == (scope, window, entry.stem)
    if value is None or not (name.value or "").startswith("#"):
        assert name.value == value
    assert name.entry(Limits()).account(now).keys == entry.account(now).keys


@pytest.mark.parametrize(
    "key", ["team", "a/b/c/d/e", "user/team", "/x", "user/team/ada/what", "budget/team/never=1"]
)
def test_key_that_no_budget_made_is_nobodys(key: str) -> None:
    assert AccountName.of(key) is None


def spend(budget: Budget, **who: str) -> None:
    run = budget.start_run(scope_values=budget.scope_values({"configurable": who}))
    run.snapshot()
    lease = run.reserve("a", Amounts(cloud_tokens=9, cloud_calls=1))
    run.commit(lease, Amounts(cloud_tokens=5, cloud_calls=1))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/budget.db"


def test_budget_describes_itself_once_it_has_asked_its_store(url: str) -> None:
    scopes = [Scope("user", Limits(cloud_calls=3), window="last 1h")]
    budget = Budget(max_cloud_calls=9, window="day", scopes=scopes, store=url, name="a/b")
    spend(budget, user_id="ada")
    ledger = budget.ledger
    note = ledger.snapshot([Account(about_key("a/b"), "about")])[0].note
    assert note is not None
    assert BudgetDescription.from_text(note.text) == budget.description
    spend(budget, user_id="bob")
    spend(
        Budget(max_cloud_calls=9, window="day", scopes=scopes, ledger=ledger, name="a/b"),
        user_id="x",
    )
    assert ledger.snapshot([Account(about_key("a/b"), "about")])[0].note == note
    budget.close()


def test_description_is_that_of_the_last_who_wrote_it(url: str) -> None:
    for limit in (9, 11):
        budget = Budget(max_cloud_calls=limit, store=url)
        spend(budget)
        budget.close()
    ledger = SQLiteLedger(url.removeprefix("sqlite:///"))
    assert [row.state.account.limits.cloud_calls for row in inventory(ledger)] == [11]
    ledger.close()


def test_description_tells_no_secret(url: str) -> None:
    text = Budget(limit_usd=1, store=url, prices={}).description.to_text()
    assert "sqlite" not in text


def test_description_is_not_written_when_it_is_too_long() -> None:
    scopes = tuple(LimitDescription(f"scope_{n}", Limits(usd=1)) for n in range(100))
    description = BudgetDescription("team", LimitDescription("budget", Limits()), scopes)
    ledger = MemoryLedger()
    do(ledger, Publisher(description).publish())
    assert ledger.list_keys() == ()


def test_memory_is_described_to_nobody() -> None:
    budget = Budget(max_cloud_calls=1)
    assert publisher_for(budget.ledger, budget.description) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "x", '{"format": 2}', '{"format": 1, "name": 3}'])
def test_description_that_nobody_can_read_is_none(text: str) -> None:
    assert BudgetDescription.from_text(text) is None


def test_rows_have_counters_limits_and_prices(url: str) -> None:
    scopes = [Scope("user", Limits(cloud_calls=3), window="last 1h")]
    budget = Budget(
        limit_usd=1,
        window="day",
        scopes=scopes,
        store=url,
        name="team",
        per_run=Limits(usd=1),
        pacing=Pacing(expected_calls=9),
    )
    for user in ("ada", "bob", "ada"):
        spend(budget, user_id=user)
    rows = sorted_rows(inventory(budget.ledger))  # type: ignore[arg-type]
    told = [(row.scope, row.value, row.state.used.cloud_calls) for row in rows[:3]]
    assert told == [("budget", None, 3), ("user", "ada", 2), ("user", "bob", 1)]
    assert [row.scope for row in rows[3:]] == ["run"] * 3
    assert rows[1].state.account.limits.cloud_calls == 3
    assert rows[3].state.account.limits.usd_micros == 1_000_000
    assert rows[0].price is not None
    assert rows[3].price is None
    assert rows[1].fraction("cloud_calls") == pytest.approx(2 / 3)
    budget.close()


def test_rows_are_there_when_nothing_was_spent(url: str) -> None:
    budget = Budget(max_cloud_calls=2, store=url, scopes=[Scope("global", Limits(usd=1))])
    budget.start_run().snapshot()
    rows = inventory(budget.ledger)  # type: ignore[arg-type]
    assert {(row.scope, row.state.used) for row in rows} == {
        ("budget", Amounts()),
        ("global", Amounts()),
    }
    budget.close()


def test_rows_of_other_budgets_are_left_out() -> None:
    ledger = MemoryLedger()
    for name in ("a", "b"):
        spend(Budget(name=name, ledger=ledger))
    assert [row.budget for row in inventory(ledger, budget="b")] == ["b"]


def test_past_windows_are_shown_when_they_are_asked_for() -> None:
    clock = ManualClock()
    ledger = MemoryLedger(clock, epoch_s=86_400.0 * 100)
    budget = Budget(max_cloud_calls=9, window="day", ledger=ledger)
    spend(budget)
    clock.advance(86_400)
    spend(budget)
    assert [row.label for row in inventory(ledger)] == [None]
    labels = [row.label for row in inventory(ledger, past=True)]
    assert sorted(label or "" for label in labels) == ["", "day=1970-04-11"]


def test_rolling_window_is_one_row() -> None:
    clock = ManualClock()
    ledger = MemoryLedger(clock, epoch_s=86_400.0 * 100)
    budget = Budget(max_cloud_calls=9, window="last 12h", ledger=ledger)
    for _ in range(3):
        spend(budget)
        clock.advance(3_600)
    (row,) = inventory(ledger, described=[budget.description])
    assert (row.state.used.cloud_calls, row.state.remaining("cloud_calls")) == (3, 6)


def test_reset_takes_all_buckets_of_a_window() -> None:
    clock = ManualClock()
    ledger = MemoryLedger(clock, epoch_s=86_400.0 * 100)
    budget = Budget(max_cloud_calls=9, window="last 12h", ledger=ledger)
    for _ in range(3):
        spend(budget)
        clock.advance(3_600)
    (row,) = inventory(ledger)
    assert sum(one.used.cloud_calls for one in reset_row(ledger, row)) == 3
    (row,) = inventory(ledger)
    assert row.state.used == Amounts()


def test_reset_is_refused_when_leases_are_open() -> None:
    ledger = MemoryLedger()
    budget = Budget(max_cloud_calls=9, ledger=ledger)
    budget.start_run().reserve("a", Amounts(cloud_calls=1))
    (row,) = inventory(ledger)
    with pytest.raises(LedgerError):
        reset_row(ledger, row)
    assert [one.open_leases for one in reset_row(ledger, row, force=True)] == [1]


def test_row_is_plain_json() -> None:
    ledger = MemoryLedger(epoch_s=86_400.0 * 100)
    budget = Budget(limit_usd=2, window="day", ledger=ledger)
    spend(budget)
    (row,) = inventory(ledger, described=[budget.description])
    plain = row.to_json()
    assert (plain["budget"], plain["scope"], plain["value"]) == ("budget", "budget", None)
    assert plain["usd"] == {
        "limit": 2.0,
        "spent": 0.0,
        "held": 0.0,
        "remaining": 2.0,
        "overdraft": 0.0,
    }
    assert plain["cloud_tokens"]["limit"] is None
    assert plain["ends_at"] - plain["starts_at"] == 86_400.0
