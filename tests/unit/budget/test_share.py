"""A cap on the share of cloud calls, as a budget keeps it for all of its runs."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_hybridflow.budget import (
    Amounts,
    AsyncFromSync,
    Budget,
    Lease,
    Limits,
    MemoryLedger,
    Note,
    RunBudget,
    Scope,
    ShareCap,
    ratio_of_share,
    share_of_ratio,
)
from langchain_hybridflow.budget.inventory import inventory, reset_row, sorted_rows
from langchain_hybridflow.budget.settings import budget_from_settings, budget_settings
from langchain_hybridflow.budget.share import MICRO_CALLS, Stash
from langchain_hybridflow.errors import BudgetExceeded, CloudShareExceeded, ConfigurationError
from langchain_hybridflow.testing import ManualClock, OutageLedger

CLOUD = Amounts(cloud_tokens=100, cloud_calls=1)
EDGE = Amounts()


def buys(run: RunBudget, lease_id: str, amounts: Amounts = CLOUD, *, answered: bool = True) -> bool:
    """Buy, if the budget lets it."""
    try:
        lease = run.reserve(lease_id, amounts)
    except BudgetExceeded:
        return False
    run.commit(lease, amounts, answered=answered)
    return True


def answers(budget: Budget, wanted: str) -> str:
    """Answer prompts, "c" by the cloud if it is allowed and "e" by the edge; says who did."""
    said = ""
    for one in wanted:
        run = budget.start_run()
        if one == "c" and buys(run, "call/0-cloud"):
            said += "c"
        else:
            buys(run, "call/1-edge", EDGE)
            said += "e"
    return said


def calls_left(budget: Budget) -> int:
    left = budget.snapshot()["cloud_share"]["remaining"]
    assert isinstance(left, int)
    return left


# ----------------------------------------------------------------------------- the bound

# What a prompt does: "e" is answered by the edge, "c" by the cloud, "f" pays for a cloud call
# that fails, "r" gives one back. The edge answers when the cloud is refused.
KINDS = ("e", "c", "ec", "fe", "re", "rc", "fc", "ecc", "fec")


class Prompt:
    """A prompt that is under way: one step at a time, so that others can come between."""

    def __init__(self, budget: Budget, name: int, kind: str) -> None:
        self.run = budget.start_run(f"run-{name}")
        self.name = name
        self.steps = list(kind)
        self.lease: Lease | None = None

    def step(self, log: list[tuple[str, int]]) -> bool:
        """Do one half of a purchase; say whether there is more to do."""
        step = self.steps[0]
        if self.lease is None:
            try:
                number = f"call/{len(self.steps)}"
                self.lease = self.run.reserve(number, EDGE if step == "e" else CLOUD)
            except BudgetExceeded:
                self.steps = ["e"]
                return True
            if step in "cf":
                log.append(("cloud", self.name))
            return True
        if step == "r":
            self.run.release(self.lease)
        else:
            self.run.commit(self.lease, self.lease.amounts, answered=step != "f")
            if step != "f":
                log.append(("answered", self.name))
        self.lease = None
        self.steps = self.steps[1:]
        return bool(self.steps)


@given(data=st.data(), share=st.sampled_from([0, 0.1, 0.25, 0.3, 0.5, 1]), burst=st.integers(1, 3))
@settings(deadline=None, max_examples=150)
def test_no_stretch_of_events_passes_the_share(
    data: st.DataObject, share: float, burst: int
) -> None:
    """However prompts meet, and whatever each of them buys."""
    budget = Budget(max_cloud_share=share, share_burst=burst)
    kinds = data.draw(st.lists(st.sampled_from(KINDS), max_size=40))
    waiting = [Prompt(budget, name, kind) for name, kind in enumerate(kinds)]
    log: list[tuple[str, int]] = []
    under_way: list[Prompt] = []
    while waiting or under_way:
        most = min(len(under_way), 4)
        at = data.draw(st.integers(0, most if waiting and most < 4 else most - 1))
        if at == len(under_way):
            under_way.append(waiting.pop(0))
        if not under_way[at].step(log):
            del under_way[at]
    for begin in range(len(log)):
        answered: set[int] = set()
        made = 0
        counted_before = {name for what, name in log[:begin] if what == "answered"}
        for what, name in log[begin:]:
            made += what == "cloud"
            if what == "answered" and name not in counted_before:
                answered.add(name)
            assert made <= share * len(answered) + burst


@given(share=st.floats(0.02, 1), burst=st.integers(2, 12))
@settings(deadline=None, max_examples=30)
def test_share_is_used_up_when_everything_wants_the_cloud(share: float, burst: int) -> None:
    said = answers(Budget(max_cloud_share=share, share_burst=burst), "c" * 300)
    assert share * 299 - 1 <= said.count("c") <= share * 300 + burst


def test_calls_come_back_as_prompts_are_answered() -> None:
    assert answers(Budget(max_cloud_share=0.25, share_burst=1), "cccccccce") == "ceeeceeee"


def test_quiet_time_saves_no_more_than_the_burst() -> None:
    assert answers(Budget(max_cloud_share=0.5, share_burst=3), "e" * 100 + "c" * 8) == (
        "e" * 100 + "ccccc" + "ece"
    )


# ----------------------------------------------------------------------------- what counts


def test_prompt_counts_once_when_it_escalates() -> None:
    budget = Budget(max_cloud_share=0.4, share_burst=2)
    run = budget.start_run()
    buys(run, "call/0-edge", EDGE)
    buys(run, "call/1-cloud")
    gauge = run.snapshot().cloud_share
    assert gauge is not None
    assert (gauge.prompts, gauge.cloud_calls, gauge.share) == (1, 1, 1.0)


def test_each_owner_of_a_run_is_a_prompt() -> None:
    run = Budget(max_cloud_share=0.4).start_run()
    for lease_id in ("plan/0/a", "1/0-edge/b", "2/0-edge/c", "2/1-edge/d"):
        buys(run, lease_id, EDGE)
    gauge = run.snapshot().cloud_share
    assert gauge is not None
    assert gauge.prompts == 3


def test_prompt_counts_once_when_its_run_is_resumed_elsewhere() -> None:
    ledger = MemoryLedger()
    budgets = [Budget(max_cloud_share=0.4, ledger=ledger) for _ in range(3)]
    for budget in budgets:
        buys(budget.start_run("the run"), "1/0-edge", EDGE)
    gauge = budgets[0].start_run().snapshot().cloud_share
    assert gauge is not None
    assert gauge.prompts == 1


def test_call_that_gave_no_answer_takes_a_call_and_counts_no_prompt() -> None:
    budget = Budget(max_cloud_share=1, share_burst=3)
    run = budget.start_run()
    buys(run, "call/0-cloud", answered=False)
    gauge = run.snapshot().cloud_share
    assert gauge is not None
    assert (gauge.prompts, gauge.cloud_calls, gauge.remaining) == (0, 1, 2)


def test_call_is_there_again_when_it_was_not_made() -> None:
    budget = Budget(max_cloud_share=0, share_burst=1)
    run = budget.start_run()
    run.release(run.reserve("call/0-cloud", CLOUD))
    assert buys(run, "call/1-cloud")
    assert not buys(run, "call/2-cloud")


def test_call_is_taken_when_nobody_settles_it() -> None:
    """A process that was killed: its call may have been made."""
    clock = ManualClock()
    ledger = MemoryLedger(clock=clock)
    budget = Budget(max_cloud_share=0.5, share_burst=1, ledger=ledger, lease_ttl_s=60)
    budget.start_run().reserve("call/0-cloud", CLOUD)
    clock.advance(61)
    assert answers(budget, "cec") == "eec"


def test_earmark_holds_a_call_until_it_is_dropped() -> None:
    budget = Budget(max_cloud_share=0, share_burst=1)
    run = budget.start_run()
    assert run.earmark("final", CLOUD)
    assert not budget.start_run().earmark("final", CLOUD)
    assert calls_left(budget) == 0
    mine = run.snapshot("final").cloud_share
    assert mine is not None
    assert mine.remaining == 1
    run.drop_earmarks()
    assert calls_left(budget) == 1


def test_edge_that_costs_something_takes_no_call() -> None:
    run = Budget(max_cloud_share=0, share_burst=1).start_run()
    assert all(buys(run, f"{number}/0-edge", Amounts(usd_micros=5)) for number in range(3))


def test_nothing_is_asked_of_the_ledger_for_edge_answers_when_no_share_is_capped() -> None:
    ledger = OutageLedger()
    run = Budget(max_cloud_calls=5, ledger=ledger).start_run()
    buys(run, "call/0-edge", EDGE)
    assert ledger.asked == 0


def test_async_face_counts_like_the_sync_one() -> None:
    async def use() -> list[str]:
        budget = Budget(max_cloud_share=0.5, share_burst=1)
        said = []
        for _ in range(4):
            run = budget.start_run()
            try:
                lease = await run.areserve("call/0-cloud", CLOUD)
                said.append("c")
            except CloudShareExceeded:
                lease = await run.areserve("call/1-edge", EDGE)
                said.append("e")
            await run.acommit(lease, lease.amounts)
        return said

    assert asyncio.run(use()) == ["c", "e", "c", "e"]


# ----------------------------------------------------------------------------- refusals


def test_refusal_says_what_is_left_and_when_there_is_more() -> None:
    budget = Budget(max_cloud_share=0.3, share_burst=2)
    run = budget.start_run()
    run.reserve("1/0-cloud", CLOUD)
    run.commit(run.reserve("2/0-cloud", CLOUD), CLOUD, answered=False)
    with pytest.raises(CloudShareExceeded) as caught:
        run.reserve("3/0-cloud", CLOUD)
    error = caught.value
    assert (error.dimension, error.scope) == ("cloud_share", "cloud-share")
    assert (error.requested, error.remaining, error.limit, error.held) == (1, 0, 2, 1)
    assert error.max_share == Decimal("0.3")
    assert str(error) == (
        "The call would pass the cloud-share: cloud calls are at most 30 % of the answered "
        "prompts, and up to 2 in a row, of which 0 are left (1 under way). Another one comes with "
        "every 3.33 prompts. Raise max_cloud_share or share_burst, or let the edge answer with "
        "on_exhausted='edge'."
    )


def test_refusal_names_the_limit_before_the_share() -> None:
    run = Budget(max_cloud_share=0, share_burst=1, max_cloud_calls=1).start_run()
    buys(run, "call/0-cloud")
    with pytest.raises(BudgetExceeded) as caught:
        run.reserve("call/1-cloud", CLOUD)
    assert not isinstance(caught.value, CloudShareExceeded)


def approve(owner: str, amounts: Amounts, *, refused: Any, lacking: Any) -> Any:
    from langchain_hybridflow.budget import Allowance

    return Allowance.covering(lacking, amounts, calls=1)


@pytest.mark.parametrize(
    ("liftable", "granted"),
    [(None, False), (("budget",), False), (("budget", "cloud-share"), True)],
)
def test_person_lifts_the_share_only_when_it_is_named(
    liftable: tuple[str, ...] | None, granted: bool
) -> None:
    budget = Budget(max_cloud_share=0, share_burst=1, on_exhausted="ask", liftable=liftable)
    buys(budget.start_run(), "call/0-cloud")
    assert buys(budget.start_run(ask=approve), "call/0-cloud") is granted


def test_share_holds_when_a_person_lifts_another_limit() -> None:
    budget = Budget(max_cloud_share=0, share_burst=2, max_cloud_calls=1, on_exhausted="ask")
    assert buys(budget.start_run(), "call/0-cloud")
    assert buys(budget.start_run(ask=approve), "call/0-cloud")
    assert not buys(budget.start_run(ask=approve), "call/0-cloud")


def test_what_a_person_has_approved_is_paid_back_by_later_prompts() -> None:
    budget = Budget(
        max_cloud_share=0.5, share_burst=1, on_exhausted="ask", liftable=["cloud-share"]
    )
    buys(budget.start_run(), "call/0-cloud", answered=False)
    assert buys(budget.start_run(ask=approve), "call/0-cloud")
    assert answers(budget, "cccc") == "eeec"


# ----------------------------------------------------------------------------- for whom


def user(budget: Budget, name: str) -> RunBudget:
    return budget.start_run(scope_values=budget.scope_values({"configurable": {"user_id": name}}))


def test_each_user_has_a_share_of_their_own() -> None:
    budget = Budget(scopes=[Scope("user", max_cloud_share=0.5, share_burst=1)])
    assert buys(user(budget, "ada"), "call/0-cloud", answered=False)
    assert buys(user(budget, "bob"), "call/0-cloud")
    assert not buys(user(budget, "ada"), "call/0-cloud")
    for _ in range(2):
        buys(user(budget, "ada"), "call/0-edge", EDGE)
    assert buys(user(budget, "ada"), "call/0-cloud")


def test_call_is_admitted_by_all_shares_or_by_none() -> None:
    budget = Budget(
        max_cloud_share=1,
        share_burst=2,
        scopes=[Scope("user", Limits(cloud_calls=9), max_cloud_share=0, share_burst=1)],
    )
    assert buys(user(budget, "ada"), "call/0-cloud", answered=False)
    with pytest.raises(CloudShareExceeded) as caught:
        user(budget, "ada").reserve("call/0-cloud", CLOUD)
    assert caught.value.scope == "user-cloud-share"
    assert calls_left(budget) == 1
    gauge = user(budget, "ada").snapshot().cloud_share
    assert gauge is not None
    assert (gauge.scope, gauge.remaining) == ("user-cloud-share", 0)


def test_share_goes_on_when_a_new_window_begins() -> None:
    """It is counted over prompts: midnight fills no bucket."""
    clock = ManualClock(start_s=3_600.0 * 23)
    ledger = MemoryLedger(clock=clock, epoch_s=3_600.0 * 23)
    budget = Budget(
        max_cloud_share=0, share_burst=1, max_cloud_calls=9, window="day", ledger=ledger
    )
    assert buys(budget.start_run(), "call/0-cloud")
    clock.advance(7_200)
    run = budget.start_run()
    assert run.snapshot().cloud_calls.spent == 0
    assert not buys(run, "call/0-cloud")


# ----------------------------------------------------------------------------- faults


def test_prompt_counts_once_when_the_reply_was_lost() -> None:
    ledger = OutageLedger()
    budget = Budget(max_cloud_share=1, share_burst=2, ledger=ledger)
    run = budget.start_run()
    lease = run.reserve("call/0-edge", EDGE)
    ledger.state = "deaf"
    run.commit(lease, EDGE)
    ledger.state = "up"
    buys(budget.start_run(), "call/0-cloud")
    gauge = budget.start_run().snapshot().cloud_share
    assert gauge is not None
    assert gauge.prompts == 2


def test_prompt_is_counted_later_when_the_store_is_down() -> None:
    ledger = OutageLedger()
    budget = Budget(max_cloud_share=1, share_burst=2, ledger=ledger)
    run = budget.start_run()
    lease = run.reserve("call/0-edge", EDGE)
    ledger.state = "down"
    run.commit(lease, EDGE)
    ledger.state = "up"
    buys(budget.start_run(), "call/0-cloud")
    gauge = budget.start_run().snapshot().cloud_share
    assert gauge is not None
    assert gauge.prompts == 2


def test_what_was_spent_without_the_store_counts_when_it_is_back() -> None:
    ledger = OutageLedger()
    budget = Budget(
        max_cloud_share=0.5,
        share_burst=1,
        ledger=ledger,
        on_store_failure="open",
        fail_open_limit=Limits(cloud_calls=2),
    )
    budget.ledger._retry_s = 0.0  # type: ignore[attr-defined]  # ask it again at once
    ledger.state = "down"
    assert answers(budget, "ccc") == "cce"
    ledger.state = "up"
    assert answers(budget, "ec") == "ec"
    gauge = budget.start_run().snapshot().cloud_share
    assert gauge is not None
    assert (gauge.prompts, gauge.cloud_calls) == (5, 3)


def test_prompts_that_wait_for_the_store_are_not_kept_without_end() -> None:
    """What is not counted only fills the bucket more slowly."""
    ledger = OutageLedger()
    budget = Budget(
        max_cloud_share=0.5,
        ledger=ledger,
        on_store_failure="open",
        fail_open_limit=Limits(cloud_calls=2),
    )
    ledger.state = "down"
    answers(budget, "e" * 1_100)
    ledger.state = "up"
    budget.close()
    gauge = budget.start_run().snapshot().cloud_share
    assert gauge is not None
    assert gauge.prompts == 1_024


def test_nothing_is_bought_when_the_store_cannot_count_prompts() -> None:
    """An answer that cannot be counted would be paid for and lost."""

    class Old(MemoryLedger):
        def refill(self, refill_id: str, refills: Any) -> bool:
            raise ConfigurationError("old tables")

    budget = Budget(max_cloud_share=0.5, ledger=Old())
    for amounts in (EDGE, CLOUD):
        with pytest.raises(ConfigurationError, match="old tables"):
            budget.start_run().reserve("call/0", amounts)
    assert budget.snapshot()["cloud_share"]["held"] == 0


def test_ledger_that_cannot_refill_is_refused() -> None:
    """One that somebody wrote before there were shares."""
    names = ("now", "reserve", "extend", "commit", "release", "expire", "snapshot", "swap_note")
    methods = {name: getattr(MemoryLedger, name) for name in (*names, "reconcile", "close")}
    plain: Any = type("PlainLedger", (AsyncFromSync,), methods)()
    Budget(max_cloud_calls=3, ledger=plain)
    with pytest.raises(ConfigurationError, match="RefillableLedger"):
        Budget(max_cloud_share=0.3, ledger=plain)


# ----------------------------------------------------------------------------- seeing it


def test_snapshot_shows_the_share_apart_from_the_limits() -> None:
    budget = Budget(max_cloud_share=0.5, share_burst=2, max_cloud_calls=100)
    buys(budget.start_run(), "call/0-cloud")
    run = budget.start_run()
    run.reserve("call/0-cloud", CLOUD)
    snapshot = run.snapshot()
    gauge = snapshot.cloud_share
    assert gauge is not None
    assert (gauge.prompts, gauge.cloud_calls, gauge.held, gauge.remaining) == (1, 1, 1, 0)
    assert (snapshot.cloud_calls.limit, snapshot.cloud_calls.spent) == (100, 1)
    assert snapshot.pressure == 0.02
    assert snapshot.exhausted


def test_snapshot_is_exhausted_by_limits_alone_when_no_share_is_capped() -> None:
    snapshot = Budget(max_cloud_calls=1).start_run().snapshot()
    assert (snapshot.cloud_share, snapshot.exhausted) == (None, False)


def test_plain_snapshot_shows_shares_of_the_budget_and_its_scopes() -> None:
    budget = Budget(
        max_cloud_share="0.3", scopes=[Scope("user", max_cloud_share=0.5, share_burst=4)]
    )
    buys(user(budget, "ada"), "call/0-cloud")
    shown = budget.snapshot(budget.scope_values({"configurable": {"user_id": "ada"}}))
    assert shown["cloud_share"] == {
        "max_share": 0.3,
        "share": 1.0,
        "prompts": 1,
        "cloud_calls": 1,
        "held": 0,
        "remaining": 9,
        "burst": 10,
    }
    assert [one["scope"] for one in shown["scopes"]] == ["user", "user-cloud-share"]
    assert shown["scopes"][1]["cloud_share"]["remaining"] == 3
    assert json.loads(json.dumps(shown)) == shown
    assert "cloud_share" not in Budget(max_cloud_calls=1).snapshot()


def test_gauges_show_the_share() -> None:
    budget = Budget(max_cloud_share=0.5, share_burst=2, name="b")
    answers(budget, "cee")
    text = budget.prometheus()
    labels = '{budget="b",scope="cloud-share",window=""}'
    assert f"hybridflow_budget_prompts{labels} 3.0" in text
    assert f"hybridflow_budget_cloud_share{labels} 0.3333333333333333" in text
    assert f"hybridflow_budget_max_cloud_share{labels} 0.5" in text


def test_store_tells_others_of_the_share(tmp_path: Path) -> None:
    budget = Budget(
        max_cloud_share=0.5,
        share_burst=2,
        scopes=[Scope("user", max_cloud_share=0.25)],
        store=f"sqlite:///{tmp_path}/budget.db",
        name="team",
    )
    buys(user(budget, "ada"), "call/0-cloud")
    rows = sorted_rows(inventory(budget.ledger))  # type: ignore[arg-type]
    shares = {row.scope: row.to_json()["cloud_share"] for row in rows if row.share is not None}
    assert {scope: one["max_share"] for scope, one in shares.items()} == {
        "cloud-share": 0.5,
        "user-cloud-share": 0.25,
    }
    assert shares["cloud-share"]["cloud_calls"] == 1
    (row,) = [row for row in rows if row.scope == "cloud-share"]
    assert row.state.account.limits.cloud_calls == 2
    reset_row(budget.ledger, row)  # type: ignore[arg-type]
    assert calls_left(budget) == 2
    budget.close()


def test_alerts_tell_nothing_of_a_bucket() -> None:
    told: list[Any] = []
    budget = Budget(max_cloud_share=0, share_burst=1, max_cloud_calls=9, on_alert=told.append)
    buys(budget.start_run(), "call/0-cloud")
    assert not buys(budget.start_run(), "call/0-cloud")
    budget.start_run().snapshot()
    assert told == []


# ----------------------------------------------------------------------------- settings


def test_settings_make_the_same_share() -> None:
    budget = Budget(
        max_cloud_share=0.3,
        share_burst=4,
        scopes=[Scope("user", Limits(usd=1), max_cloud_share="0.2")],
    )
    written = budget_settings(budget)
    assert written is not None
    assert (written["max_cloud_share"], written["share_burst"]) == ("0.3", 4)
    again = budget_from_settings(json.loads(json.dumps(written)))
    assert (again.share, again.scopes) == (budget.share, budget.scopes)


def test_pickled_budget_counts_in_the_same_bucket(tmp_path: Path) -> None:
    budget = Budget(
        max_cloud_share=0, share_burst=1, store=f"sqlite:///{tmp_path}/budget.db", name="team"
    )
    again = pickle.loads(pickle.dumps(budget))
    assert again.share == ShareCap(0, 1)
    assert buys(budget.start_run(), "call/0-cloud")
    assert not buys(again.start_run(), "call/0-cloud")
    again.close()
    budget.close()


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"max_cloud_share": 1.1}, "0..1"),
        ({"max_cloud_share": -0.1}, "negative"),
        ({"max_cloud_share": float("nan")}, "finite"),
        ({"max_cloud_share": True}, "number"),
        ({"max_cloud_share": 1e-9}, "millionths"),
        ({"max_cloud_share": 0.5, "share_burst": 0}, "share_burst"),
        ({"max_cloud_share": 0.5, "share_burst": 2.5}, "share_burst"),
        ({"share_burst": 3}, "goes with max_cloud_share"),
        ({"max_cloud_share": 0.5, "liftable": ["user-cloud-share"]}, "liftable"),
        ({"liftable": ["cloud-share"]}, "liftable"),
    ],
)
def test_share_that_cannot_be_is_refused(given: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        Budget(**given)


def test_two_shares_for_one_scope_are_refused() -> None:
    scopes = [
        Scope("user", max_cloud_share=0.1, window="day"),
        Scope("user", max_cloud_share=0.2, window="hour"),
    ]
    with pytest.raises(ConfigurationError, match="max_cloud_share"):
        Budget(scopes=scopes)


@given(share=st.decimals(0, "0.99", places=4))
def test_ratio_and_share_are_turned_into_each_other(share: Decimal) -> None:
    assert abs(share_of_ratio(ratio_of_share(share)) - share) < Decimal("1e-11")


@pytest.mark.parametrize("share", [1, 1.5, -0.1])
def test_share_without_a_ratio_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError):
        ratio_of_share(share)


@given(parts=st.lists(st.integers(0, MICRO_CALLS), max_size=60), used=st.integers(0, 5))
def test_stash_gives_back_what_prompts_put_aside(parts: list[int], used: int) -> None:
    """Never more than was used, never more than was put aside, and all of it but a part."""
    stash, left = Stash(), used
    for part in parts:
        back, stash = stash.refill(used=left, micro_calls=part)
        left -= back
        assert 0 <= stash.micro_calls < MICRO_CALLS
    assert Counter(parts).total() == stash.prompts
    assert left * MICRO_CALLS - stash.micro_calls == max(0, used * MICRO_CALLS - sum(parts))
    assert Stash.of(stash.note) == stash


@pytest.mark.parametrize("text", ["", "1", "1 2 3", "-1 2", "x y", "1.5 2"])
def test_note_that_is_no_stash_counts_as_empty(text: str) -> None:
    assert Stash.of(Note(7, text)) == Stash(prompts=7)
