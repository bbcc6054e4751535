"""Scopes: whose limits they are, and how a call says for whom it is."""

from __future__ import annotations

import json
import pickle
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.budget import (
    Amounts,
    Budget,
    FailOpenLedger,
    Limits,
    MemoryLedger,
    RunBudget,
    Scope,
    Usage,
    Window,
)
from langchain_hybridflow.budget.accounts import AccountBook, account_entry
from langchain_hybridflow.budget.pacing import Pacing
from langchain_hybridflow.budget.settings import budget_from_settings, budget_settings
from langchain_hybridflow.errors import (
    BudgetExceeded,
    ConfigurationError,
    LedgerUnavailable,
    UnknownPriceError,
)
from langchain_hybridflow.testing import ManualClock, OutageLedger

CALL = Amounts(usd_micros=10, cloud_tokens=100, cloud_calls=1)
DAY = 86_400.0


def config(**values: object) -> dict[str, Any]:
    return {"configurable": values}


def run_for(budget: Budget, **values: object) -> RunBudget:
    return budget.start_run(scope_values=budget.scope_values(config(**values)))


def spend(run: RunBudget, name: str = "a") -> None:
    run.commit(run.reserve(name, CALL), CALL)


# ------------------------------------------------------------------------- who a call is for


@pytest.mark.parametrize(
    ("name", "given_config", "context", "expected"),
    [
        ("user", config(user_id="ada"), None, "ada"),
        ("tenant", config(tenant_id="acme"), None, "acme"),
        ("thread", config(thread_id=7), None, "7"),
        ("team", config(team_id="red"), None, "red"),
        ("user", config(user_id=UUID(int=3)), None, str(UUID(int=3))),
        ("user", {}, {"user_id": "ada"}, "ada"),
        ("user", {}, SimpleNamespace(user_id="ada"), "ada"),
        ("user", config(user_id="bob"), {"user_id": "ada"}, "ada"),
        ("user", config(user_id="ada"), {"user_id": None}, "ada"),
        ("user", config(langgraph_auth_user={"identity": "ada"}, user_id="bob"), None, "ada"),
        ("user", config(langgraph_auth_user=SimpleNamespace(identity="a")), {"user_id": "b"}, "a"),
        ("user", config(langgraph_auth_user={}, langgraph_auth_user_id="a"), {"user_id": "b"}, "a"),
        ("user", config(langgraph_auth_user_id="ada", user_id="bob"), None, "bob"),
        ("global", config(user_id="ada"), None, None),
        ("run", config(run_id="ada"), None, None),
    ],
)  # fmt: skip
def test_scope_reads_whom_a_call_is_for(
    name: str, given_config: dict[str, Any], context: Any, expected: str | None
) -> None:
    assert Scope(name).read(given_config, context) == expected


def test_scope_reads_it_by_a_function_when_there_is_one() -> None:
    scope = Scope("user", value=lambda config, context: f"{config['tags'][0]}-{context}")
    assert scope.read({"tags": ["x"], **config(user_id="ada")}, 5) == "x-5"


@pytest.mark.parametrize("nobody", [{}, config(), config(user_id=None), config(user_id="")])
def test_call_is_refused_when_it_does_not_say_for_whom_it_is(nobody: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="user_id"):
        Scope("user").read(nobody, None)


def test_call_is_refused_when_the_function_returns_nobody() -> None:
    with pytest.raises(ConfigurationError, match="value="):
        Scope("user", value=lambda *_: None).read(config(user_id="ada"), None)


def test_call_is_refused_when_the_function_fails() -> None:
    with pytest.raises(ConfigurationError, match="ZeroDivisionError"):
        Scope("user", value=lambda *_: 1 / 0).read({}, None)


