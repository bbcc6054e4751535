"""Pictures for people: a plan as a graph, a run as a Gantt chart, tiers as a trade-off.

All take plain values and return a matplotlib `Figure`, without pyplot and its global state, so they
need no display and leave the user's own plots alone. They need the extra `plot`. No fact is told by
colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.plan import Plan, Subtask
from langchain_hybridflow.report._ink import (
    FAINT,
    INK,
    MUTED,
    color_of,
    fitted,
    new_figure,
    plain_axes,
    printable,
    tint_of,
    width_of,
)
from langchain_hybridflow.report._layout import Box, Layout, Line, lay_out
from langchain_hybridflow.report._pareto import unbeaten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "GanttRow",
    "TradeoffPoint",
    "gantt_figure",
    "plan_figure",
    "save_png",
    "tradeoff_figure",
]

_MAX_SUBTASKS = 40
_TASK_SIZE = 7.8
_HEAD_SIZE = 8.4
_SMALL_SIZE = 7.4
_TASK_LINES = 3
_STRIP = 0.07  # the coloured edge of a box, in inches
_PAD = 0.11
_LEGEND_HEIGHT = 0.36
_LEGEND_WIDTH = 3.2
_LABEL_SIZE = 8.0
_NAME_SIZE = 8.8
_LINE = "#8C95A3"


class GanttRow(TypedDict):
    """One subtask of a run, in seconds since the run began."""

    id: str
    tier: str | None
    start_s: float
    end_s: float
    critical: NotRequired[bool]


class TradeoffPoint(TypedDict):
    """What one way of answering achieved: accuracy in 0..1, USD, seconds."""

    name: str
    accuracy: float
    usd: float
    seconds: float


def plan_figure(
    plan: Plan, *, tiers: Mapping[str, str] | None = None, critical: Sequence[str] = ()
) -> Figure:
    """Draw a plan as boxes in the order of time, with who answers each subtask.

    Args:
        plan: Any plan of up to 40 subtasks.
        tiers: `"edge"` or `"cloud"` by subtask id; ids may be missing.
        critical: The ids along the critical path, in order, as from `critical_path(plan).ids`.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ConfigurationError: The plan has too many subtasks for a picture that can be read.

    Example:
        >>> from langchain_hybridflow.plan import Plan, Subtask, critical_path
        >>> plan = Plan(
        ...     subtasks=[
        ...         Subtask(id="1", task="What is given?", role="explain"),
        ...         Subtask(id="2", task="What follows?", role="generate", depends_on=["1"]),
        ...     ]
        ... )
        >>> figure = plan_figure(plan, tiers={"1": "edge"}, critical=critical_path(plan).ids)
        >>> len(figure.axes)
        1
    """
    if len(plan.subtasks) > _MAX_SUBTASKS:
        raise ConfigurationError(
            f"The plan has {len(plan.subtasks)} subtasks, and a picture of more than "
            f"{_MAX_SUBTASKS} cannot be read. Draw it as Mermaid instead."
        )
    tiers = {} if tiers is None else tiers
    layout = lay_out(plan)
    foot = _LEGEND_HEIGHT if tiers or critical else 0.0
    beside = max(0.0, _LEGEND_WIDTH - layout.width) / 2 if foot else 0.0
    figure = new_figure(layout.width + 2 * beside, layout.height + foot)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-beside, layout.width + beside), ylim=(-foot, layout.height))
    axes.set_axis_off()
    steps = set(pairwise(critical))
    for line in layout.lines:
        _draw_line(axes, line, layout, heavy=not steps.isdisjoint(line.dependencies))
    for subtask in plan.subtasks:
        box, tier = layout.boxes[subtask.id], tiers.get(subtask.id)
        _draw_box(axes, box, subtask, tier, heavy=subtask.id in critical)
    if foot:
        _draw_legend(axes, layout.width / 2, set(tiers.values()), critical=bool(critical))
    return figure


def gantt_figure(rows: Sequence[GanttRow]) -> Figure:
    """Draw a run: when each subtask was being answered, and by which tier.

    Args:
        rows: One for each subtask that ran, drawn from top to bottom. A critical one has an
            outline.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    width, height = 7.6, 0.75 + 0.36 * max(len(rows), 1)
    left = 0.35 + max((_id_width(row["id"]) for row in rows), default=0.0)
    figure = new_figure(width, height)
    axes = figure.add_axes(
        (left / width, 0.55 / height, (width - left - 0.25) / width, (height - 0.65) / height)
    )
    end_s = max((row["end_s"] for row in rows), default=0.0) or 1.0
    for place, row in enumerate(rows):
        _draw_bar(axes, place, row, s_per_inch=end_s / (width - left - 0.25), end_s=end_s)
    names = [printable(row["id"]) for row in rows]
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.set(xlim=(0, end_s), ylim=(len(rows) - 0.45, -0.55))
    outlined = any(row.get("critical") for row in rows)
    axes.set_xlabel("seconds since the start" + "; outlined: critical path" * outlined)
    plain_axes(axes, grid="x")
    return figure


