"""A plan on the screen: who does which subtask, now and in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.cli.display import dollars, hide_keys, one_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text
    from rich.tree import Tree

__all__ = ["PlanView"]

_STYLES = {"edge": "bold cyan", "cloud": "bold yellow"}


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


@dataclass(slots=True)
class PlanView:
    """Follows the events of a run's custom stream, and draws the plan as a tree.

    A subtask that needs one other hangs below it. One that needs several stands at the left and
    names them: it has no single place in a tree.
    """

    title: str
    time_scale: float = 1.0
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
            if kind in ("routed", "redirected"):
                line.tier = event["tier"]
                line.reason = event["reason"] or line.reason
            elif kind == "started":
                line.status, line.tier = "running", event["tier"]
            elif kind == "finished":
                line.status, line.tier = event["status"], event["tier"]
                line.cost_usd = event["cost_usd"]
                line.answer = event["answer"] or event["error"] or ""

    def measure(self, report: Mapping[str, Any]) -> None:
        """Take the seconds of each subtask from a run's report."""
        for row in report["subtasks"]:
            line = self._lines[row["id"]]
            line.seconds = (row["end_s"] - row["start_s"]) / (self.time_scale or 1.0)

    def __rich__(self) -> Tree:
        return self.tree()

    def tree(self) -> Tree:
        """Draw the plan as it stands."""
        from rich.text import Text
        from rich.tree import Tree

        tree = Tree(Text(self.title, overflow="ellipsis", no_wrap=True), guide_style="dim")
        branches: dict[str, Tree] = {}
        for subtask_id, line in self._lines.items():
            parents = line.subtask["depends_on"]
            above = branches[parents[0]] if len(parents) == 1 else tree
            branches[subtask_id] = above.add(self._label(line))
        return tree

    def _know(self, subtask: Mapping[str, Any]) -> None:
        known = self._lines.get(subtask["id"])
        if known is None:
            self._lines[subtask["id"]] = _Line(dict(subtask))
        else:
            known.subtask = dict(subtask)

    def _label(self, line: _Line) -> RenderableType:
        from rich.text import Text

        subtask = line.subtask
        label = Text(overflow="ellipsis", no_wrap=True)
        label.append(f"{subtask['id']} {subtask['role']}", style="bold")
        if len(subtask["depends_on"]) > 1:
            label.append(f" (needs {', '.join(subtask['depends_on'])})", style="dim")
        label.append(f" {one_line(hide_keys(subtask['task']))}\n")
        label.append_text(_state(line))
        return label


def _state(line: _Line) -> Text:
    from rich.text import Text

    planned = f"difficulty {line.subtask['difficulty']}"
    if line.status == "waiting" and line.tier is None:
        return Text(planned, style="dim")
    if line.status in ("failed", "skipped"):
        return Text(f"{line.status}: {one_line(hide_keys(line.answer))}", style="red")
    tier = line.tier or ""
    state = Text(tier, style=_STYLES.get(tier, ""))
    facts = [one_line(hide_keys(line.reason))]
    if line.status == "waiting":
        facts.append("waits for its turn")
    elif line.status == "running":
        facts.append("working ...")
    else:
        facts += [] if line.seconds is None else [f"{line.seconds:.1f} s"]
        facts.append(dollars(line.cost_usd))
    state.append(f" · {' · '.join(facts)}", style="dim")
    if line.status == "ok":
        state.append(" → ", style="dim").append(last_line(line.answer))
    return state


def last_line(answer: str) -> str:
    r"""Return the line of an answer that says the result.

    Example:
        >>> last_line("6 * 7 = 42.\nAnswer: 42")
        '42'
    """
    lines = [one_line(hide_keys(line)) for line in answer.splitlines() if line.strip()]
    return lines[-1].removeprefix("Answer:").strip() if lines else "(nothing)"