def test_scope_does_not_count_when_nobody_is_said_and_need_not_be() -> None:
    budget = Budget(scopes=[Scope("user", Limits(cloud_calls=0), required=False)])
    spend(run_for(budget))
    with pytest.raises(BudgetExceeded):
        spend(run_for(budget, user_id="ada"))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("a\x00b", r"U\+0000 at 1"),
        ("a\nb", r"U\+000A"),
        ("\x7f", r"U\+007F"),
        ("\ud800", r"U\+D800"),
        ("a\u2028b", r"U\+2028"),
        ("x" * 10_240, "10,240 characters"),
        (True, "bool"),
        (1.5, "float"),
        (["ada"], "list"),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_value_is_refused_when_it_is_no_id(value: object, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        Scope("user").read(config(user_id=value), None)
    assert len(str(caught.value)) < 300


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_keys_collide_only_when_budget_and_value_are_the_same(
    budget: str, value: str, other_budget: str, other_value: str
) -> None:
    texts = (budget, value, other_budget, other_value)
    if any("\ud800" <= char <= "\udfff" for text in texts for char in text):
        return
    for window in (None, Window("day"), Window("1h", rolling=True)):
        one = account_entry(budget, "user", Limits(), value=value, window=window).account(0.0)
        other = account_entry(other_budget, "user", Limits(), value=other_value).account(0.0)
        same = (budget, value, window) == (other_budget, other_value, None)
        assert (other.key in one.keys) == same


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=1_024))
def test_key_is_short_and_printable_whatever_the_value_is(value: str) -> None:
    key = account_entry("b" * 500, "user", Limits(), value=value, window=Window("day")).account(0.0)
    assert len(key.key) < 600
    assert key.key.isascii()
    assert key.key.isprintable()


def test_long_value_is_not_the_name_that_its_digest_is() -> None:
    long = account_entry("b", "user", Limits(), value="x" * 1_000).stem
    assert account_entry("b", "user", Limits(), value=long.rpartition("/")[2]).stem != long


# ------------------------------------------------------------------------- limits of scopes


def test_each_user_has_limits_of_their_own() -> None:
    budget = Budget(scopes=[Scope("user", Limits(cloud_calls=1))])
    spend(run_for(budget, user_id="ada"))
    with pytest.raises(BudgetExceeded) as caught:
        spend(run_for(budget, user_id="ada"))
    assert caught.value.scope == "user"
    spend(run_for(budget, user_id="bob"))


def test_call_is_held_in_all_scopes_or_in_none() -> None:
    budget = Budget(
        max_cloud_calls=9,
        scopes=[Scope("tenant", Limits(cloud_calls=3)), Scope("user", Limits(cloud_calls=1))],
    )
    spend(run_for(budget, tenant_id="acme", user_id="ada"))
    with pytest.raises(BudgetExceeded) as caught:
        spend(run_for(budget, tenant_id="acme", user_id="ada"))
    assert caught.value.scope == "user"
    state = budget.snapshot(budget.scope_values(config(tenant_id="acme", user_id="ada")))
    assert state["cloud_calls"]["spent"] == 1
    assert [one["cloud_calls"]["spent"] for one in state["scopes"]] == [1, 1]
    assert [one["cloud_calls"]["held"] for one in state["scopes"]] == [0, 0]


def test_first_account_without_enough_names_the_refusal_budget_then_scopes_then_run() -> None:
    def refused(**limits: Any) -> str:
        budget = Budget(
            max_cloud_calls=limits.get("budget"),
            scopes=[
                Scope("tenant", Limits(cloud_calls=limits.get("tenant"))),
                Scope("user", Limits(cloud_calls=limits.get("user"))),
            ],
            per_run=Limits(cloud_calls=0),
        )
        with pytest.raises(BudgetExceeded) as caught:
            spend(run_for(budget, tenant_id="acme", user_id="ada"))
        return caught.value.scope

    assert refused(budget=0, tenant=0, user=0) == "budget"
    assert refused(tenant=0, user=0) == "tenant"
    assert refused(user=0) == "user"
    assert refused() == "run"


