"""The table: post-trained self-routing against routers from outside, at equal shares of the cloud.

    python benchmarks/selfrouting/table.py --runs DIR [--write]

DIR holds what `make.py` trained. What a checkpoint does with the puzzles is kept beside it, so a
second call is quick. `--write` puts the table into benchmarks/README.md
and the pictures into docs/images.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from offloading import (
    SHARES,
    accuracy_at,
    cloud_outcomes,
    encoder_scores,
    random_at,
    regression_scores,
)
from pictures import draw_shares, draw_training
from solving import columns, load, solve
from world import test_puzzles, training_puzzles

from langchain_hybridflow.sandbox.puzzles import Puzzle

ROUTER_SEED, ROUTER_PUZZLES = 5, 3000
README = Path(__file__).resolve().parents[1] / "README.md"
IMAGES = README.parents[1] / "docs" / "images"
BEGIN, END = "<!-- self-routing: begin -->", "<!-- self-routing: end -->"


@dataclass(frozen=True)
class Run:
    """A trained checkpoint."""

    folder: Path
    method: str
    share: float
    seed: int
    about: dict

    @classmethod
    def read(cls, folder: Path) -> Run:
        about = json.loads(folder.joinpath("run.json").read_text())
        return cls(folder, about["method"], about["share"], about["seed"], about)

    @property
    def log(self) -> list[dict]:
        """What was measured while it was trained."""
        return json.loads(self.folder.joinpath("log.json").read_text())


def outcomes(folder: Path, name: str, puzzles: list[Puzzle]) -> dict[str, np.ndarray]:
    """What a checkpoint does with puzzles; kept beside it."""
    file = folder / f"{name}.npz"
    if not file.exists():
        np.savez(file, **columns(solve(*load(folder), puzzles)))
    with np.load(file) as kept:
        return dict(kept)


def all_runs(root: Path) -> list[Run]:
    """Read every run there is."""
    return [Run.read(file.parent) for file in sorted(root.glob("*/run.json"))]


class Results:
    """Accuracy of each way at each share: one number a seed."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.points: dict[tuple[str, float], list[tuple[float, float, float]]] = defaultdict(list)

    def add(self, way: str, accuracy: Callable[[float], float]) -> None:
        """Note a way that can be set to any share."""
        for share in SHARES:
            self.rows[way][share].append(accuracy(share))

    def add_point(self, run: Run, share: float, accuracy: float, alone: float) -> None:
        """Note what a checkpoint does if it is left to itself."""
        self.points[run.method, run.share].append((share, accuracy, alone))


def measure(root: Path) -> Results:
    """Measure every checkpoint on the test puzzles."""
    puzzles = test_puzzles()
    cloud = cloud_outcomes(puzzles)
    results = Results()
    base = outcomes(root / "base", "test", puzzles)
    asked = base["ask"]
    results.add(
        "supervised only, marker ranked",
        lambda share: accuracy_at(share, asked, base["solved"], cloud),
    )
    for run in all_runs(root):
        found = outcomes(run.folder, "test", puzzles)
        local, asks = found["solved"], found["asks"]
        results.add_point(run, asks.mean(), np.where(asks, cloud, local).mean(), local.mean())
        if run.method == "task":
            _outside(root, run, puzzles, found, cloud, results)
        else:
            way = f"{run.method} {run.share:.0%}, marker ranked"
            results.add(
                way, lambda share, f=found: accuracy_at(share, f["ask"], f["solved"], cloud)
            )
    return results


def _outside(root, run: Run, puzzles, found, cloud, results: Results) -> None:
    """Add to a task-tuned model what decides from outside."""
    local = found["solved"]
    taught = training_puzzles(ROUTER_PUZZLES, seed=ROUTER_SEED)
    solved = outcomes(run.folder, "router", taught)["solved"]
    asked, texts = [one.question for one in puzzles], [one.question for one in taught]
    file = run.folder / "routers.npz"
    if not file.exists():
        np.savez(
            file,
            regression=regression_scores(texts, solved, asked),
            encoder=encoder_scores(root / "base", texts, solved, asked, seed=run.seed),
        )
    with np.load(file) as kept:
        scores = dict(kept)
    results.add("task + random offload", lambda share: random_at(share, local, cloud))
    for way, score in (
        ("task + router, logistic regression", scores["regression"]),
        ("task + router, encoder", scores["encoder"]),
        ("task + log-probability threshold", -found["logprob"]),
        ("task + oracle (the best there can be)", (~local & cloud).astype(float)),
    ):
        results.add(way, lambda share, s=score: accuracy_at(share, s, local, cloud))


def spread(values: list[float]) -> str:
    """Write mean and standard deviation in per cent."""
    deviation = stdev(values) if len(values) > 1 else 0.0
    return f"{100 * fmean(values):.1f} ± {100 * deviation:.1f}"


def write(results: Results, runs: list[Run]) -> str:
    """Write both tables as Markdown."""
    lines = [
        "| accuracy in % at a cloud share of | " + " | ".join(f"{s:.0%}" for s in SHARES) + " |",
        "|---|" + "---:|" * len(SHARES),
    ]
    for way, row in results.rows.items():
        lines.append(f"| {way} | " + " | ".join(spread(row[share]) for share in SHARES) + " |")
    lines += [
        "",
        "| left to itself (greedy) | cloud share | accuracy | edge alone | cloud calls to train |",
        "|---|---:|---:|---:|---:|",
    ]
    for (method, share), points in sorted(results.points.items()):
        same = [one for one in runs if (one.method, one.share) == (method, share)]
        bought = [one.about["cloud_bought"] for one in same]
        name = f"{method}, {share:.0%} wanted" if method in ("gapg", "da_grpo") else method
        shares, accuracies, alone = zip(*points, strict=True)
        lines.append(
            f"| {name} | {spread(list(shares))} | {spread(list(accuracies))} | "
            f"{spread(list(alone))} | {fmean(bought):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = measure(options.runs)
    runs = all_runs(options.runs)
    text = write(results, runs)
    print(text)
    if options.write:
        draw_shares(results.rows, IMAGES / "self-routing-shares.png")
        draw_training(runs, IMAGES / "self-routing-training.png")
        whole = README.read_text(encoding="utf-8")
        block = f"{BEGIN}\n{text}\n{END}"
        README.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: block, whole, flags=re.DOTALL))


if __name__ == "__main__":
    main()
