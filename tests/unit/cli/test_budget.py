"""`hybridflow budget` on a SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import Result

from langchain_hybridflow.budget import Amounts, Budget, Limits, Pacing, RunBudget, Scope

Run = Callable[..., Result]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budget.db"


@pytest.fixture
def store(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def budget(store: str) -> Iterator[Budget]:
    """A budget with two users, that has spent a little."""
    made = Budget(
        limit_usd=5,
        max_cloud_calls=100,
        window="day",
        scopes=[Scope("user", Limits(usd=1), window="last 1h")],
        pacing=Pacing(expected_calls=20),
        store=store,
        name="team",
    )
    for user in ("ada", "bob"):
        spend(run_of(made, user), "a")
    yield made
    made.close()


def run_of(budget: Budget, user: str) -> RunBudget:
    values = budget.scope_values({"configurable": {"user_id": user}})
    return budget.start_run(scope_values=values)


def spend(run: RunBudget, lease_id: str) -> None:
    run.snapshot()
    lease = run.reserve(lease_id, Amounts(usd_micros=400_000, cloud_tokens=9, cloud_calls=1))
    run.commit(lease, Amounts(usd_micros=421_300, cloud_tokens=7, cloud_calls=1))


@pytest.mark.usefixtures("budget")
def test_show_tells_all_numbers_in_80_columns(hybridflow: Run, store: str) -> None:
    result = hybridflow("budget", "show", "--store", store)
    assert (result.exit_code, result.stderr) == (0, "")
    assert max(map(len, result.stdout.splitlines())) <= 80
    lines = result.stdout.splitlines()
    first = lines[1].split()
    assert first == ["team", "USD", "$0.8426", "$0", "$5.0000", "$4.1574", "$0.0426"]
    assert "day, ends in" in lines[2]
    assert "price" in lines[3]
    assert [line.split()[:3] for line in lines if "user" in line] == [
        ["team", "user", "ada"],
        ["team", "user", "bob"],
    ]


def test_show_tells_a_share_of_cloud_calls(hybridflow: Run, store: str) -> None:
    capped = Budget(max_cloud_share=0.25, share_burst=4, store=store, name="capped")
    for number in range(3):
        run = capped.start_run(str(number))
        amounts = Amounts(cloud_calls=1) if number == 0 else Amounts()
        run.commit(run.reserve("call/0", amounts), amounts)
    capped.close()
    shown = hybridflow("budget", "show", "--store", store)
    assert "capped cloud-share" in shown.stdout
    assert "33.3% of 3, cap 25.000%" in shown.stdout
    found = json.loads(hybridflow("budget", "show", "--store", store, "--json").stdout)
    (row,) = [one for one in found["accounts"] if one["scope"] == "cloud-share"]
    assert (row["cloud_share"]["remaining"], row["cloud_share"]["prompts"]) == (3, 3)
    hybridflow("budget", "reset", "--store", store, "--name", "capped", "--yes")
    found = json.loads(hybridflow("budget", "show", "--store", store, "--json").stdout)
    (row,) = [one for one in found["accounts"] if one["scope"] == "cloud-share"]
    assert row["cloud_share"]["remaining"] == 4


@pytest.mark.usefixtures("budget")
def test_show_is_json_when_it_is_asked_for(hybridflow: Run, store: str) -> None:
    found = json.loads(hybridflow("budget", "show", "--store", store, "--json").stdout)
    own = found["accounts"][0]
    assert own["usd"] == {
        "limit": 5.0,
        "spent": 0.8426,
        "held": 0.0,
        "remaining": 4.1574,
        "overdraft": 0.0426,
    }
    assert own["shadow_price"] >= 0
    assert [row["value"] for row in found["accounts"]] == [None, "ada", "bob"]


def test_show_tells_one_budget_when_it_is_named(
    hybridflow: Run, store: str, budget: Budget
) -> None:
    spend(Budget(ledger=budget.ledger, name="other").start_run(), "a")
    both = json.loads(hybridflow("budget", "show", "--store", store, "--json").stdout)
    one = json.loads(
        hybridflow("budget", "show", "--store", store, "--name", "other", "--json").stdout
    )
    assert {row["budget"] for row in both["accounts"]} == {"team", "other"}
    assert [row["budget"] for row in one["accounts"]] == ["other"]


@pytest.mark.usefixtures("budget")
def test_show_says_so_when_there_are_more_accounts(hybridflow: Run, store: str) -> None:
    result = hybridflow("budget", "show", "--store", store, "--limit", "1")
    assert "2 more accounts" in result.stderr


def test_store_is_read_from_the_environment(
    hybridflow: Run, store: str, budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRIDFLOW_STORE", store)
    assert "team" in hybridflow("budget", "show").stdout
    monkeypatch.setenv("ELSEWHERE", store)
    assert "team" in hybridflow("budget", "show", "--store", "env:ELSEWHERE").stdout


@pytest.mark.parametrize("command", ["show", "watch", "reset", "reconcile"])
def test_file_that_is_not_there_is_misuse_and_is_not_made(
    hybridflow: Run, path: Path, store: str, command: str
) -> None:
    more = ("--name", "x") if command == "reset" else ()
    result = hybridflow("budget", command, "--store", store, *more)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "There is no file" in result.stderr
    assert not path.exists()


@pytest.mark.parametrize("url", ["memory://", "mysql://x", "x"])
def test_store_that_nobody_can_look_at_is_misuse(hybridflow: Run, url: str) -> None:
    assert hybridflow("budget", "show", "--store", url).exit_code == 2


@pytest.mark.usefixtures("budget")
def test_namespace_that_nobody_has_used_is_empty(hybridflow: Run, store: str) -> None:
    result = hybridflow("budget", "show", "--store", store, "--namespace", "elsewhere")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No budget" in result.stderr


@pytest.mark.usefixtures("budget")
def test_watch_writes_plain_lines_where_no_terminal_is(hybridflow: Run, store: str) -> None:
    result = hybridflow("budget", "watch", "--store", store, "--for", "0.3", "--every", "0.1")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 9  # three accounts with three numbers, which did not change
    assert lines[0].endswith(
        "team (day) USD: used $0.8426, held $0, limit $5.0000, remaining $4.1574, overdraft $0.0426"
    )


@pytest.mark.usefixtures("budget")
def test_watch_writes_an_object_for_each_look(hybridflow: Run, store: str) -> None:
    result = hybridflow(
        "budget", "watch", "--store", store, "--for", "0.2", "--every", "0.1", "--json"
    )
    looks = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(looks) >= 2
    assert {len(look["accounts"]) for look in looks} == {3}


def test_reset_moves_what_was_used(hybridflow: Run, store: str, budget: Budget) -> None:
    result = hybridflow("budget", "reset", "--store", store, "--name", "team", "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "$0.842600, 14 tokens and 2 calls moved to reset/budget/team/day=" in result.stdout
    assert budget.snapshot()["usd"]["spent"] == 0.0
    shown = json.loads(hybridflow("budget", "show", "--store", store, "--json").stdout)
    assert {row["usd"]["spent"] for row in shown["accounts"]} == {0.0}


def test_reset_takes_one_user_when_one_is_named(
    hybridflow: Run, store: str, budget: Budget
) -> None:
    found = hybridflow(
        *("budget", "reset", "--store", store, "--name", "team", "--yes", "--json"),
        *("--scope", "user", "--value", "ada"),
    )
    (one,) = json.loads(found.stdout)["reset"]
    assert one["key"].startswith("user/team/ada/last-1h=")
    assert one["used"]["usd"] == "0.421300"
    assert budget.snapshot()["usd"]["spent"] == 0.8426


def test_reset_is_refused_when_leases_are_open(hybridflow: Run, store: str, budget: Budget) -> None:
    run = run_of(budget, "ada")
    lease = run.reserve("open", Amounts(cloud_calls=1))
    args = ("budget", "reset", "--store", store, "--name", "team", "--yes")
    refused = hybridflow(*args)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "1 lease is open, so nothing was reset" in refused.stderr
    assert budget.snapshot()["usd"]["spent"] == 0.8426
    forced = hybridflow(*args, "--force")
    assert forced.exit_code == 0
    run.commit(lease, Amounts(cloud_calls=1))
    calls = budget.snapshot()["cloud_calls"]
    assert (calls["spent"], calls["held"]) == (1, 0)


@pytest.mark.usefixtures("budget")
def test_reset_asks_and_does_nothing_where_nobody_can_be_asked(hybridflow: Run, store: str) -> None:
    result = hybridflow("budget", "reset", "--store", store, "--name", "team")
    assert result.exit_code == 2
    assert "--yes" in result.stderr


@pytest.mark.usefixtures("budget")
def test_reset_of_a_budget_that_is_not_there_is_misuse(hybridflow: Run, store: str) -> None:
    result = hybridflow("budget", "reset", "--store", store, "--name", "taem", "--yes")
    assert result.exit_code == 2


@pytest.mark.usefixtures("budget")
def test_reconcile_finds_nothing_when_all_is_well(hybridflow: Run, store: str) -> None:
    result = hybridflow("budget", "reconcile", "--store", store)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "3 accounts checked: 0 differences\n"


def test_reconcile_finds_and_repairs_what_somebody_has_written(
    hybridflow: Run, store: str, path: Path, budget: Budget
) -> None:
    budget.close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE hybridflow_counters SET used_usd = 0 WHERE key LIKE 'budget/%'")
    found = hybridflow("budget", "reconcile", "--store", store)
    assert found.exit_code == 1
    assert found.stdout.splitlines()[1].split()[1:] == ["used", "USD", "$0", "$0.8426"]
    assert budget.snapshot()["usd"]["spent"] == 0.0
    repaired = hybridflow("budget", "reconcile", "--store", store, "--repair", "--json")
    assert (repaired.exit_code, json.loads(repaired.stdout)["repaired"]) == (0, True)
    assert budget.snapshot()["usd"]["spent"] == 0.8426


@pytest.mark.parametrize("command", ["show", "watch", "reset", "reconcile"])
def test_store_that_does_not_answer_fails_without_its_password(
    hybridflow: Run, require: Callable[[str], None], command: str
) -> None:
    require("redis")
    url = "unix://user:s3cret-CANARY@/no/such/socket"
    more = ("--name", "x") if command == "reset" else ()
    result = hybridflow("budget", command, "--store", url, *more)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "does not answer" in result.stderr
    assert "CANARY" not in result.stderr


def test_exit_codes_are_told(hybridflow: Run) -> None:
    assert "Exit codes: 0" in hybridflow("budget", "--help").stdout