def test_one_user_can_have_limits_for_the_day_and_for_the_month() -> None:
    clock = ManualClock()
    budget = Budget(
        scopes=[
            Scope("user", Limits(cloud_calls=1), window="day"),
            Scope("user", Limits(cloud_calls=2), window="month"),
        ],
        ledger=MemoryLedger(clock, epoch_s=0.0),
    )
    for _ in range(2):
        spend(run_for(budget, user_id="ada"))
        with pytest.raises(BudgetExceeded):
            spend(run_for(budget, user_id="ada"))
        clock.advance(DAY)
    with pytest.raises(BudgetExceeded) as caught:
        spend(run_for(budget, user_id="ada"))
    assert caught.value.limit == 2


def test_global_scope_is_a_second_window_for_everybody() -> None:
    budget = Budget(
        max_cloud_calls=5,
        window="hour",
        scopes=[Scope("global", Limits(cloud_calls=1), window="day")],
    )
    spend(budget.start_run())
    with pytest.raises(BudgetExceeded) as caught:
        spend(budget.start_run())
    assert caught.value.scope == "global"


def test_run_scope_is_per_run_in_long() -> None:
    budget = Budget(scopes=Scope("run", Limits(cloud_calls=1)))
    run = budget.start_run("one")
    spend(run)
    with pytest.raises(BudgetExceeded) as caught:
        spend(run, "b")
    assert caught.value.scope == "run"
    spend(budget.start_run("two"))


def test_account_of_a_run_may_be_forgotten_and_that_of_the_budget_not() -> None:
    budget = Budget(max_cloud_calls=5, per_run=Limits(cloud_calls=1))
    lease = budget.start_run().reserve("a", CALL)
    assert [account.keep_s is None for account in lease.accounts] == [True, False]


@pytest.mark.parametrize("scopes", [[Scope("user", Limits(usd=1))], Scope("team", Limits(usd=1))])
def test_limit_of_a_scope_asks_for_a_price_and_a_cap_like_any_other(scopes: Any) -> None:
    budget = Budget(scopes=scopes)
    assert (budget.limits_usd, budget.caps_output) == (True, True)
    with pytest.raises(UnknownPriceError):
        budget.quote("cloud", "never-heard-of-it", Usage(1, 1))


# ------------------------------------------------------------------------- windows roll on


def test_limit_is_there_again_when_the_window_ends_in_the_middle_of_a_run() -> None:
    clock = ManualClock()
    budget = Budget(max_cloud_calls=1, window="1h", ledger=MemoryLedger(clock, epoch_s=0.0))
    run = budget.start_run()
    clock.advance(3_599)
    spend(run, "a")
    with pytest.raises(BudgetExceeded):
        run.reserve("b", CALL)
    clock.advance(1)
    spend(run, "c")
    assert run.snapshot().cloud_calls.spent == 1


def test_call_is_booked_in_the_window_in_which_it_was_reserved() -> None:
    clock = ManualClock()
    budget = Budget(max_cloud_calls=1, window="1h", ledger=MemoryLedger(clock, epoch_s=0.0))
    run = budget.start_run()
    lease = run.reserve("a", CALL)
    clock.advance(3_600)
    run.commit(lease, CALL)
    assert budget.snapshot()["cloud_calls"]["spent"] == 0
    run.reserve("b", CALL)


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(1, 30)), min_size=1, max_size=40))
def test_rolling_limit_holds_in_every_stretch_of_its_length(steps: list[tuple[int, int]]) -> None:
    clock = ManualClock()
    limit, length_s = 60, 3_600
    budget = Budget(
        max_cloud_tokens=limit,
        window=Window("1h", rolling=True),
        ledger=MemoryLedger(clock, epoch_s=0.0),
    )
    run = budget.start_run()
    granted: list[tuple[float, int]] = []
    for number, (wait_s, tokens) in enumerate(steps):
        now = clock.advance(float(wait_s))
        try:
            lease = run.reserve(str(number), Amounts(cloud_tokens=tokens))
        except BudgetExceeded:
            counted = sum(one for when, one in granted if now - when < length_s * 13 / 12)
            assert counted + tokens > limit  # never refused for what lies further back
            continue
        run.commit(lease, Amounts(cloud_tokens=tokens))
        granted.append((now, tokens))
        assert sum(one for when, one in granted if now - when < length_s) <= limit


