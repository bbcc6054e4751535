"""Make the default router that ships in the package, and measure what it is worth.

    python benchmarks/default_router.py --data-dir DIR           the figures
    python benchmarks/default_router.py --data-dir DIR --write   ... and make the file and its card
    python benchmarks/default_router.py --data-dir DIR --check   ... and compare: 1 if they differ

DIR (or HYBRIDFLOW_ROUTER_DATA) holds the tables of outcomes that `default_router_data` names. It
needs the extra `learning`. With the same data and releases the file is the same byte for byte.

- same sets:  learnt from 70 % of all three tables and measured on the rest, mean of five splits;
- other sets: learnt from two tables and measured on all of the third: other models, other kinds of
              questions. That is what somebody may expect who has models and questions of his own.

No cluster of near-duplicates is on both sides, in whichever tables its questions are: 45 % of
MMLU-Pro here is MMLU with more answers to choose from.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from default_router_card import card
from default_router_data import (
    EDGE_SKILLS,
    PROBLEM_SEED,
    SOURCES,
    SUBTASK_PROBLEMS,
    Floats,
    Outcomes,
    data_sha256,
    load,
)
from default_router_fit import Fitted, Part, difficulty_table, fit, predictions

import langchain_hybridflow.routing.default as shipped
from langchain_hybridflow.learning.metrics import measure
from langchain_hybridflow.routing import surface_difficulty
from langchain_hybridflow.routing.default.artefact import FILE_NAME, SCHEMA, pack, unpack
from langchain_hybridflow.routing.default.weights import Pair

SPLITS = 5
TEST_SHARE = 0.3
RULES: dict[str, Callable[[str], float]] = {
    "length only": len,
    "surface rule": lambda question: surface_difficulty(question).level,
}
ABOUT = (
    "Foresees, before a call is made, what a model in the cloud would add to one on the edge, "
    "whichever these are: by the planner's difficulty in a plan, else by words and looks of the "
    "text. It says little: train a router on outcomes of your own models."
)


def other_sets(
    sets: Sequence[Outcomes], difficulty: tuple[Pair, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Learn from two tables, measure on the third."""
    found, baselines = {}, {}
    for held in sets:
        parts = [
            Part(one, np.flatnonzero(~np.isin(one.clusters, held.clusters)))
            for one in sets
            if one is not held
        ]
        rows = np.arange(len(held))
        found[held.source.name] = figures(fit(parts, difficulty), held, rows)
        baselines[held.source.name] = {
            name: ordered([float(rule(question)) for question in held.questions], held)
            for name, rule in RULES.items()
        }
    return found, baselines


def same_sets(sets: Sequence[Outcomes], difficulty: tuple[Pair, ...]) -> dict[str, Any]:
    """Learn from a part of every table, measure on the rest of it; means over splits."""
    clusters = np.unique(np.concatenate([one.clusters for one in sets]))
    runs = []
    for seed in range(SPLITS):
        rng = np.random.default_rng(seed)
        held = rng.choice(clusters, round(TEST_SHARE * len(clusters)), replace=False)
        inside = [np.isin(one.clusters, held) for one in sets]
        fitted = fit(
            [Part(one, np.flatnonzero(~out)) for one, out in zip(sets, inside, strict=True)],
            difficulty,
        )
        runs.append(
            {
                one.source.name: figures(fitted, one, np.flatnonzero(out))
                for one, out in zip(sets, inside, strict=True)
            }
        )
    return {
        name: {key: float(np.mean([run[name][key] for run in runs])) for key in runs[0][name]}
        for name in runs[0]
    }


def figures(fitted: Fitted, outcomes: Outcomes, rows: Any) -> dict[str, float]:
    """Measure the router as it ships on one pair of models."""
    pairs = predictions(fitted.weights, [outcomes.questions[row] for row in rows])
    gains = pairs[:, 1] - pairs[:, 0]
    edge, cloud = outcomes.edge[rows], outcomes.cloud[rows]
    asked = gains > fitted.min_gain
    return {
        **measured(gains, edge, cloud, pairs),
        "cloud_share": float(asked.mean()),
        "accuracy": float(np.where(asked, cloud, edge).mean()),
        "edge_accuracy": float(edge.mean()),
        "cloud_accuracy": float(cloud.mean()),
    }


