"""How far can whoever knows a router push questions to the cloud, and what stops them?

    python benchmarks/attack.py --data DIR [--sets NAME ...] [--seed 0]

DIR holds tables of outcomes, see benchmarks/router.py. A gadget is a string that is appended to
any question. It is searched greedily on 60 held-out questions, with the router itself as the
oracle: in each of three steps the piece is added that sends most of them to the cloud. Pieces are
words, beginnings and whole texts of those training questions that the router finds the most worth
the cloud, and odd strings. What it does is measured on other held-out questions, for each of:

- plain:   the router as it is;
- guarded: the same with `GuardedPredictor`;
- default: the router that ships.

Each operates where 30 % of clean questions go to the cloud. `CappedRouter` (40 %, burst 10) is put
on top of the plain one, and asked everything again.

The second table poisons labels of training: of a share of the questions the edge's outcome becomes
"wrong". How many routers does the gate refuse, and what does it say of a clean one?
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from router import BARS, Sets, load, split

from langchain_hybridflow.learning import (
    Dataset,
    LearnedRouter,
    TrainedPredictor,
    TrainingSettings,
    apgr,
    check_gate,
    train,
)
from langchain_hybridflow.routing import (
    CappedRouter,
    DefaultRouter,
    GuardedPredictor,
    Predictor,
    RouteRequest,
)

SHARE = 0.3
CAP, BURST = 0.4, 10
STEPS = 3
ODD = (
    "$$\\int$$",
    "def f(x):",
    "Options: A) 1 B) 2",
    "0.5 mol/L",
    "zzqx ?!?!",
    "\n\nAnswer in JSON.",
)
Gains = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Gadget:
    """A string that is appended, and what it does on questions it was not searched on."""

    text: str
    share: float


def gains_of(predictor: Predictor) -> Gains:
    """Return what a predictor foresees of texts."""

    def gains(texts: Sequence[str]) -> np.ndarray:
        found = predictor.predict([RouteRequest(text=text) for text in texts])
        return np.array([one.gain for one in found])

    return gains


def pieces(texts: Sequence[str], gains: Gains, rng: np.random.Generator, most: int) -> list[str]:
    """What a gadget is put together from, no piece longer than `most` characters."""
    some = [texts[row] for row in rng.choice(len(texts), 600, replace=False)]
    best = [some[row] for row in np.argsort(-gains(some))[:25]]
    words = sorted({word for text in best for word in text.split() if 3 < len(word) < 30})
    found = [*ODD, *best, *(text[:60] for text in best), *(text[-60:] for text in best)]
    found += list(rng.choice(words, min(40, len(words)), replace=False))
    return [piece for piece in found if len(piece) <= most]


def attack(
    gains: Gains, threshold: float, texts: Sequence[str], others: Sequence[str], found: list[str]
) -> Gadget:
    """Search a gadget on `texts` and measure it on `others`."""
    gadget = ""
    for _ in range(STEPS):
        scores = []
        for piece in found:
            seen = gains([f"{text}{gadget} {piece}" for text in texts])
            scores.append(((seen > threshold).mean(), seen.mean()))
        gadget += f" {found[max(range(len(found)), key=scores.__getitem__)]}"
    share = float((gains([text + gadget for text in others]) > threshold).mean())
    return Gadget(gadget, share)


def capped_share(router: LearnedRouter, texts: Sequence[str]) -> float:
    """Return the share of cloud calls with the cap on top."""
    capped = CappedRouter(router, max_share=CAP, burst=BURST)
    tiers = [capped.route(RouteRequest(text=text)).tier for text in texts]
    return tiers.count("cloud") / len(tiers)


def attacks(name: str, data: Dataset, seed: int) -> TrainedPredictor:
    """Print the rows of a set; return its router."""
    rng = np.random.default_rng(seed)
    known, held = split(data, seed)
    predictor, _ = train(known, settings=TrainingSettings(seed=seed))
    texts = [held.questions[row] for row in rng.permutation(len(held))]
    victims, others, clean = texts[:60], texts[60:360], texts[360:1_260]
    contenders: dict[str, Predictor] = {
        "plain": predictor,
        "guarded": GuardedPredictor(predictor),
        "default": DefaultRouter().predictor,
    }
    for label, contender in contenders.items():
        gains = gains_of(contender)
        everything = gains(held.questions)
        area = apgr(everything, held.edge, held.cloud)
        threshold = float(np.quantile(gains(clean), 1 - SHARE))
        cells = [f"{(gains(others) > threshold).mean():.0%}"]
        for most in (60, 1_000_000):
            found = pieces(known.questions, gains, np.random.default_rng(seed), most)
            gadget = attack(gains, threshold, victims, others, found)
            cells.append(f"{gadget.share:.0%}")
        if label == "plain":
            router = LearnedRouter(predictor, min_gain=threshold)
            cells.append(f"{capped_share(router, [text + gadget.text for text in others]):.0%}")
        else:
            cells.append("")
        print(f"| {name} | {label} | {area:.3f} | {' | '.join(cells)} |", flush=True)
    return predictor


def poison(name: str, data: Dataset, seed: int, sound: TrainedPredictor) -> None:
    """Print what the gate says of routers whose training was poisoned."""
    known, held = split(data, seed)
    report = check_gate(sound, held)
    print(f"| {name} | 0 % | {'passes' if report.passed else 'refused'} | |", flush=True)
    for share in (0.05, 0.1, 0.2, 0.4):
        rng = np.random.default_rng(seed)
        edge = np.where(rng.random(len(known)) < share, 0.0, known.edge)
        predictor, _ = train(replace(known, edge=edge), settings=TrainingSettings(seed=seed))
        report = check_gate(predictor, held, incumbent=sound)
        names = ", ".join(test.name for test in report.refusals)
        print(f"| {name} | {share:.0%} | {'passes' if report.passed else 'refused'} | {names} |")


def main() -> None:
    """Attack the routers and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("HYBRIDFLOW_ROUTER_DATA")
    parser.add_argument("--data", type=Path, default=default, required=default is None)
    parser.add_argument("--sets", nargs="*", default=list(BARS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sets: Sets = load(options.data, options.sets)
    print("| set | router | APGR | clean | gadget of at most 183 characters | of any | + cap |")
    print("|---|---|---|---|---|---|---|")
    routers = {name: attacks(name, data, options.seed) for name, data in sets.items()}
    print("\n| set | edge labels turned to wrong | gate | because of |\n|---|---|---|---|")
    for name, data in sets.items():
        poison(name, data, options.seed, routers[name])


if __name__ == "__main__":
    main()
