"""Several runs: groups with means and intervals, and the planes of cost, time and score."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Final

from langchain_hybridflow.report._ink import FAINT, INK, MUTED, PAPER, new_figure, plain_axes
from langchain_hybridflow.report._markup import Html, Node, plain, tag
from langchain_hybridflow.report._page import figure, legend, section
from langchain_hybridflow.report._pareto import unbeaten
from langchain_hybridflow.report._svg import inline_svg, mark
from langchain_hybridflow.report._words import dollars, percent, seconds, title_of
from langchain_hybridflow.report.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Mean", "comparison", "grouped", "mean_of"]

# Quantiles of Student's t at 97.5 %, for 1 to 30 degrees of freedom.
_T: Final = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_MOST_NAMED: Final = 12
_MOST_MARKS: Final = 500  # more runs are drawn as dots that cannot be pointed at
_FEW: Final = 60
_MARKERS: Final = "osD^vPX<>*hd"

# Beside blue and vermilion, which are the tiers': the rest of Okabe and Ito's, in another order.
_GROUP_COLORS: Final = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C6BB1", "#7A7A7A")


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean and its 95 % interval.

    Attributes:
        mean: The mean.
        half: Half of the interval's width; `None` of a single value.
    """

    mean: float
    half: float | None


@dataclass(frozen=True, slots=True)
class _Group:
    label: str
    runs: tuple[tuple[int, Run], ...]
    cost: Mean | None
    time: Mean
    score: Mean | None


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean with its 95 % interval, by Student's t.

    Example:
        >>> found = mean_of([1.0, 2.0, 3.0])
        >>> found.mean, round(found.half or 0, 2)
        (2.0, 2.48)
    """
    count = len(values)
    if count < 2:
        return Mean(fmean(values), None)
    return Mean(fmean(values), _quantile(count - 1) * stdev(values) / math.sqrt(count))


def _quantile(freedom: int) -> float:
    """Student's t at 97.5 %; beyond the table by its expansion around the normal quantile."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def grouped(runs: Sequence[Run]) -> dict[str, list[tuple[int, Run]]]:
    """Return runs by label, each with its place; without labels all are one group."""
    groups: dict[str, list[tuple[int, Run]]] = {}
    for place, run in enumerate(runs):
        groups.setdefault(run.label or "no label", []).append((place, run))
    return groups


def comparison(runs: Sequence[Run], *, detailed: int) -> Iterator[Html]:
    """Yield the sections that compare runs.

    Args:
        runs: At least two.
        detailed: How many of them have sections of their own on the page.
    """
    groups = [_group(label, members) for label, members in grouped(runs).items()]
    yield section(
        "By group",
        tag("div", _group_table(groups), class_="wide"),
        tag(
            "p",
            "Means, with 95 % intervals by Student's t. "
            "A cost or a score that is unknown is left out of its mean.",
            class_="note",
        ),
    )
    planes = list(_planes(groups))
    if planes:
        yield section("Trade-offs", tag("div", *planes, class_="pair"), _plane_legend(groups))
    yield section("Runs", tag("div", _run_table(runs, detailed), class_="wide"))


def _group(label: str, members: Sequence[tuple[int, Run]]) -> _Group:
    costs = [float(run.cost_usd) for _, run in members if run.cost_usd is not None]
    scores = [run.score for _, run in members if run.score is not None]
    return _Group(
        label,
        tuple(members),
        mean_of(costs) if costs else None,
        mean_of([run.seconds for _, run in members]),
        mean_of(scores) if scores else None,
    )


def _group_table(groups: Sequence[_Group]) -> Html:
    heads = ("Runs", "Score", "Cost", "Time", "Cloud share", "Complete")
    rows = []
    for group in groups:
        members = [run for _, run in group.runs]
        cells = (
            f"{len(members):,}",
            _with_interval(group.score, lambda value: f"{value:.3f}"),
            _with_interval(group.cost, dollars),
            _with_interval(group.time, seconds),
            percent(fmean(run.cloud_share for run in members)),
            f"{sum(run.complete for run in members):,} of {len(members):,}",
        )
        rows.append(
            tag(
                "tr",
                tag("th", group.label, scope="row"),
                *(tag("td", cell, class_="n") for cell in cells),
            )
        )
    head = tag("tr", tag("th", "Group", scope="col"), *_heads(heads))
    return tag("table", tag("thead", head), tag("tbody", *rows))


def _heads(names: Sequence[str]) -> Iterator[Html]:
    for name in names:
        yield tag("th", name, scope="col", class_="n")


def _with_interval(mean: Mean | None, write: Callable[[float], str]) -> str:
    if mean is None:
        return "unknown"
    if mean.half is None:
        return write(mean.mean)
    return f"{write(mean.mean)} \u00b1 {write(mean.half)}"


_Axis = tuple[str, Callable[[Run], float | None], Callable[[_Group], Mean | None]]

_COST: Final[_Axis] = (
    "cost, USD",
    lambda run: None if run.cost_usd is None else float(run.cost_usd),
    lambda group: group.cost,
)
_TIME: Final[_Axis] = ("time, seconds", lambda run: run.seconds, lambda group: group.time)
_SCORE: Final[_Axis] = ("score", lambda run: run.score, lambda group: group.score)


def _planes(groups: Sequence[_Group]) -> Iterator[Html]:
    """Score against cost and time, if there are scores; else time against cost."""
    scored = any(group.score for group in groups)
    priced = any(group.cost for group in groups)
    wanted: list[tuple[_Axis, _Axis, str]] = []
    if scored and priced:
        wanted.append((_COST, _SCORE, "Score against cost"))
    if scored:
        wanted.append((_TIME, _SCORE, "Score against time"))
    if priced and not scored:
        wanted.append((_COST, _TIME, "Time against cost"))
    for number, (across, up, title) in enumerate(wanted):
        plane = _plane(groups, across, up)
        label = f"{title}, a point for each run; the tables have the figures."
        svg = inline_svg(plane, name=f"plane-{number}", label=label)
        yield figure(svg, f"{title}. Dashed: the Pareto front.", label=title)


