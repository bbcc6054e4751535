"""Accounts on the screen."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from langchain_hybridflow.budget import Account, AccountState, Amounts, Limits, Window
from langchain_hybridflow.budget.inventory import AccountRow
from langchain_hybridflow.cli.accounts import BurnDown, accounts_table, duration, title

NOON = 1_795_262_400.0


def printed(what: RenderableType, *, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(what)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


def row(
    *, used: int = 0, limit: int | None = 1_000, at: float = NOON, window: str = "day"
) -> AccountRow:
    account = Account(f"budget/team/{window}", "budget", Limits(cloud_calls=limit))
    state = AccountState(account, used=Amounts(cloud_calls=used), at=at)
    return AccountRow("team", "budget", None, Window.parse(window), state)


def test_burn_down_shows_how_fast_it_goes_and_how_long_it_lasts() -> None:
    burn_down = BurnDown()
    burn_down.table([row(used=100)])
    lines = printed(burn_down.table([row(used=160, at=NOON + 60)]))
    assert lines[1].split() == [
        *("team", "(day)", "████████░░", "84%", "calls", "840", "3,600", "14", "min"),
    ]


def test_burn_down_says_so_when_it_lasts_to_the_end_of_the_window() -> None:
    burn_down = BurnDown()
    burn_down.table([row(used=100)])
    lines = printed(burn_down.table([row(used=101, at=NOON + 60)]))
    assert lines[1].endswith("to the end")


def test_burn_down_of_a_rolling_window_has_no_end() -> None:
    burn_down = BurnDown()
    burn_down.table([row(used=100, window="last 1h")])
    lines = printed(burn_down.table([row(used=101, at=NOON + 60, window="last 1h")]))
    assert lines[1].endswith("15 h")


def test_burn_down_says_so_when_all_is_used_up() -> None:
    assert printed(BurnDown().table([row(used=1_000)]))[1].endswith("used up")


def test_burn_down_begins_anew_when_the_counter_does() -> None:
    burn_down = BurnDown()
    burn_down.table([row(used=900)])
    burn_down.table([row(used=10, at=NOON + 60)])
    lines = printed(burn_down.table([row(used=20, at=NOON + 120)]))
    assert "600" in lines[1]


def test_burn_down_leaves_out_what_has_no_limit() -> None:
    assert len(printed(BurnDown().table([row(limit=None)]))) == 1


@pytest.mark.parametrize("width", [80, 120])
def test_table_fits_when_numbers_and_names_are_long(width: int) -> None:
    limits = Limits(usd=99_999, cloud_tokens=10**9, cloud_calls=10**6)
    account = Account("user/team/" + "x" * 200, "user", limits)
    state = AccountState(account, Amounts(12_345_678_900, 10**8, 10**5), Amounts(1, 2, 3), at=NOON)
    lines = printed(
        accounts_table([AccountRow("team", "user", "x" * 200, None, state)]), width=width
    )
    assert max(map(len, lines)) <= width
    assert "$12345.6789" in "".join(lines)


def test_title_has_no_control_characters() -> None:
    state = AccountState(Account("user/team/x", "user"))
    shown = title(AccountRow("team", "user", "red\x1b[31m\nline", None, state))
    assert shown == "team user red [31m line"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (121, "2 min"), (7_200, "2 h"), (172_800, "2 d"), (1e7, "116 d")],
)
def test_duration_is_told_in_its_largest_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
