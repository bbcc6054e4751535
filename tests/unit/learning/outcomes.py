"""A small world of questions, in which how a question looks says who can answer it."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from langchain_hybridflow.learning import (
    Dataset,
    TrainedPredictor,
    TrainingReport,
    TrainingSettings,
    train,
)

FAST = TrainingSettings(models=("forest", "logistic"), trees=20)


def columns(rows: int = 400, *, seed: int = 0) -> dict[str, list[Any]]:
    """Sums that both tiers can do, proofs that only the cloud can, riddles that nobody can."""
    rng = random.Random(seed)
    kinds = {
        "sum": (0.9, 0.95, "What is {a} + {b}?\nA. {a}\nB. {c}\nC. {b}"),
        "proof": (0.15, 0.9, "Prove that the sequence {a} n + {b} converges modulo {c}."),
        "riddle": (0.1, 0.15, "Which word hides behind the letters of the door number {a}?"),
    }
    table: dict[str, list[Any]] = {
        name: [] for name in ("question", "edge_correct", "cloud_correct", "group", "tag")
    } | {"edge_answer_chars": [], "edge_no_answer": [], "cloud_tokens": []}
    for row in range(rows):
        tag = rng.choice(list(kinds))
        p_edge, p_cloud, text = kinds[tag]
        edge = int(rng.random() < p_edge)
        a, b = rng.randrange(10_000), rng.randrange(10_000)
        values = {
            "question": text.format(a=a, b=b, c=a + b),
            "edge_correct": edge,
            "cloud_correct": int(rng.random() < p_cloud),
            "group": f"group {row}",
            "tag": tag,
            "edge_answer_chars": rng.randrange(50, 150) if edge else rng.randrange(100, 900),
            "edge_no_answer": 0,
            "cloud_tokens": rng.randrange(40, 60) * (10 if tag == "proof" else 1),
        }
        for name, value in values.items():
            table[name].append(value)
    return table


def dataset(rows: int = 400, *, seed: int = 0, **changes: Any) -> Dataset:
    """Return the world as a dataset, some columns replaced; `None` drops one."""
    table = columns(rows, seed=seed) | changes
    return Dataset.from_rows({name: v for name, v in table.items() if v is not None})


@cache
def trained() -> tuple[TrainedPredictor, TrainingReport]:
    """Return a predictor of the world, trained once."""
    return train(dataset(), settings=FAST)