def measured(gains: Floats, edge: Floats, cloud: Floats, pairs: Floats) -> dict[str, float]:
    found = measure(gains, edge, cloud, p_edge=pairs[:, 0], p_cloud=pairs[:, 1])
    return {
        "apgr": found.apgr or 0.5,
        "cpt50": 100 * (found.cpt_50 or 1.0),
        "cpt80": 100 * (found.cpt_80 or 1.0),
        "auroc": found.auroc or 0.5,
        "brier": ((found.brier_edge or 0.0) + (found.brier_cloud or 0.0)) / 2,
        "ece": found.ece,
        "regret": found.regret,
    }


def ordered(scores: Sequence[float], outcomes: Outcomes) -> dict[str, float]:
    """Measure a rule that orders questions and foresees nothing."""
    found = measure(np.array(scores), outcomes.edge, outcomes.cloud)
    return {
        "apgr": found.apgr or 0.5,
        "cpt50": 100 * (found.cpt_50 or 1.0),
        "cpt80": 100 * (found.cpt_80 or 1.0),
        "auroc": found.auroc or 0.5,
    }


def manifest(fitted: Fitted, sets: Sequence[Outcomes], found: Mapping[str, Any]) -> dict[str, Any]:
    weights = fitted.weights
    return {
        "format": 1,
        "feature_schema": SCHEMA,
        "about": ABOUT,
        "training_data": {
            one.source.name: {
                "rows": len(one),
                "measured on": one.source.pair,
                "source": one.source.origin,
                "licence": one.source.licence,
                "edges": len(one.source.edges) or 1,
                "clouds": len(one.source.clouds) or 1,
            }
            for one in sets
        }
        | {
            "sandbox subtasks": {
                "rows": f"those of {SUBTASK_PROBLEMS} problems, seed {PROBLEM_SEED}",
                "edges": len(EDGE_SKILLS),
                "clouds": 1,
                "source": "langchain_hybridflow.sandbox",
                "licence": "MIT",
            }
        },
        "training_data_sha256": data_sha256(sets),
        "metrics": found,
        "parameters": {
            "min_gain": fitted.min_gain,
            "known words": len(weights.words),
            "hash of a word": "CRC-32 of its UTF-8 bytes in lower case",
            "the most a word adds": round(weights.word_reach, 4),
            "the most two texts differ": round(weights.reach, 4),
        },
        "versions": {"numpy": version("numpy"), "scipy": version("scipy")},
    }


def rounded(value: Any) -> Any:
    """Figures to four digits: more would be noise, and differ between machines."""
    if isinstance(value, Mapping):
        return {key: rounded(one) for key, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def make(directory: Path) -> tuple[bytes, str]:
    sets, difficulty = load(directory), difficulty_table()
    others, baselines = other_sets(sets, difficulty)
    found = rounded(
        {"other sets": others, "same sets": same_sets(sets, difficulty), "baselines": baselines}
    )
    whole = fit([Part(one, np.arange(len(one))) for one in sets], difficulty)
    raw = pack(whole.weights, manifest(whole, sets, found))
    return raw, card(unpack(raw))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("HYBRIDFLOW_ROUTER_DATA"))
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="put it into the package")
    what.add_argument("--check", action="store_true", help="compare it with the package")
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        print("SKIPPED: no data; give --data-dir DIR or HYBRIDFLOW_ROUTER_DATA.")
        return 0
    missing = [s.file for s in SOURCES if not (Path(arguments.data_dir) / s.file).is_file()]
    if missing:
        print(f"There is no {', '.join(missing)} in {arguments.data_dir}.", file=sys.stderr)
        return 2
    raw, text = make(Path(arguments.data_dir))
    print(text)
    place = Path(shipped.__file__).parent
    differs = False
    for name, made in ((FILE_NAME, raw), ("MODEL_CARD.md", text.encode())):
        path = place / name
        same = path.is_file() and path.read_bytes() == made
        if arguments.write:
            path.write_bytes(made)
        if arguments.write or arguments.check:
            print(f"{name}: {len(made):,} bytes, {'as before' if same else 'another one'}")
        differs |= not same
    return int(arguments.check and differs)


if __name__ == "__main__":
    sys.exit(main())
