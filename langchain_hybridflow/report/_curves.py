"""The charts of routers' evaluations, as matplotlib figures."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from langchain_hybridflow.report._ink import (
    EDGE,
    INK,
    MUTED,
    PAPER,
    new_figure,
    plain_axes,
)
from langchain_hybridflow.report._markup import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from langchain_hybridflow.report.confidence import ConfidenceEvaluation
    from langchain_hybridflow.report.evaluation import RouterEvaluation

__all__ = [
    "confidence_chart",
    "curve_chart",
    "gains_chart",
    "reliability_chart",
    "risk_chart",
]

_COLORS: Final = (EDGE, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_STYLES: Final = ("-", (0, (6, 2)), "-.", (0, (3, 1, 1, 1)), "-", (0, (6, 2)))
_MOST_BANDS: Final = 3

Routers = Mapping[str, "RouterEvaluation"]


def curve_chart(read: Routers) -> Figure:
    """Draw accuracy over the share of cloud calls, between a random router and the oracle."""
    figure = new_figure(10.4, 4.6, extra="report")
    axes = figure.add_axes((0.07, 0.11, 0.91, 0.86))
    plain_axes(axes, grid="both")
    axes.set_xlabel("share of cloud calls, %")
    axes.set_ylabel("right answers, %")
    first = next(iter(read.values()))
    ends = [100 * first.edge_accuracy, 100 * first.cloud_accuracy]
    axes.plot((0, 100), ends, color=MUTED, linestyle="dashed", linewidth=1.1, label="random")
    if first.curve.oracle:
        shares = _percent(first.curve.cloud_share)
        axes.plot(
            shares,
            _percent(first.curve.oracle),
            color=MUTED,
            linestyle="dotted",
            linewidth=1.4,
            label="oracle",
        )
    for number, (name, one) in enumerate(read.items()):
        _draw_router(axes, name, one, number, band=len(read) <= _MOST_BANDS)
    axes.set_xlim(-1, 101)
    _write_legend(axes, loc="lower right")
    return figure


def reliability_chart(read: Routers) -> Figure:
    """Draw observed against predicted gains."""
    figure, axes = _small("predicted gain", "observed gain")
    ends = [-0.05, 0.05]
    for number, (name, one) in enumerate(read.items()):
        color = _COLORS[number % len(_COLORS)]
        xs = [each.predicted for each in one.reliability]
        ys = [each.observed for each in one.reliability]
        errors = [2 * each.error for each in one.reliability]
        ends += [*xs, *(y + e for y, e in zip(ys, errors, strict=True))]
        ends += [y - e for y, e in zip(ys, errors, strict=True)]
        axes.errorbar(
            xs,
            ys,
            yerr=errors,
            fmt="o-",
            color=color,
            ecolor=color,
            elinewidth=0.9,
            linewidth=1.0,
            markersize=5,
            label=_name(name),
        )
    pad = 0.04 * (max(ends) - min(ends))
    span = (min(ends) - pad, max(ends) + pad)
    axes.plot(span, span, color=MUTED, linestyle="dashed", linewidth=1.0)
    axes.set_xlim(span)
    axes.set_ylim(span)
    if len(read) > 1:
        _write_legend(axes, loc="upper left")
    return figure


def gains_chart(read: Routers) -> Figure:
    """Draw how many questions have which predicted gain, and where the routers decide."""
    figure, axes = _small("predicted gain", "share of the questions, %")
    for number, (name, one) in enumerate(read.items()):
        if one.gains is None:
            continue
        color, total = _COLORS[number % len(_COLORS)], sum(one.gains.counts) or 1
        heights = [100 * count / total for count in one.gains.counts]
        alone = len(read) == 1
        axes.stairs(
            heights,
            one.gains.edges,
            fill=alone,
            color=color,
            alpha=0.85 if alone else 1.0,
            linewidth=1.5,
            label=_name(name),
        )
        if one.operating_point is not None:
            least = one.operating_point.min_gain
            if one.gains.edges[0] <= least <= one.gains.edges[-1]:
                axes.axvline(
                    least, color=INK if alone else color, linewidth=1.2, linestyle="dashed"
                )
    if len(read) > 1:
        _write_legend(axes, loc="upper right")
    return figure


def confidence_chart(one: ConfidenceEvaluation) -> Figure:
    """Draw how often answers were right against how often they were said to be, with counts."""
    figure = new_figure(5.4, 4.6, extra="report")
    axes = figure.add_axes((0.13, 0.36, 0.84, 0.61))
    below = figure.add_axes((0.13, 0.11, 0.84, 0.19))
    plain_axes(axes, grid="both")
    plain_axes(below, grid="y")
    axes.plot((0, 100), (0, 100), color=MUTED, linestyle="dashed", linewidth=1.0)
    xs = [100 * each.predicted for each in one.reliability]
    ys = [100 * each.observed for each in one.reliability]
    ends = (
        [100 * (each.observed - each.low) for each in one.reliability],
        [100 * (each.high - each.observed) for each in one.reliability],
    )
    axes.errorbar(
        xs, ys, yerr=ends, fmt="o-", color=EDGE, ecolor=EDGE, elinewidth=1.0, linewidth=1.0
    )
    axes.set_ylabel("right, %")
    axes.tick_params(labelbottom=False)
    places = [100 * (min(int(10 * each.predicted), 9) + 0.5) / 10 for each in one.reliability]
    counts = [each.rows for each in one.reliability]
    below.bar(places, counts, width=9.2, color=EDGE, alpha=0.85)
    for place, count in zip(places, counts, strict=True):
        below.annotate(
            f"{count:,}",
            (place, count),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
            color=INK,
        )
    below.set_ylim(0, 1.32 * max(counts))
    below.set_ylabel("answers")
    below.set_xlabel("said to be right, %")
    for part in (axes, below):
        part.set_xlim(-2, 102)
        if one.min_probability is not None:
            part.axvline(100 * one.min_probability, color=INK, linewidth=1.1, linestyle="dotted")
    axes.set_ylim(-3, 103)
    return figure


def risk_chart(read: Mapping[str, ConfidenceEvaluation]) -> Figure:
    """Draw the share of wrong answers among those that are kept, over how many are kept."""
    figure = new_figure(5.4, 4.6, extra="report")
    axes = figure.add_axes((0.13, 0.11, 0.84, 0.86))
    plain_axes(axes, grid="both")
    axes.set_xlabel("answers kept on the edge, %")
    axes.set_ylabel("wrong among the kept, %")
    highest = 0.0
    bounds: set[tuple[float, float]] = set()  # of signals on the same answers they are the same
    for number, (name, one) in enumerate(read.items()):
        color = _COLORS[number % len(_COLORS)]
        kept, risk = _percent(one.coverage), _percent(one.risk)
        chance = 100 * (1 - one.accuracy)
        if (one.accuracy, one.aurc_oracle) not in bounds:
            _draw_bounds(axes, one, color=color if bounds else MUTED)
            bounds.add((one.accuracy, one.aurc_oracle))
        label = f"{_name(name)} (AURC {one.aurc:.3f})"
        axes.plot(kept, risk, color=color, linewidth=2.0, label=label)
        highest = max(highest, chance, *risk)
        if one.kept_risk is not None:
            x, y = 100 * (1 - one.cloud_share), 100 * one.kept_risk
            dots: dict[str, Any] = {"color": color, "markeredgecolor": PAPER, "zorder": 4}
            axes.plot(x, y, "*", markersize=14, **dots)
            highest = max(highest, y)
    axes.set_xlim(-2, 102)
    axes.set_ylim(-0.03 * highest, 1.25 * highest + 1)
    _write_legend(axes, loc="upper left")
    return figure


def _draw_bounds(axes: Axes, one: ConfidenceEvaluation, *, color: str) -> None:
    """Draw what keeping at random and what knowing which answers are right would give."""
    chance = 100 * (1 - one.accuracy)
    line: dict[str, Any] = {"color": color, "linewidth": 1.1}
    axes.plot((0, 100), (chance, chance), linestyle="dashed", label="random", **line)
    label = f"oracle (AURC {one.aurc_oracle:.3f})"
    kept, risk = _percent(one.coverage), _percent(one.oracle)
    axes.plot(kept, risk, linestyle="dotted", label=label, **line)


def _draw_router(axes: Axes, name: str, one: RouterEvaluation, number: int, *, band: bool) -> None:
    color, style = _COLORS[number % len(_COLORS)], _STYLES[number % len(_STYLES)]
    shares = _percent(one.curve.cloud_share)
    accuracy = _percent(one.curve.accuracy)
    if band and one.curve.low and one.curve.high:
        low, high = _percent(one.curve.low), _percent(one.curve.high)
        axes.fill_between(shares, low, high, color=color, alpha=0.16, linewidth=0)
    axes.plot(shares, accuracy, color=color, linestyle=style, linewidth=2.0, label=_name(name))
    dots: dict[str, Any] = {"color": color, "markeredgecolor": PAPER, "zorder": 4}
    for share, words in ((one.cpt50, "CPT 50"), (one.cpt80, "CPT 80")):
        if share is None:
            continue
        height = _at(shares, accuracy, share)
        axes.plot(share, height, "o", markersize=7, **dots)
        if number == 0:
            _annotate(axes, words, share, height, below=True)
    if one.operating_point is not None:
        x, y = 100 * one.operating_point.cloud_share, 100 * one.operating_point.accuracy
        axes.plot(x, y, "*", markersize=14, **dots)
        if number == 0:
            _annotate(axes, "as saved", x, y, below=False)


def _annotate(axes: Axes, words: str, x: float, y: float, *, below: bool) -> None:
    axes.annotate(
        words,
        (x, y),
        xytext=(8, -13) if below else (-8, 9),
        textcoords="offset points",
        fontsize=8.5,
        color=INK,
        ha="left" if below else "right",
    )


def _small(across: str, up: str) -> tuple[Figure, Axes]:
    figure = new_figure(5.4, 3.8, extra="report")
    axes = figure.add_axes((0.13, 0.13, 0.84, 0.84))
    plain_axes(axes, grid="both")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    return figure, axes


def _write_legend(axes: Axes, *, loc: Literal["lower right", "upper left", "upper right"]) -> None:
    box = axes.legend(loc=loc, fontsize=8.5, frameon=False)
    for text in box.get_texts():
        text.set_color(INK)
        text.set_parse_math(False)


def _name(name: str) -> str:
    return plain(" ".join(name.split())[:40]).lstrip("_") or "router"


def _percent(values: tuple[float, ...]) -> list[float]:
    return [100 * value for value in values]


def _at(xs: list[float], ys: list[float], x: float) -> float:
    """Read a line at a place between its points."""
    place = min(max(bisect_left(xs, x), 1), len(xs) - 1)
    (x0, x1), (y0, y1) = xs[place - 1 : place + 1], ys[place - 1 : place + 1]
    return y0 if x1 <= x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)
