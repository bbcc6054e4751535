"""A run on the screen while it runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from langchain_hybridflow.budget import Amounts, Budget
from langchain_hybridflow.cli.live import LiveRun, Progress, drawn_live
from langchain_hybridflow.cli.planview import PlanView
from langchain_hybridflow.testing import ManualClock


def screen(height: int = 24) -> Console:
    return Console(
        file=io.StringIO(),
        width=80,
        height=height,
        force_terminal=True,
        color_system=None,
        highlight=False,
        markup=False,
        legacy_windows=False,
        _environ={},
    )


def said(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


def plan_of(count: int) -> PlanView:
    view = PlanView("Plan")
    for number in range(count):
        view.follow(
            {
                "event": "settled",
                "subtask": {
                    "id": f"{number}",
                    "task": "What?",
                    "role": "analyze",
                    "depends_on": [],
                    "difficulty": 4,
                },
            }
        )
    return view


def test_status_says_what_is_done_spent_and_left() -> None:
    clock = ManualClock()
    budget = Budget(limit_usd="0.05", deadline_s=30)
    run = LiveRun(plan_of(3), budget, clock=clock)
    finished = {"status": "ok", "tier": "edge", "cost_usd": "0", "answer": "1", "error": None}
    run.view.follow({"event": "finished", "subtask_id": "0"} | finished)
    clock.advance(12.25)
    assert str(run.status()) == "1 of 3 done · 12.2 s · 17.8 s left · spent $0 of $0.0500"


def test_status_tells_what_is_held_from_what_is_spent() -> None:
    budget = Budget(limit_usd="0.05")
    budget.start_run("r").reserve("a", Amounts(usd_micros=20_000))
    assert "spent $0 + held $0.0200 of $0.0500" in str(LiveRun(plan_of(1), budget).status())


def test_status_counts_no_subtasks_while_there_is_no_plan() -> None:
    assert str(LiveRun(plan_of(0), Budget()).status()).startswith("planning · ")


def test_status_never_has_less_than_no_time_left() -> None:
    clock = ManualClock()
    run = LiveRun(plan_of(1), Budget(deadline_s=3), clock=clock)
    clock.advance(10)
    assert " 0.0 s left" in str(run.status())


@pytest.mark.parametrize("subtasks", [1, 12, 200])
def test_run_fits_the_screen_with_any_plan(subtasks: int) -> None:
    console = screen(height=10)
    console.print(LiveRun(plan_of(subtasks), Budget()))
    lines = said(console).splitlines()
    assert len(lines) <= 10
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("0 of ")


def test_nothing_of_a_live_run_stays_on_the_screen() -> None:
    console = screen()
    with drawn_live(LiveRun(plan_of(2), Budget()), console):
        pass
    assert "0 of 2 done" in said(console)
    assert said(console).endswith("\x1b[2K")  # its lines were erased, one by one, upwards


def test_picture_that_fails_does_not_end_the_run() -> None:
    console = screen()
    run = LiveRun(plan_of(2), Budget())
    with drawn_live(run, console):
        run.view.follow({"event": "planned", "plan": {"subtasks": [{"id": "1"}]}})
    assert "The run goes on, but cannot be drawn now: KeyError." in said(console)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_terminal_that_has_gone_does_not_end_the_run() -> None:
    console = screen()
    with drawn_live(LiveRun(plan_of(2), Budget()), console):
        console.file = Gone()


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError("the terminal has gone")


@pytest.mark.parametrize(
    ("terminal", "kind", "expected"),
    [(True, "xterm", "live"), (True, "dumb", "lines"), (False, "xterm", "none")],
)
def test_auto_draws_only_where_somebody_can_watch(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool, kind: str, expected: str
) -> None:
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert Progress.AUTO.settled() == expected


def test_what_was_asked_for_is_done_wherever_it_is() -> None:
    assert Progress.LINES.settled() is Progress.LINES
