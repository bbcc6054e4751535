"""The plan of a run as a diagram: an `svg` element of boxes and lines, without matplotlib.

The browser sets the text, in the reader's font and script; its width is estimated.
"""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Final

from langchain_hybridflow.report._layout import COMPACT, Box, Layout, Line, lay_out
from langchain_hybridflow.report._markup import Html, Node, join, tag
from langchain_hybridflow.report._words import dollars, seconds
from langchain_hybridflow.report.records import SubtaskRun
from langchain_hybridflow.report.run import Run

__all__ = ["LARGE", "plan_diagram"]

LARGE: Final = 40
"""Plans of more subtasks are drawn as small boxes with an id."""

_PX: Final = 96.0
_EM: Final = 11.5  # of the text of a task, in pixels
_TASK_LINES: Final = 3
_STATES: Final = {"failed": "✕ failed", "skipped": "not asked"}


def plan_diagram(run: Run, *, scope: str = "") -> Html:
    """Draw the plan with who answered what; the critical path is marked.

    Args:
        run: The run.
        scope: Stands before the ids in `data-of`, which must be unique on a page.
    """
    compact = len(run.subtasks) > LARGE
    layout = lay_out(run.plan, COMPACT) if compact else lay_out(run.plan)
    steps = frozenset(pairwise(run.critical_path))
    lines = [
        _line(line, layout, heavy=not steps.isdisjoint(line.dependencies)) for line in layout.lines
    ]
    boxes = []
    for one in run.subtasks:
        box = layout.boxes[one.id]
        place = (box.x * _PX, (layout.height - box.y - box.height) * _PX)
        inside = _short(one, box) if compact else _card(run, one, box)
        boxes.append(
            tag(
                "g",
                inside,
                class_=_classes(run, one),
                data_of=scope + one.id,
                **({} if compact else _reachable(run, one)),
                transform=f"translate({place[0]:.1f} {place[1]:.1f})",
            )
        )
    wide, high = layout.width * _PX, layout.height * _PX
    return tag(
        "svg",
        join(*lines, *boxes),
        viewBox=f"0 0 {wide:.0f} {high:.0f}",
        width=f"{wide:.0f}",
        height=f"{high:.0f}",
        class_="diagram large" if compact else "diagram",
        role="img" if compact else "group",
        aria_label=f"The plan: {len(run.subtasks)} subtasks; the table below says the same.",
    )


def _reachable(run: Run, one: SubtaskRun) -> dict[str, str | int]:
    """Let a box be reached with the keyboard, and say what it is."""
    who = one.tier if one.status == "ok" else one.status
    task = run.plan[one.id].task[:200]
    return {"tabindex": 0, "role": "button", "aria_label": f"{one.id}, {who}: {task}"}


def _classes(run: Run, one: SubtaskRun) -> str:
    found = ["mark", "box", one.tier or "none", one.status]
    return " ".join([*found, "critical"] if one.id in run.critical_path else found)


def _line(line: Line, layout: Layout, *, heavy: bool) -> Html:
    points = [(x * _PX, (layout.height - y) * _PX) for x, y in line.points]
    (x0, y0), (x1, y1) = points[-2:]
    if layout.downward:
        bends = [(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2)]
    else:
        bends = [((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1)]
    corners = " ".join(f"{x:.1f} {y:.1f}" for x, y in points[:-1])
    curve = " ".join(f"{x:.1f} {y:.1f}" for x, y in [*bends, points[-1]])
    head: Node = None
    if line.arrives:
        tip = "-3.5 -7 3.5 -7" if layout.downward else "-7 -3.5 -7 3.5"
        a, b, c, d = tip.split()
        head = tag(
            "path",
            d=f"M{x1:.1f} {y1:.1f}l{a} {b}L{x1 + float(c):.1f} {y1 + float(d):.1f}z",
            class_="head",
        )
    # A polyline with one point only is no line: `M x y x y` draws straight ones.
    path = tag("path", d=f"M{corners}C{curve}")
    return tag("g", path, head, class_="wire heavy" if heavy else "wire")


def _short(one: SubtaskRun, box: Box) -> Html:
    wide, high = box.width * _PX, box.height * _PX
    return join(
        tag("rect", width=f"{wide:.0f}", height=f"{high:.0f}", rx=3, class_="card"),
        tag("rect", width=4, height=f"{high:.0f}", rx=2, class_="strip"),
        tag(
            "text",
            _fit(one.id, wide - 12, 10.5)[0],
            x=f"{wide / 2 + 2:.0f}",
            y=f"{high / 2 + 3.5:.1f}",
            class_="short",
        ),
    )


def _card(run: Run, one: SubtaskRun, box: Box) -> Html:
    wide, high = box.width * _PX, box.height * _PX
    subtask = run.plan[one.id]
    right = _STATES.get(one.status) or one.tier or ""
    if one.status == "ok" and one.escalated:
        right = f"↑ {right}"
    elif one.status == "ok" and one.degraded:
        right = f"↓ {right}"
    name = _fit(one.id, wide / 2 - 10, 12.5)[0]
    after = 17 + _width(name, 13) + 7
    foot = " · ".join([seconds(one.end_s - one.ready_s), dollars(one.cost_usd)])
    lines = _wrap(subtask.task, wide - 27, _EM, _TASK_LINES)
    return join(
        tag("rect", width=f"{wide:.0f}", height=f"{high:.0f}", rx=6, class_="card"),
        tag("rect", width=6, height=f"{high:.0f}", rx=3, class_="strip"),
        tag("text", name, x=17, y=19, class_="name"),
        tag("text", subtask.role.value, x=f"{after:.0f}", y=19, class_="role"),
        tag("text", right, x=f"{wide - 10:.0f}", y=19, class_="tier"),
        *(
            tag("text", line, x=17, y=37 + 15 * number, class_="task")
            for number, line in enumerate(lines)
        ),
        tag("text", foot, x=f"{wide - 10:.0f}", y=f"{high - 9:.0f}", class_="foot"),
    )


def _wrap(text: str, width: float, em: float, most: int) -> list[str]:
    """Break text into lines by their estimated width; what is left over is cut."""
    words = text[:2_000].split()
    lines: list[str] = []
    while words and len(lines) < most:
        line = words.pop(0)
        while words and _width(f"{line} {words[0]}", em) <= width:
            line = f"{line} {words.pop(0)}"
        fitting, rest = _fit(line, width, em)
        if rest and len(lines) < most - 1:
            words.insert(0, rest)
            line = fitting
        lines.append(line)
    if lines and (words or _width(lines[-1], em) > width):
        lines[-1] = _fit(lines[-1], width - em, em)[0].rstrip() + "…"
    return lines


def _fit(text: str, width: float, em: float) -> tuple[str, str]:
    """Divide text where it no longer fits; at least one character always does."""
    used = 0.0
    for place, char in enumerate(text):
        used += _width(char, em)
        if used > width and place:
            return text[:place], text[place:]
    return text, ""


def _width(text: str, em: float) -> float:
    """Estimate how wide a text is, in a usual sans serif font of so many pixels."""
    return em * sum(map(_share, text))


def _share(char: str) -> float:
    if char in "iljtfr.,:;'|!()[] ":
        return 0.33
    if char in "mwMW%@":
        return 0.95
    if unicodedata.east_asian_width(char) in "WF":
        return 1.0
    return 0.72 if char.isupper() else 0.61
