"""The charts of one run, as matplotlib figures: work over time, slots, money, the shadow price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from langchain_hybridflow.report._ink import (
    BAD,
    FAINT,
    INK,
    MUTED,
    PAPER,
    color_of,
    new_figure,
    plain_axes,
)
from langchain_hybridflow.report._pieces import (
    Gauge,
    Piece,
    gauges,
    lanes,
    pieces_of,
    planning_pieces,
    prices,
)
from langchain_hybridflow.report._svg import mark
from langchain_hybridflow.report._words import seconds
from langchain_hybridflow.report.records import SubtaskRun
from langchain_hybridflow.report.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["budget_chart", "gantt_chart", "lanes_chart", "limited", "price_chart"]

_WIDTH: Final = 10.4
_LEFT: Final = 1.25
_RIGHT: Final = 0.25
_MOST_LABELS: Final = 60
_SMALL: Final = 7.2
_NAMES: Final[dict[Gauge, str]] = {
    "usd": "USD",
    "cloud_tokens": "cloud tokens",
    "cloud_calls": "cloud calls",
}


def gantt_chart(run: Run, *, end_s: float | None = None) -> Figure:
    """Draw when each subtask waited and was worked on: one row each, from top to bottom.

    Args:
        run: The run.
        end_s: Where the axis ends, to compare runs; by default where the run does.
    """
    end_s = _end(run) if end_s is None else end_s
    planning = planning_pieces(run)
    subtasks = list(run.subtasks)
    if len(subtasks) > _MOST_LABELS:  # so many that nobody looks for one by its place in the plan
        subtasks.sort(key=lambda one: one.start_s)
    rows = [*([planning] if planning else []), *(pieces_of(one) for one in subtasks)]
    high = 0.3 if len(rows) <= _MOST_LABELS else max(0.06, 18.0 / len(rows))
    figure, axes = _axes(high * len(rows) + 0.5, end_s)
    if planning:
        for piece in planning:
            _draw_piece(axes, 0, piece, critical=False)
    first = len(rows) - len(subtasks)
    for place, one in enumerate(subtasks, start=first):
        critical = one.id in run.critical_path
        for piece in rows[place]:
            _draw_piece(axes, place, piece, critical=critical and high > 0.15)
        answered = [piece for piece in rows[place] if _answers(piece)]
        if answered and high > 0.15 and one.status == "ok":
            _label(axes, place, answered[-1], rows[place][0].queued_s, end_s)
        if one.status != "ok":
            first_s = rows[place][0].queued_s if rows[place] else one.end_s
            _draw_symbol(axes, place, one, (first_s, one.end_s), end_s)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    names = ["planning"] * first + [f"{one.id}  {run.plan[one.id].role}" for one in subtasks]
    step = -(-len(names) // _MOST_LABELS)
    axes.set_yticks(range(0, len(names), step), names[::step], parse_math=False)
    if high <= 0.15:
        axes.tick_params(axis="y", labelsize=5.5)
        axes.tick_params(axis="x", labeltop=True)
    return figure


def lanes_chart(run: Run, *, end_s: float | None = None) -> Figure | None:
    """Draw which slots of each tier were at work; `None` if the moments were not recorded."""
    pieces = [*planning_pieces(run), *(one for each in run.subtasks for one in pieces_of(each))]
    tiers = lanes(pieces)
    rows = [
        (f"{tier} {number}", lane)
        for tier in ("edge", "cloud")
        for number, lane in enumerate(tiers.get(tier, ()), start=1)
    ]
    if not rows:
        return None
    high = 0.26 if len(rows) <= 24 else 0.12
    figure, axes = _axes(high * len(rows) + 0.5, _end(run) if end_s is None else end_s)
    for place, (_, lane) in enumerate(rows):
        for piece in lane:
            _draw_bar(
                axes,
                piece.subtask_id,
                (piece.start_s, piece.end_s),
                (place, 0.74),
                facecolor=color_of(piece.tier),
                edgecolor=PAPER,
                linewidth=0.4,
                alpha=0.5 if piece.purpose == "verify" else 1.0,
            )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], parse_math=False)
    return figure


def limited(run: Run) -> list[Gauge]:
    """Say of which limits there is something to draw; money is shown if any was spent."""
    found: list[Gauge] = []
    for gauge in _NAMES:
        levels, limit = gauges(run, gauge)
        moved = any(level.spent or level.held or level.others for level in levels)
        if limit is not None or (gauge == "usd" and moved):
            found.append(gauge)
    return found


def budget_chart(run: Run, gauge: Gauge, *, end_s: float | None = None) -> Figure:
    """Draw what was spent and held over time, against the limit."""
    end_s = _end(run) if end_s is None else end_s
    levels, limit = gauges(run, gauge)
    figure, axes = _axes(2.0, end_s, grid="both")
    times = [*(level.at_s for level in levels), end_s]
    levels = [*levels, levels[-1]]
    others = [level.others for level in levels]
    spent = [level.others + level.spent for level in levels]
    held = [level.others + level.spent + level.held for level in levels]
    base = [0.0] * len(times)
    step: dict[str, Any] = {"step": "post", "linewidth": 0}
    axes.fill_between(times, spent, held, color=color_of("cloud"), alpha=0.28, **step)
    axes.fill_between(times, others, spent, color=color_of("cloud"), alpha=0.85, **step)
    if any(others):
        axes.fill_between(times, base, others, color=FAINT, alpha=0.6, **step)
    axes.plot(times, held, color=INK, linewidth=1.0, drawstyle="steps-post")
    most = max([*held, limit or 0.0]) or 1.0
    if limit is not None:
        axes.axhline(limit, color=BAD, linewidth=1.4, linestyle=(0, (5, 3)))
        text = f"limit {_amount(limit, gauge)}"
        where = (end_s, limit + 0.03 * most)
        axes.text(*where, text, color=BAD, fontsize=8, ha="right", va="bottom", parse_math=False)
    axes.set_ylim(0, 1.2 * most)
    axes.locator_params(axis="y", nbins=5, integer=gauge != "usd")
    axes.set_ylabel(_NAMES[gauge])
    axes.yaxis.set_major_formatter(lambda value, _: _amount(value, gauge))
    return figure


def price_chart(run: Run, *, end_s: float | None = None) -> Figure | None:
    """Draw the shadow price at each decision; `None` if there never was one."""
    found = prices(run)
    if not any(price for _, price in found):
        return None
    end_s = _end(run) if end_s is None else end_s
    figure, axes = _axes(1.6, end_s, grid="both")
    times, values = zip(*found, strict=True)
    axes.plot(
        [*times, end_s], [*values, values[-1]], color=INK, linewidth=1.4, drawstyle="steps-post"
    )
    axes.plot(times, values, "o", color=INK, markersize=3.5)
    axes.set_ylim(0, 1.15 * max(values))
    axes.set_ylabel("quality per USD")
    return figure


def _end(run: Run) -> float:
    return run.seconds or 1e-3


def _axes(high: float, end_s: float, grid: Any = "x") -> tuple[Figure, Axes]:
    figure = new_figure(_WIDTH, high, extra="report")
    inside = (_WIDTH - _LEFT - _RIGHT) / _WIDTH
    axes = figure.add_axes((_LEFT / _WIDTH, 0.42 / high, inside, (high - 0.5) / high))
    plain_axes(axes, grid=grid)
    axes.set_xlim(0, 1.005 * end_s)
    axes.set_xlabel("seconds since the run began")
    axes.tick_params(axis="both", pad=6)
    return figure, axes


def _draw_piece(axes: Axes, place: int, piece: Piece, *, critical: bool) -> None:
    """Draw a wait as a line, and the work as a bar: pale if it came to nothing."""
    if piece.start_s > piece.queued_s:
        waited = (piece.queued_s, piece.start_s)
        _draw_bar(axes, piece.subtask_id, waited, (place, 0.12), facecolor=FAINT)
    verify, lost = piece.purpose == "verify", piece.status != "ok" or piece.accepted is False
    color = color_of(piece.tier)
    _draw_bar(
        axes,
        piece.subtask_id,
        (piece.start_s, piece.end_s),
        (place, 0.3 if verify else 0.66),
        facecolor=color,
        alpha=0.4 if lost else 1.0,
        edgecolor=INK if critical else color,
        linewidth=1.3 if critical else 0.4,
    )
    if piece.status == "refused":
        [dot] = axes.plot(piece.start_s, place, "v", color=color, markersize=4.5)
        mark(dot, piece.subtask_id)
    for at_s, length_s in piece.pauses:
        pause = (at_s, min(at_s + length_s, piece.end_s))
        _draw_bar(axes, piece.subtask_id, pause, (place, 0.3), facecolor=PAPER)


def _draw_bar(
    axes: Axes, name: str, span: tuple[float, float], row: tuple[float, float], **style: Any
) -> None:
    """Draw a bar from one time to another, in a row of a height; `barh` takes ten times as long."""
    from matplotlib.patches import Rectangle

    (start, end), (place, high) = span, row
    bar = Rectangle((start, place - high / 2), end - start, high, **({"linewidth": 0} | style))
    mark(bar, name)
    axes.add_artist(bar)


def _answers(piece: Piece) -> bool:
    return piece.status == "ok" and piece.purpose == "answer"


def _label(axes: Axes, place: int, piece: Piece, first_s: float, end_s: float) -> None:
    """Write beside the work how long it took, and where: colour alone tells nobody."""
    text = f"{seconds(piece.end_s - piece.start_s)} · {piece.tier}"
    _write(axes, text, place, (first_s, piece.end_s), end_s, color=MUTED)


def _write(
    axes: Axes, text: str, place: int, span: tuple[float, float], end_s: float, *, color: str
) -> None:
    """Write behind something, or before it if that is near the end of the axis."""
    near = span[1] > 0.88 * end_s
    axes.annotate(
        text,
        (span[0] if near else span[1], place),
        xytext=(-7 if near else 7, 0),
        textcoords="offset points",
        va="center",
        ha="right" if near else "left",
        fontsize=_SMALL,
        color=color,
    )


def _draw_symbol(
    axes: Axes, place: int, one: SubtaskRun, span: tuple[float, float], end_s: float
) -> None:
    color, sign = (MUTED, "_") if one.status == "skipped" else (BAD, "x")
    [dot] = axes.plot(span[1], place, sign, color=color, markersize=7, markeredgewidth=1.8)
    mark(dot, one.id)
    _write(axes, one.status, place, span, end_s, color=color)


def _amount(value: float, gauge: Gauge) -> str:
    if gauge != "usd":
        return f"{value:,.0f}"
    return f"${value:.2g}" if 0 < value < 0.01 else f"${value:,.4g}"
