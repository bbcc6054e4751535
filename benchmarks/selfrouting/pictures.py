"""The curves: accuracy over the share of the cloud, and what became of asking in training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from offloading import SHARES

COLOURS = ("#1b6ca8", "#d1495b", "#2e933c", "#8d6a9f", "#e08e45", "#555555", "#17a2a2", "#b5838d")
NAMES = {"task": "task only", "gapg": "GAPG", "grpo": "GRPO", "rloo": "RLOO", "da_grpo": "DA-GRPO"}
WATCHED = (
    ("ask_rate", "share of outputs that ask"),
    ("local_accuracy", "edge right, of all outputs"),
)


def draw_shares(rows: dict[str, dict[float, list[float]]], file: Path) -> None:
    """Draw accuracy over the share of the cloud: mean of the seeds, and their spread."""
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.add_subplot()
    for colour, (way, row) in zip(COLOURS * 2, rows.items(), strict=False):
        values = 100 * np.array([row[share] for share in SHARES])
        mean, deviation = values.mean(1), values.std(1, ddof=1) if values.shape[1] > 1 else 0
        style = "--" if way.startswith("task") else "-"
        shares = [100 * share for share in SHARES]
        axes.plot(shares, mean, style, color=colour, label=way, marker=".")
        axes.fill_between(shares, mean - deviation, mean + deviation, color=colour, alpha=0.15)
    axes.set_xlabel("prompts that the cloud answers, %")
    axes.set_ylabel("right answers, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.savefig(file, dpi=120)


def draw_training(runs: Sequence[Any], file: Path) -> None:
    """Draw how often the model asks, and how often it is right itself, over the steps."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    by_method: dict[tuple[str, float], list[list[dict]]] = defaultdict(list)
    for run in runs:
        by_method[run.method, run.share].append([row for row in run.log if WATCHED[0][0] in row])
    for axes, (name, title) in zip(figure.subplots(1, 2), WATCHED, strict=True):
        for colour, ((method, share), logs) in zip(
            COLOURS, sorted(by_method.items()), strict=False
        ):
            length = min(map(len, logs))
            steps = [row["step"] for row in logs[0][:length]]
            values = np.array([[float(row[name]) for row in log[:length]] for log in logs])
            label = NAMES[method] + (f" {share:.0%}" if method in ("gapg", "da_grpo") else "")
            axes.plot(steps, 100 * values.mean(0), color=colour, label=label)
            for line in values:
                axes.plot(steps, 100 * line, color=colour, alpha=0.25, linewidth=0.7)
        axes.set_title(f"{title}, %", fontsize=9)
        axes.set_xlabel("step of training")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(file, dpi=120)