def test_window_goes_by_the_clock_of_the_store() -> None:
    budget = Budget(
        max_cloud_calls=1,
        window="day",
        ledger=MemoryLedger(ManualClock(), epoch_s=1_763_683_200.0),
        clock=ManualClock(5.0),
    )
    assert budget.snapshot()["window"] == {
        "id": "day",
        "starts_at": 1_763_683_200.0,
        "ends_at": 1_763_769_600.0,
    }


async def test_async_face_follows_the_windows_like_the_sync_one() -> None:
    clock = ManualClock()
    budget = Budget(max_cloud_calls=1, window="1h", ledger=MemoryLedger(clock, epoch_s=0.0))
    run = budget.start_run()
    await run.acommit(await run.areserve("a", CALL), CALL)
    with pytest.raises(BudgetExceeded):
        await run.areserve("b", CALL)
    clock.advance(3_600)
    await run.areserve("c", CALL)
    assert (await run.asnapshot()).cloud_calls.held == 1
    assert (await budget.asnapshot()) == budget.snapshot()


def test_accounts_are_made_anew_only_when_a_window_ends() -> None:
    entry = account_entry("b", "budget", Limits(), window=Window("1h"))
    book = AccountBook((entry,))
    assert book.at(10.0) is book.at(3_599.0)
    assert book.at(3_600.0)[0].key != book.at(0.0)[0].key


# ------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "User"},
        {"name": "budget"},
        {"name": ""},
        {"name": "a/b"},
        {"name": None},
        {"name": "user", "limits": {"usd": 1}},
        {"name": "user", "window": "week"},
        {"name": "user", "value": "ada"},
        {"name": "run", "value": lambda *_: "x"},
    ],
    ids=lambda options: str(options).partition(" at 0x")[0],  # the same in each process
)
def test_scope_is_refused_when_a_parameter_cannot_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Scope(**wrong)


def test_scope_is_refused_when_its_function_is_async() -> None:
    async def value(config: Any, context: Any) -> str:
        return "ada"

    with pytest.raises(ConfigurationError, match="async"):
        Scope("user", value=value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": "fortnight"},
        {"window": 3_600},
        {"scopes": ["user"]},
        {"scopes": "user"},
        {"scopes": [Scope("user"), Scope("user")]},
        {"scopes": [Scope("user", window="day"), Scope("user", window="day")]},
        {"scopes": [Scope("run")], "per_run": Limits(usd=1)},
        {"store": "memory://", "ledger": MemoryLedger()},
        {"store": 5},
        {"store": "env:NO_SUCH_VARIABLE_IS_SET"},
        {"on_store_failure": "ajar"},
        {"on_store_failure": "open"},
        {"fail_open_limit": Limits(usd=1)},
        {"on_exhausted": "beg"},
        {"name": "a\nb"},
    ],
    ids=lambda options: str(options).partition(" at 0x")[0],  # the same in each process
)
def test_budget_is_refused_when_scopes_windows_or_stores_cannot_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Budget(**wrong)


def test_run_is_refused_when_its_values_are_those_of_another_budget() -> None:
    limits = Limits(cloud_calls=1)
    values = Budget(scopes=[Scope("tenant", limits)]).scope_values(config(tenant_id="acme"))
    budget = Budget(scopes=[Scope("user", limits)])
    with pytest.raises(ConfigurationError, match=r"tenant.*user"):
        budget.start_run(scope_values=values)
    with pytest.raises(ConfigurationError, match="tenant"):
        Budget(per_run=limits).start_run(scope_values=values)


def test_run_is_refused_when_nobody_says_for_whom_it_is() -> None:
    with pytest.raises(ConfigurationError, match="user_id"):
        Budget(scopes=[Scope("user")]).start_run()


def test_budget_counts_in_the_store_of_its_url() -> None:
    assert isinstance(Budget(store="memory://").ledger, MemoryLedger)


