"""Draw what `benchmarks/pacing.py` measures.

    python benchmarks/pacing.py --json figures.json
    python benchmarks/pacing_plots.py figures.json [--seed 0] [--folder docs/images]

- pacing-quality.png: quality over the optimum, by traffic and policy, from the JSON file;
- pacing-price.png: one learnt day of each kind: price, and money spent, beside the optimum.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pacing import DAY_S, KINDS, LIMIT_SHARE, Paceable, interval, make_day, optimum

from langchain_hybridflow.budget import Pacing
from langchain_hybridflow.report import save_png

INK, MUTED, FAINT, GRID = "#1F2937", "#5B6472", "#B4BBC6", "#E5E7EB"
# Okabe and Ito's colours, which all kinds of colour vision tell apart; each has a mark of its own.
STYLES = {
    "paced": ("#0072B2", "o", "paced"),
    "yesterday": ("#D55E00", "s", "yesterday's best fixed price"),
    "additive": ("#009E73", "^", "additive dual ascent"),
    "first come": ("#6B7280", "x", "first come, first served"),
}
SHOWN = ("steady", "diurnal", "bursty", "surge")
TITLES = {
    "steady": "Steady",
    "diurnal": "Office hours",
    "bursty": "Four bursts",
    "gains fall": "Gains fall at noon",
    "surge": "8x surge from noon on",
}
RIGHT = {"ha": "right", "va": "center"}


def plain(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(which="both", length=0, colors=MUTED, labelsize=9)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def quality_figure(rows: list[dict[str, Any]]) -> Figure:
    """Dots with their 95 % intervals, one row for each kind of traffic."""
    figure = Figure(figsize=(9.0, 4.3), facecolor="white")
    axes = figure.add_axes((0.205, 0.13, 0.78, 0.71))
    lines = [("steady", "cold"), ("diurnal", "cold"), *((kind, "learnt") for kind in KINDS)]
    for place, (kind, day) in enumerate(lines):
        for step, (policy, (color, mark, _)) in enumerate(STYLES.items()):
            height = -place + 0.21 - 0.14 * step  # one above the other, so that none hides another
            mine = [
                100 * row["quality"]
                for row in rows
                if (row["kind"], row["day"], row["policy"]) == (kind, day, policy)
            ]
            if not mine:
                continue
            mean, half = interval(mine)
            axes.errorbar(
                mean,
                height,
                xerr=half,
                fmt=mark,
                color=color,
                markersize=6,
                linewidth=1.5,
                zorder=3,
            )
        name = TITLES[kind] + (", first day" if day == "cold" else "")
        axes.text(-1.5, -place, name, fontsize=9.5, color=INK, **RIGHT)
    axes.axhline(-1.5, color=FAINT, linewidth=0.8)
    axes.set(xlim=(0, 101), ylim=(-len(lines) + 0.5, 0.5), yticks=[])
    axes.axvline(95, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.text(94.3, 0.5, "aim: 95", fontsize=8.5, color=INK, ha="right", va="bottom")
    plain(axes)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("quality, in % of the offline optimum of the same day", color=MUTED, fontsize=9)
    handles = [
        axes.plot([], [], mark, color=color, markersize=6, label=label)[0]
        for color, mark, label in STYLES.values()
    ]
    figure.legend(
        handles=handles, loc="upper center", ncols=4, frameon=False, fontsize=9, labelcolor=INK,
        bbox_to_anchor=(0.55, 1.0), handletextpad=0.2, columnspacing=1.6,
    )  # fmt: skip
    return figure


def price_figure(seed: int, calls: int) -> Figure:
    """A column for each kind of traffic: calls, price, and the share of the money that is spent."""
    figure = Figure(figsize=(9.0, 5.0), facecolor="white")
    grid = figure.subplots(
        3, len(SHOWN), sharex=True, sharey="row", height_ratios=(1, 2.4, 2.4), squeeze=False
    )
    for column, kind in enumerate(SHOWN):
        rng = np.random.default_rng((seed, KINDS.index(kind), 0))
        days = [make_day(rng, kind, calls, last=number == 3) for number in range(4)]
        limit = int(LIMIT_SHARE * np.mean([day.micros.sum() for day in days[:3]]))
        shop = Paceable(limit, processes=4, pacing=Pacing())
        for number, day in enumerate(days):
            outcome = shop.route(day, number, rng)
        best_price = optimum(day, limit)[1]
        best = day.gain > best_price * day.micros
        hours = day.at_s / 3_600
        top, middle, bottom = grid[:, column]
        top.hist(hours, bins=96, range=(0, 24), color=FAINT)
        top.set_title(TITLES[kind], fontsize=10, color=INK, loc="left")
        scale = 1e6  # per micro-USD to per USD
        middle.plot(hours, outcome.price * scale, color=STYLES["paced"][0], linewidth=1.1)
        middle.axhline(best_price * scale, color=INK, linewidth=1.1, linestyle=(0, (4, 3)))
        for bought, style in ((outcome.bought, "paced"), (best, None)):
            color = STYLES[style][0] if style else INK
            dash = "-" if style else (0, (4, 3))
            spent = 100 * np.cumsum(day.micros * bought) / limit
            bottom.plot(hours, spent, color=color, linewidth=1.3, linestyle=dash)
        for axes in (top, middle, bottom):
            plain(axes)
        bottom.set(xlim=(0, 24), xticks=[0, 6, 12, 18], ylim=(0, 104))
        assert hours.max() <= DAY_S / 3_600
    grid[0, 0].set_ylabel("calls in\n15 minutes", color=MUTED, fontsize=9)
    grid[1, 0].set_ylabel("price, quality\nper USD (log)", color=MUTED, fontsize=9)
    grid[1, 0].set(yscale="log", ylim=(1, 400), yticks=[1, 10, 100], yticklabels=["1", "10", "100"])
    grid[2, 0].set_ylabel("spent, % of\nthe limit", color=MUTED, fontsize=9)
    for axes in grid[2]:
        axes.set_xlabel("hour of the day", color=MUTED, fontsize=9)
    handles = [
        grid[1, 0].plot([], [], color=STYLES["paced"][0], label="paced, one call after the other")[
            0
        ],
        grid[1, 0].plot(
            [], [], color=INK, linestyle=(0, (4, 3)), label="optimum, knowing the whole day"
        )[0],
    ]
    figure.legend(
        handles=handles, loc="lower center", ncols=2, frameon=False, fontsize=9, labelcolor=INK
    )
    figure.subplots_adjust(left=0.09, right=0.985, top=0.94, bottom=0.16, hspace=0.14, wspace=0.1)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path, help="what `pacing.py --json` wrote")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calls", type=int, default=4_000)
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    rows = json.loads(args.figures.read_text(encoding="utf-8"))
    save_png(quality_figure(rows), args.folder / "pacing-quality.png")
    save_png(price_figure(args.seed, args.calls), args.folder / "pacing-price.png")


if __name__ == "__main__":
    main()