def _plane(groups: Sequence[_Group], across: _Axis, up: _Axis) -> Figure:
    picture = new_figure(5.4, 3.7, extra="report")
    axes = picture.add_axes((0.13, 0.14, 0.83, 0.82))
    plain_axes(axes, grid="both")
    axes.set_xlabel(across[0])
    axes.set_ylabel(up[0])
    total = sum(len(group.runs) for group in groups)
    named: list[tuple[str, tuple[float, float]]] = []
    for number, group in enumerate(groups):
        color = _GROUP_COLORS[number % len(_GROUP_COLORS)]
        marker = _MARKERS[number % len(_MARKERS)]
        found = [(place, across[1](run), up[1](run)) for place, run in group.runs]
        known = [(place, x, y) for place, x, y in found if x is not None and y is not None]
        for part in [known] if total > _MOST_MARKS else [[one] for one in known]:
            [dots] = axes.plot(
                [x for _, x, _ in part],
                [y for _, _, y in part],
                marker,
                color=color,
                markersize=6 if total <= _FEW else 4,
                alpha=0.35 if len(group.runs) > 1 else 1.0,
                markeredgewidth=0,
            )
            if len(part) == 1:
                mark(dots, f"run-{part[0][0]}")
        mean = _draw_mean(axes, group, across, up, color, marker)
        named += [(group.label, mean)] if mean else []
    _draw_front(axes, [mean for _, mean in named], least=up is _TIME)
    right = axes.get_xlim()[1]
    axes.set_xlim(-0.03 * right, right)
    if up is _SCORE:
        axes.set_ylim(-0.03, 1.05)
    else:
        axes.set_ylim(bottom=0)
    _write_names(axes, named)
    return picture


def _draw_mean(
    axes: Axes, group: _Group, across: _Axis, up: _Axis, color: str, marker: str
) -> tuple[float, float] | None:
    x, y = across[2](group), up[2](group)
    if x is None or y is None:
        return None
    if len(group.runs) > 1:
        axes.errorbar(
            x.mean,
            y.mean,
            xerr=x.half,
            yerr=y.half,
            fmt=marker,
            color=color,
            ecolor=MUTED,
            elinewidth=1.0,
            markersize=9,
            markeredgecolor=PAPER,
            zorder=4,
        )
    return x.mean, y.mean


def _write_names(axes: Axes, named: Sequence[tuple[str, tuple[float, float]]]) -> None:
    """Write the name of each group beside its mean: on the left, if the edge is near."""
    left, right = axes.get_xlim()
    for label, (x, y) in named:
        near = x > left + 0.65 * (right - left)
        axes.annotate(
            plain(" ".join(label.split())[:24]).replace("\n", " "),
            (x, y),
            xytext=(-8 if near else 8, 6),
            textcoords="offset points",
            ha="right" if near else "left",
            fontsize=8.5,
            color=INK,
            parse_math=False,
            zorder=5,
        )


def _draw_front(axes: Axes, means: Sequence[tuple[float, float]], *, least: bool) -> None:
    """Join the groups that no other beats; `least` if less is better on both axes."""
    sign = -1.0 if least else 1.0
    front = unbeaten(means, cost=lambda mean: mean[0], worth=lambda mean: sign * mean[1])
    if len(front) > 1:
        xs, ys = zip(*front, strict=True)
        axes.plot(xs, ys, color=FAINT, linestyle="dashed", linewidth=1.3, zorder=1)


def _plane_legend(groups: Sequence[_Group]) -> Node:
    if len(groups) > _MOST_NAMED:
        return None
    return legend(("pale", "a run"), ("none", "mean of a group, with its 95 % interval"))


def _run_table(runs: Sequence[Run], detailed: int) -> Html:
    heads = ("Score", "Cost", "Time", "Subtasks", "Cloud share")
    head = tag(
        "tr",
        tag("th", "Run", scope="col"),
        tag("th", "Question and answer", scope="col"),
        *_heads(heads),
    )
    rows = [_run_row(place, run, linked=place < detailed) for place, run in enumerate(runs)]
    return tag("table", tag("thead", head), tag("tbody", *rows), class_="many")


def _run_row(place: int, run: Run, *, linked: bool) -> Html:
    name = tag("a", f"{place + 1}", href=f"#of-{place}") if linked else tag("span", f"{place + 1}")
    facts = f"{dollars(run.cost_usd)} \u00b7 {seconds(run.seconds)} \u00b7 "
    facts += f"{percent(run.cloud_share)} cloud"
    details = tag(
        "details",
        tag("summary", _short(run.question) or "question unknown"),
        tag("p", facts, class_="facts"),
        tag("p", run.question, class_="words"),
        tag("div", run.answer, class_="answer"),
    )
    cells = (
        "" if run.score is None else f"{run.score:.3g}",
        dollars(run.cost_usd),
        seconds(run.seconds),
        f"{len(run.subtasks):,}",
        percent(run.cloud_share),
    )
    return tag(
        "tr",
        tag("td", name, " ", tag("span", run.label, class_="note"), class_="id"),
        tag("td", details),
        *(tag("td", cell, class_="n") for cell in cells),
        id=f"run-{place}",
        data_of=f"run-{place}",
        data_title=f"{place + 1} {title_of(run)[:200]}",
    )


def _short(text: str, most: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
