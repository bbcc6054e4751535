"""A plan on the screen: who does which subtask, now and in the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from langchain_hybridflow.cli.display import dollars, hide_keys, one_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text
    from rich.tree import Tree

__all__ = ["PlanView"]

_STYLES = {"edge": "bold cyan", "cloud": "bold yellow"}
_BRANCH_COLUMNS: Final = 4
_OVER: Final = ("ok", "failed", "skipped")


@dataclass(slots=True)
class _Line:
    """One subtask and what is known about it."""

    subtask: dict[str, Any]
    status: str = "waiting"
    tier: str | None = None
    reason: str = ""
    answer: str = ""
    cost_usd: str | None = None
    seconds: float | None = None
    since_s: float | None = None

    @property
    def is_over(self) -> bool:
        return self.status in _OVER


@dataclass(slots=True)
class PlanView:
    """Follows the events of a run's custom stream, and draws the plan as a tree.

    A subtask that needs one other hangs below it. One that needs several stands at the left and
    names them: it has no single place in a tree. So does one for which there is no more room.

    Attributes:
        title: Stands above the plan.
        time_scale: How fast the models ran: 0.5 is twice as fast as real time. Seconds are shown
            at real scale.
        clock: Seconds; for how long a subtask has been worked on.
    """

    title: str
    time_scale: float = 1.0
    clock: Callable[[], float] = time.monotonic
    _lines: dict[str, _Line] = field(default_factory=dict)

    @classmethod
    def of_plan(cls, plan: Mapping[str, Any], *, title: str) -> PlanView:
        """Make the view of a plan, in plain JSON types, that is not being run."""
        view = cls(title)
        view.follow({"event": "planned", "plan": plan})
        return view

    def follow(self, event: Mapping[str, Any]) -> None:
        """Take an event of the custom stream."""
        kind = event["event"]
        if kind == "settled":
            self._know(event["subtask"])
        elif kind == "planned":
            for subtask in event["plan"]["subtasks"]:
                self._know(subtask)
        else:
            line = self._lines[event["subtask_id"]]
            if kind in ("asked", "routed", "redirected"):
                line.tier = event["tier"]
                line.reason = event["reason"] or line.reason
            elif kind == "started":
                line.status, line.tier = "running", event["tier"]
                line.since_s = self.clock() if line.since_s is None else line.since_s
            elif kind == "finished":
                line.status, line.tier = event["status"], event["tier"]
                line.cost_usd = event["cost_usd"]
                line.answer = event["answer"] or event["error"] or ""
                line.seconds = self._seconds_of(line)

    def measure(self, report: Mapping[str, Any]) -> None:
        """Take the seconds of each subtask from a run's report."""
        for row in report["subtasks"]:
            line = self._lines[row["id"]]
            line.seconds = (row["end_s"] - row["start_s"]) / (self.time_scale or 1.0)

    def progress(self) -> tuple[int, int]:
        """Count the subtasks that are over, and those that are known by now."""
        lines = list(self._lines.values())
        return sum(line.is_over for line in lines), len(lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.tree(width=options.max_width)

    def fitted(self, height: int, *, width: int = 80) -> RenderableType:
        """Draw the plan in at most so many rows: as a tree, as a list, or the busy part of it."""
        lines = list(self._lines.values())
        if 1 + 2 * len(lines) <= height:
            return self.tree(width=width)
        from rich.console import Group
        from rich.text import Text

        title = Text(self.title, overflow="ellipsis", no_wrap=True)
        shown = lines
        if 1 + len(lines) > height:
            shown = _busiest(lines, max(1, height - 2))
        rows = [self._row(line) for line in shown]
        if len(shown) < len(lines):
            rows.append(_rest(lines, shown))
        return Group(title, *rows)

    def tree(self, *, width: int = 80) -> Tree:
        """Draw the plan as it stands; at most half of the width goes into its branches."""
        from rich.text import Text
        from rich.tree import Tree

        tree = Tree(Text(self.title, overflow="ellipsis", no_wrap=True), guide_style="dim")
        branches: dict[str, tuple[Tree, int]] = {}
        deepest = max(1, width // (2 * _BRANCH_COLUMNS))
        for subtask_id, line in list(self._lines.items()):  # another thread may add to them
            parents = line.subtask["depends_on"]
            above, depth = branches.get(parents[0], (tree, 0)) if len(parents) == 1 else (tree, 0)
            if depth >= deepest:
                above, depth = tree, 0
            label = self._label(line, below=above is not tree)
            branches[subtask_id] = above.add(label), depth + 1
        return tree

    def _know(self, subtask: Mapping[str, Any]) -> None:
        known = self._lines.get(subtask["id"])
        if known is None:
            self._lines[subtask["id"]] = _Line(dict(subtask))
        else:
            known.subtask = dict(subtask)

    def _label(self, line: _Line, *, below: bool) -> RenderableType:
        from rich.text import Text

        subtask = line.subtask
        label = Text(overflow="ellipsis", no_wrap=True)
        label.append(f"{subtask['id']} {subtask['role']}", style="bold")
        if subtask["depends_on"] and not below:
            label.append(f" (needs {', '.join(subtask['depends_on'])})", style="dim")
        label.append(f" {one_line(hide_keys(subtask['task']))}\n")
        label.append_text(self._state(line))
        return label

    def _row(self, line: _Line) -> Text:
        from rich.text import Text

        row = Text(overflow="ellipsis", no_wrap=True)
        row.append(f"{line.subtask['id']} {line.subtask['role']} ", style="bold")
        return row.append_text(self._state(line))

    def _seconds_of(self, line: _Line) -> float | None:
        """How long a subtask has been worked on, at real scale; `None` if not at all."""
        if line.since_s is None:
            return None
        return (self.clock() - line.since_s) / (self.time_scale or 1.0)

    def _state(self, line: _Line) -> Text:
        return _state(line, self._seconds_of(line))


def _busiest(lines: Iterable[_Line], most: int) -> list[_Line]:
    """Choose the lines that somebody who watches wants: at work, gone wrong, next, done last."""
    ranks = {"running": 0, "failed": 1, "waiting": 2, "skipped": 4}
    numbered = list(enumerate(lines))
    # Of those that wait the first, of those that are done the last.
    chosen = sorted(
        numbered,
        key=lambda one: (
            ranks.get(one[1].status, 3),
            one[0] if one[1].status == "waiting" else -one[0],
        ),
    )[:most]
    return [line for _, line in sorted(chosen, key=lambda one: one[0])]


def _rest(lines: list[_Line], shown: list[_Line]) -> Text:
    """Count what is not shown, by what it is doing."""
    from rich.text import Text

    words = {"ok": "done", "running": "at work"}
    hidden = Counter(words.get(line.status, line.status) for line in lines)
    hidden -= Counter(words.get(line.status, line.status) for line in shown)
    what = ", ".join(f"{count} {word}" for word, count in hidden.items())
    text = f"… and {hidden.total()} more: {what}"
    return Text(text, style="dim", overflow="ellipsis", no_wrap=True)


def _state(line: _Line, elapsed_s: float | None) -> Text:
    from rich.text import Text

    planned = f"difficulty {line.subtask['difficulty']}"
    if line.status == "waiting" and line.tier is None:
        return Text(planned, style="dim")
    if line.status in ("failed", "skipped"):
        return Text(f"{line.status}: {one_line(hide_keys(line.answer))}", style="red")
    tier = line.tier or ""
    state = Text().append(tier, style=_STYLES.get(tier, ""))
    if line.status == "waiting":
        facts = ["waits for its turn"]
    elif line.status == "running":
        facts = ["working ..." if elapsed_s is None else f"working, {elapsed_s:.1f} s"]
    else:
        facts = [] if line.seconds is None else [f"{line.seconds:.1f} s"]
        facts.append(dollars(line.cost_usd))
    state.append(f" · {' · '.join(facts)}", style="dim")
    if line.status == "ok":
        state.append(" → ", style="dim").append(last_line(line.answer))
    # Last: reasons are long, and a narrow screen cuts off what stands behind them.
    return state.append(f" · {one_line(hide_keys(line.reason))}", style="dim")


def last_line(answer: str) -> str:
    r"""Return the line of an answer that says the result.

    Example:
        >>> last_line("6 * 7 = 42.\nAnswer: 42")
        '42'
    """
    lines = [one_line(hide_keys(line)) for line in answer.splitlines() if line.strip()]
    return lines[-1].removeprefix("Answer:").strip() if lines else "(nothing)"