def tradeoff_figure(points: Sequence[TradeoffPoint]) -> Figure:
    """Draw accuracy against cost, with the seconds beside each point.

    A dashed line joins the points that no other point beats in both accuracy and cost.

    Args:
        points: One for each way of answering; at least one.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    width, height = 6.8, 4.2
    figure = new_figure(width, height)
    axes = figure.add_axes((0.65 / width, 0.55 / height, 1 - 0.85 / width, 1 - 0.75 / height))
    most = max(point["usd"] for point in points) or 1.0
    axes.set(xlim=(-0.06 * most, 1.12 * most), ylim=(0, 105), xlabel="cost, USD")
    axes.set_ylabel("correct answers, %")
    plain_axes(axes, grid="both")
    xs, ys = [point["usd"] for point in points], [100 * point["accuracy"] for point in points]
    axes.plot(xs, ys, "o", color=INK, markersize=7, zorder=3)
    front = unbeaten(points, cost=itemgetter("usd"), worth=itemgetter("accuracy"))
    best = [(point["usd"], 100 * point["accuracy"]) for point in front]
    axes.plot(*zip(*best, strict=True), color=FAINT, linestyle="dashed", linewidth=1.2, zorder=1)
    marks = [_square(figure, axes, x, y, 0.14) for x, y in zip(xs, ys, strict=True)]
    taken = marks + [
        _square(figure, axes, x0 + (x1 - x0) * part / 40, y0 + (y1 - y0) * part / 40, 0.05)
        for (x0, y0), (x1, y1) in pairwise(best)
        for part in range(41)
    ]
    for point, mark in zip(points, marks, strict=True):
        taken.append(_label_point(figure, point, mark, taken))
    return figure


def save_png(figure: Figure, path: str | Path, *, dpi: int = 160) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    figure.savefig(path, format="png", dpi=dpi, metadata={"Software": None})


def _id_width(name: str) -> float:
    return width_of(printable(name), size=8.5)


def _draw_line(axes: Axes, line: Line, layout: Layout, *, heavy: bool) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    (x0, y0), (x1, y1) = line.points[-2:]
    if layout.downward:
        bends = [(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2)]
    else:
        bends = [((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1)]
    corners = [*line.points[:-1], *bends, line.points[-1]]
    straight = [Curve.MOVETO, *[Curve.LINETO] * (len(line.points) - 2)]
    axes.add_patch(
        FancyArrowPatch(
            path=Curve(corners, [*straight, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]),
            arrowstyle="-|>" if line.arrives else "-",
            mutation_scale=9,
            color=INK if heavy else _LINE,
            linewidth=2.0 if heavy else 1.2,
            capstyle="round",
            zorder=3 if heavy else 2,
        )
    )


def _draw_box(axes: Axes, box: Box, subtask: Subtask, tier: str | None, *, heavy: bool) -> None:
    from matplotlib.patches import FancyBboxPatch, Rectangle

    color = color_of(tier)
    card = FancyBboxPatch(
        (box.x, box.y),
        box.width,
        box.height,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=tint_of(tier),
        edgecolor=INK if heavy else color,
        linewidth=2.0 if heavy else 0.9,
        zorder=4,
    )
    axes.add_patch(card)
    strip = Rectangle((box.x, box.y), _STRIP, box.height, facecolor=color, zorder=4.5)
    axes.add_patch(strip)
    strip.set_clip_path(card)
    left, right = box.x + _STRIP + _PAD, box.x + box.width - _PAD
    top = box.y + box.height - _PAD - 0.06
    tag = "" if tier is None else printable(tier)
    tag_width = width_of(tag, size=_SMALL_SIZE, bold=True)
    role_width = width_of(subtask.role, size=_SMALL_SIZE)
    room = right - left - tag_width - role_width - 0.2
    [name] = fitted(subtask.id, width=room, size=_HEAD_SIZE + 0.8, lines=1)
    write = partial(axes.text, va="center_baseline", parse_math=False, zorder=5)
    write(left, top, name, fontsize=_HEAD_SIZE, weight="bold", color=INK)
    after = left + width_of(name, size=_HEAD_SIZE, bold=True) + 0.08
    write(after, top, str(subtask.role), fontsize=_SMALL_SIZE, color=MUTED)
    write(right, top, tag, fontsize=_SMALL_SIZE, weight="bold", color=color, ha="right")
    lines = fitted(subtask.task, width=right - left, size=_TASK_SIZE, lines=_TASK_LINES)
    for number, line in enumerate(lines):
        write(left, top - 0.215 - number * 0.175, line, fontsize=_TASK_SIZE, color=INK)


def _draw_legend(axes: Axes, middle: float, tiers: Collection[str], *, critical: bool) -> None:
    """Write the legend on one line under the plan, in the middle."""
    from matplotlib.patches import Rectangle

    entries = [(tier, True) for tier in sorted(tiers, reverse=True)]
    if critical:
        entries.append(("critical path", False))
    widths = [0.3 + width_of(text, size=_LABEL_SIZE) + 0.3 for text, _ in entries]
    x, y = middle - (sum(widths) - 0.3) / 2, -_LEGEND_HEIGHT / 2 + 0.06
    for (text, is_tier), width in zip(entries, widths, strict=True):
        if is_tier:
            axes.add_patch(Rectangle((x + 0.06, y - 0.06), 0.14, 0.12, facecolor=color_of(text)))
        else:
            axes.plot((x, x + 0.22), (y, y), color=INK, linewidth=2.0)
        axes.text(
            x + 0.3, y, printable(text), fontsize=_LABEL_SIZE, color=MUTED, va="center_baseline"
        )
        x += width


def _draw_bar(axes: Axes, place: int, row: GanttRow, *, s_per_inch: float, end_s: float) -> None:
    """Draw one bar, with its label inside, else right of it, else left of it."""
    start, length, tier = row["start_s"], row["end_s"] - row["start_s"], row["tier"]
    [bar] = axes.barh(place, length, left=start, height=0.64, color=color_of(tier))
    if row.get("critical"):
        bar.set(edgecolor=INK, linewidth=1.8)
    label = f"{length:.2f} s" if tier is None else f"{length:.2f} s · {printable(tier)}"
    pad = 0.08 * s_per_inch
    needed = width_of(label, size=_LABEL_SIZE) * s_per_inch + 2 * pad
    if needed <= length:
        x, side, color = start + pad, "left", "white"
    elif row["end_s"] + needed <= end_s:
        x, side, color = row["end_s"] + pad, "left", INK
    else:
        x, side, color = start - pad, "right", INK
    axes.text(
        x,
        place,
        label,
        color=color,
        ha=side,
        va="center_baseline",
        fontsize=_LABEL_SIZE,
        parse_math=False,
        bbox={"facecolor": "none" if side == "left" else "white", "linewidth": 0, "pad": 1},
    )


def _square(figure: Figure, axes: Axes, x: float, y: float, size: float) -> Box:
    """The square of so many inches around a point of the axes."""
    across, up = axes.transData.transform((x, y)) / figure.dpi
    return Box(across - size / 2, up - size / 2, size, size)


def _label_point(figure: Figure, point: TradeoffPoint, mark: Box, taken: Sequence[Box]) -> Box:
    """Write a point's label on the first side where it covers nothing; return where it is."""
    name = printable(point["name"])
    facts = f"{point['accuracy']:.0%} · {_dollars(point['usd'])} · {point['seconds']:.1f} s"
    wide = max(width_of(name, size=_NAME_SIZE, bold=True), width_of(facts, size=_LABEL_SIZE))
    x, y, high, away = mark.x + mark.width / 2, mark.y + mark.height / 2, 0.36, 0.13
    columns = {"right": x + away, "left": x - away - wide, "middle": x - wide / 2}
    rows = {"middle": y - high / 2, "above": y + away / 2, "below": y - away / 2 - high}
    sides = [("right", "middle"), ("left", "middle"), ("middle", "above"), ("middle", "below")]
    sides += [(column, row) for column in ("right", "left") for row in ("above", "below")]
    places = [Box(columns[column], rows[row], wide, high) for column, row in sides]
    width, height = figure.get_size_inches()
    inside = [
        place
        for place in places
        if place.x > 0.65 and place.x + wide < width and place.y > 0.55 and place.y + high < height
    ]
    free = (place for place in inside if not any(place.overlaps(other) for other in taken))
    place = next(free, places[0])
    write = partial(
        figure.text,
        place.x,
        va="center_baseline",
        parse_math=False,
        transform=figure.dpi_scale_trans,
    )
    write(y=place.y + 0.26, s=name, fontsize=_NAME_SIZE, weight="bold", color=INK)
    write(y=place.y + 0.09, s=facts, fontsize=_LABEL_SIZE, color=MUTED)
    return place


def _dollars(usd: float) -> str:
    """Two significant digits, however small: $1.30, $0.0042."""
    digits = 2 if usd <= 0 else max(2, 1 - math.floor(math.log10(usd)))
    return f"${usd:.{digits}f}"
