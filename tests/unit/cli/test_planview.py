"""A plan on the screen, from the events of a run."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from langchain_hybridflow.cli.planview import PlanView
from langchain_hybridflow.testing import ManualClock


def drawn(view: PlanView, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    console.print(view)
    return console.file.getvalue()  # type: ignore[attr-defined]


def subtask(
    subtask_id: str, *needs: str, task: str = "What?", role: str = "analyze"
) -> dict[str, Any]:
    return {
        "id": subtask_id,
        "task": task,
        "role": role,
        "depends_on": list(needs),
        "difficulty": 4,
        "expected_output_tokens": 9,
    }


def view_of(*subtasks: dict[str, Any]) -> PlanView:
    return PlanView.of_plan({"subtasks": list(subtasks)}, title="Plan")


def finished(subtask_id: str, **facts: Any) -> dict[str, Any]:
    common = {"status": "ok", "tier": "cloud", "cost_usd": "0.00123", "answer": "x", "error": None}
    return {"event": "finished", "subtask_id": subtask_id} | common | facts


def test_subtask_hangs_below_the_only_one_it_needs() -> None:
    lines = drawn(view_of(subtask("1"), subtask("2", "1"))).splitlines()
    assert lines[1].startswith("└── 1 analyze")
    assert lines[3].startswith("    └── 2 analyze")


def test_subtask_with_several_needs_stands_at_the_left_and_names_them() -> None:
    text = drawn(view_of(subtask("1"), subtask("2"), subtask("3", "1", "2", role="generate")))
    assert "└── 3 generate (needs 1, 2) What?" in text


@pytest.mark.parametrize("width", [20, 80])
def test_long_chain_is_drawn_to_its_end_at_any_width(width: int) -> None:
    chain = [subtask("1"), *(subtask(f"{n}", f"{n - 1}") for n in range(2, 41))]
    lines = drawn(view_of(*chain), width=width).splitlines()
    assert len(lines) == 1 + 2 * 40
    assert max(map(len, lines)) <= width
    assert all(f"─ {n} analyze" in lines[2 * n - 1] for n in range(1, 41))


def test_subtask_without_room_below_the_one_it_needs_names_it() -> None:
    chain = [subtask("1"), *(subtask(f"{n}", f"{n - 1}") for n in range(2, 13))]
    assert "└── 11 analyze (needs 10) What?" in drawn(view_of(*chain))


def test_state_follows_the_events() -> None:
    clock = ManualClock()
    view = view_of(subtask("1"))
    view.clock = clock
    assert "difficulty 4" in drawn(view)
    view.follow({"event": "routed", "subtask_id": "1", "tier": "edge", "reason": "4 < 5"})
    assert "edge · waits for its turn · 4 < 5" in drawn(view)
    view.follow({"event": "started", "subtask_id": "1", "tier": "edge"})
    clock.advance(0.7)
    assert "edge · working, 0.7 s · 4 < 5" in drawn(view)
    view.follow({"event": "redirected", "subtask_id": "1", "tier": "cloud", "reason": "edge fell"})
    view.follow(finished("1", answer="6 * 7 = 42.\nAnswer: 42"))
    view.measure({"subtasks": [{"id": "1", "start_s": 1.0, "end_s": 2.5}]})
    assert "cloud · 1.5 s · $0.0012 → 42 · edge fell" in drawn(view)


def test_seconds_are_at_real_scale() -> None:
    view = view_of(subtask("1"))
    view.time_scale = 0.1
    view.follow(finished("1"))
    view.measure({"subtasks": [{"id": "1", "start_s": 0.0, "end_s": 0.25}]})
    assert "2.5 s" in drawn(view)


def test_what_a_subtask_is_doing_stands_before_a_long_reason() -> None:
    clock = ManualClock()
    view = view_of(subtask("1"))
    view.clock = clock
    view.follow({"event": "routed", "subtask_id": "1", "tier": "edge", "reason": "because " * 20})
    assert "    edge · waits for its turn · because" in drawn(view)
    view.follow({"event": "started", "subtask_id": "1", "tier": "edge"})
    clock.advance(2.0)
    assert "    edge · working, 2.0 s · because" in drawn(view)
    view.follow(finished("1", tier="edge", cost_usd="0", answer="Answer: 42"))
    assert "    edge · 2.0 s · $0 → 42 · because" in drawn(view)


def test_subtask_settled_early_is_taken_up_by_the_whole_plan() -> None:
    view = PlanView("Plan")
    view.follow({"event": "settled", "subtask": subtask("1")})
    view.follow({"event": "routed", "subtask_id": "1", "tier": "edge", "reason": "easy"})
    view.follow({"event": "planned", "plan": {"subtasks": [subtask("1"), subtask("2", "1")]}})
    text = drawn(view)
    assert "edge · waits for its turn · easy" in text
    assert "2 analyze" in text


def test_failure_is_said_with_its_reason() -> None:
    view = view_of(subtask("1"))
    view.follow(finished("1", status="failed", tier=None, answer=None, error="edge: it broke"))
    assert "failed: edge: it broke" in drawn(view)


def test_unknown_cost_is_not_shown_as_nothing() -> None:
    view = view_of(subtask("1"))
    view.follow(finished("1", cost_usd=None))
    assert "unknown" in drawn(view)


def test_model_text_cannot_reach_the_terminal_raw() -> None:
    view = view_of(subtask("1", task="[red]bold[/red] \x1b[2J " + "long " * 50))
    view.follow(finished("1", answer="\x1b]0;owned\x07"))
    text = drawn(view)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]bold[/red]" in text
    assert max(map(len, text.splitlines())) <= 80


def fitted(view: PlanView, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=80, markup=False, highlight=False)
    console.print(view.fitted(height))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def long_view(count: int) -> PlanView:
    return view_of(*(subtask(f"{number}") for number in range(1, count + 1)))


def test_plan_is_a_tree_when_there_is_room() -> None:
    assert "└── 5 analyze What?" in fitted(long_view(5), height=11)[-2]


def test_plan_is_a_list_when_the_tree_is_too_high() -> None:
    lines = fitted(long_view(5), height=10)
    assert lines[1:] == [f"{number} analyze difficulty 4" for number in range(1, 6)]


def test_plan_shows_its_busy_part_when_the_list_is_too_long() -> None:
    view = long_view(100)
    for number in range(1, 41):
        view.follow(finished(f"{number}"))
    view.follow({"event": "started", "subtask_id": "70", "tier": "edge"})
    view.follow(finished("20", status="failed", error="it broke"))
    lines = fitted(view, height=6)
    assert len(lines) == 6
    assert [line.split()[0] for line in lines[1:-1]] == ["20", "41", "42", "70"]
    assert lines[-1] == "… and 96 more: 39 done, 57 waiting"


def test_rows_of_a_list_stay_on_one_line_each() -> None:
    view = view_of(subtask("1"), subtask("2"))
    view.follow(finished("1", answer="word " * 100))
    view.follow(finished("2", status="failed", error="no " * 100))
    lines = fitted(view, height=4)
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