def test_budget_takes_the_url_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUDGET_STORE", "memory://")
    budget = Budget(store="env:BUDGET_STORE")
    assert isinstance(budget.ledger, MemoryLedger)
    assert budget_settings(budget) == {"store": "env:BUDGET_STORE"}


def test_settings_of_a_budget_with_scopes_and_windows_make_the_same_budget() -> None:
    budget = Budget(
        limit_usd=5,
        window=Window("day", tz="Europe/Berlin"),
        scopes=[Scope("user", Limits(usd="0.5"), window="last 1h", required=False)],
        on_exhausted="ask",
    )
    settings = json.loads(json.dumps(budget_settings(budget)))
    again = budget_from_settings(settings)
    assert (again.window, again.scopes, again.limits, again.on_exhausted) == (
        budget.window,
        budget.scopes,
        budget.limits,
        "ask",
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@db/0",
        "postgresql://u:hunter2@db/b",
        "postgresql://db/b?password=x",
        "postgresql://db/b?pass%77ord=x",
    ],
)
def test_settings_never_hold_a_password(url: str) -> None:
    budget = Budget(store="memory://")
    budget.store = url
    assert budget_settings(budget) is None


def test_settings_are_not_written_when_a_scope_reads_its_value_by_a_function() -> None:
    assert budget_settings(Budget(scopes=[Scope("user", value=lambda *_: "x")])) is None


def test_settings_are_not_written_when_the_ledger_in_memory_is_not_like_the_default() -> None:
    assert budget_settings(Budget(ledger=MemoryLedger(on_expiry="refund"))) is None
    assert budget_settings(Budget(ledger=MemoryLedger())) == {}


def test_pickled_budget_counts_on_in_its_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUDGET_STORE", "memory://")
    budget = Budget(
        limit_usd=2, window="day", scopes=[Scope("user", Limits(usd=1))], store="env:BUDGET_STORE"
    )
    again = pickle.loads(pickle.dumps(budget))
    assert budget_settings(again) == budget_settings(budget)


def test_budget_without_a_store_is_not_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Budget(limit_usd=1))


# ------------------------------------------------------------------------- the store is away


@pytest.mark.parametrize("what", ["check", "snapshot"])
def test_store_that_does_not_answer_is_said_so(what: str) -> None:
    ledger = OutageLedger()
    ledger.state = "down"
    with pytest.raises(LedgerUnavailable, match="outage"):
        getattr(Budget(ledger=ledger), what)()


async def test_store_that_does_not_answer_is_said_so_to_the_async_face_too() -> None:
    ledger = OutageLedger()
    ledger.state = "down"
    with pytest.raises(LedgerUnavailable):
        await Budget(ledger=ledger).acheck()


def test_check_changes_nothing() -> None:
    budget = Budget(max_cloud_calls=1)
    before = budget.snapshot()
    budget.check()
    assert budget.snapshot() == before


def test_budget_that_fails_open_says_so() -> None:
    ledger = OutageLedger()
    budget = Budget(
        max_cloud_calls=9,
        ledger=ledger,
        on_store_failure="open",
        fail_open_limit=Limits(cloud_calls=1),
    )
    assert isinstance(budget.ledger, FailOpenLedger)
    assert budget.snapshot()["store"]["answers"]
    ledger.state = "down"
    spend(budget.start_run())
    with pytest.raises(BudgetExceeded, match="fail-open cap"):
        spend(budget.start_run())
    state = budget.snapshot()
    assert not state["store"]["answers"]
    assert state["store"]["unbooked"]["cloud_calls"] == 1
    assert state["cloud_calls"]["spent"] == 1


@pytest.mark.parametrize(
    "pacing", [Pacing(), Pacing(expected_calls=9), Pacing(demand=[0.0] * 8 + [1.0] * 16)]
)
def test_settings_and_pickles_hold_the_pacing(pacing: Pacing) -> None:
    budget = Budget(limit_usd=1, window="day", pacing=pacing, store="memory://")
    settings = json.loads(json.dumps(budget_settings(budget)))
    assert budget_from_settings(settings).pacing == pacing
    assert pickle.loads(pickle.dumps(budget)).pacing == pacing
