from __future__ import annotations

import io
import sys
from pathlib import Path

import matplotlib.image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from langchain_hybridflow.errors import ConfigurationError, MissingExtraError
from langchain_hybridflow.plan import Plan, Subtask, critical_path
from langchain_hybridflow.report._ink import fitted, printable, width_of
from langchain_hybridflow.report.plot import (
    GanttRow,
    TradeoffPoint,
    gantt_figure,
    plan_figure,
    save_png,
    tradeoff_figure,
)

ROWS: list[GanttRow] = [
    {"id": "1", "tier": "edge", "start_s": 0.0, "end_s": 1.0, "critical": True},
    {"id": "2", "tier": "cloud", "start_s": 1.0, "end_s": 1.1},
    {"id": "3", "tier": None, "start_s": 1.0, "end_s": 4.0},
    {"id": "4", "tier": "edge", "start_s": 4.0, "end_s": 4.0},
]
POINTS: list[TradeoffPoint] = [
    {"name": "edge only", "accuracy": 0.25, "usd": 0.0, "seconds": 9.0},
    {"name": "cloud only", "accuracy": 0.90, "usd": 0.02, "seconds": 6.0},
    {"name": "HybridFlow", "accuracy": 0.85, "usd": 0.0094, "seconds": 4.0},
]


def plan_with(task: str) -> Plan:
    return Plan(
        subtasks=[
            Subtask(id="1", task="What is given?", role="explain"),
            Subtask(id="2", task=task, role="generate", depends_on=("1",)),
        ]
    )


def wide_plan(count: int) -> Plan:
    middle = tuple(str(number) for number in range(2, count))
    return Plan(
        subtasks=[
            Subtask(id="1", task="?", role="explain"),
            *[Subtask(id=name, task="?", depends_on=("1",)) for name in middle],
            Subtask(id=str(count), task="?", role="generate", depends_on=middle),
        ]
    )


def texts_of(figure: Figure) -> list[str]:
    [axes] = figure.axes
    return [text.get_text() for text in [*axes.texts, *figure.texts]]


@pytest.mark.parametrize(
    "figure",
    [
        lambda: plan_figure(plan_with("What follows?"), tiers={"1": "edge"}, critical=("1", "2")),
        lambda: plan_figure(plan_with("What follows?")),
        lambda: gantt_figure(ROWS),
        lambda: gantt_figure([]),
        lambda: tradeoff_figure(POINTS),
        lambda: tradeoff_figure(POINTS[:1]),
    ],
)
def test_figure_becomes_a_png_of_its_size(figure: object, tmp_path: Path) -> None:
    drawn = figure()  # type: ignore[operator]
    save_png(drawn, tmp_path / "picture.png", dpi=100)
    height, width, _ = matplotlib.image.imread(tmp_path / "picture.png").shape
    assert (width, height) == pytest.approx(tuple(drawn.get_size_inches() * 100), abs=1)


def test_same_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        save_png(plan_figure(plan_with("What follows?")), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize(
    "task", [r"$\frac{1}{0}$ and $x_", "a\x00b\tc\n\nd", "日本語 😀 ok", "W" * 100_000]
)
def test_task_is_drawn_as_it_is_whatever_it_holds(task: str) -> None:
    save_png(plan_figure(plan_with(task)), io.BytesIO())


def test_picture_names_ids_roles_tiers_and_tasks() -> None:
    plan = plan_with("What follows?")
    figure = plan_figure(plan, tiers={"1": "edge", "2": "cloud"}, critical=critical_path(plan).ids)
    expected = {"1", "explain", "edge", "What is given?", "2", "generate", "cloud", "critical path"}
    assert expected <= set(texts_of(figure))


def test_plan_without_tiers_has_no_legend() -> None:
    assert "critical path" not in texts_of(plan_figure(plan_with("What follows?")))


def test_plan_too_large_for_a_picture_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="41 subtasks"):
        plan_figure(wide_plan(41))


def test_gantt_bars_begin_and_end_when_the_subtasks_did() -> None:
    [axes] = gantt_figure(ROWS).axes
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert bars == [pytest.approx((row["start_s"], row["end_s"])) for row in ROWS]


def test_tradeoff_names_accuracy_cost_and_seconds() -> None:
    texts = texts_of(tradeoff_figure(POINTS))
    assert "HybridFlow" in texts
    assert "85% · $0.0094 · 4.0 s" in texts


def test_missing_matplotlib_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"langchain-hybridflow\[plot\]"):
        gantt_figure(ROWS)


@settings(max_examples=30)
@given(text=st.text(max_size=200), width=st.floats(0.5, 4.0))
def test_fitted_lines_fit(text: str, width: float) -> None:
    lines = fitted(text, width=width, size=8, lines=3)
    assert len(lines) <= 3
    assert all(width_of(line, size=8) <= width for line in lines)


def test_fitted_text_loses_nothing_when_there_is_room() -> None:
    text = "How many pallets are left in the northern warehouse?"
    assert " ".join(fitted(text, width=2, size=8, lines=9)) == text


def test_text_that_is_cut_ends_with_an_ellipsis() -> None:
    assert fitted("word " * 99, width=1, size=8, lines=2)[-1].endswith("…")


def test_unknown_characters_become_boxes() -> None:
    assert printable("a 日\n b") == "a □ b"
