"""How well a router trained with the shipped defaults orders questions it has never seen.

    python benchmarks/router.py --data DIR [--part table curve large price structure latency]
                                [--seeds 5] [--sets NAME ...] [--json FILE]

DIR (or HYBRIDFLOW_ROUTER_DATA) holds tables of outcomes, one Parquet file a pair of models. Each is
split by group, 30 % for the test, with seeds 0 to 4; one configuration for all. A set that is not
there is named and left out.

- table:     APGR and CPT (RouteLLM's definitions), AUROC and ECE of dq before any call; the same
             once the edge has answered, with the tag declared, and without the calibration. ECE
             has 10 equally wide bins over [-1, 1]. Intervals: the mean of the seeds' own 90 %
             intervals, from resampled groups of their test rows; beside it the spread (standard
             deviation) of the seeds.
- curve:     APGR by the number of questions trained on, beside logistic regression on TF-IDF.
- large:     CPU seconds of one training on 12,000 questions of all sets.
- price:     quality at equal spend, with and without the shadow price; see `router_price.py`.
- structure: what the place in a plan is worth, on the sandbox's plans; see `router_structure.py`.
- latency:   one decision, and a thousand at once, beside others; see `router_latency.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import numpy as np
from router_latency import latency
from router_price import price
from router_structure import structure

from langchain_hybridflow.learning import (
    Dataset,
    Evaluation,
    Metrics,
    TrainedPredictor,
    TrainingReport,
    TrainingSettings,
    apgr,
    evaluate,
    load_dataset,
    train,
)
from langchain_hybridflow.learning._stages import Stage, Stages
from langchain_hybridflow.learning.calibration import Calibration

TEST_SHARE = 0.3
LARGE = 12_000
SIZES = (100, 300, 1_000, 3_000)


@dataclass(frozen=True)
class Bar:
    """A table of outcomes, and what is to be reached on it."""

    file: str
    before: float
    after: float | None = None


BARS = {
    "MMLU-Pro": Bar("mmlu_pro_llama8b_vs_gemini15pro.parquet", 0.590, 0.620),
    "RouteLLM MMLU": Bar("routellm_mmlu.parquet", 0.695),
    "LLMRouter QA": Bar("llmrouter_qa.parquet", 0.735),
}
ECE_BAR = 0.03

Sets = dict[str, Dataset]


def split(data: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Return rows to train on and rows to measure on, no group in both."""
    from sklearn.model_selection import GroupShuffleSplit

    splitter = GroupShuffleSplit(n_splits=1, test_size=TEST_SHARE, random_state=seed)
    rows, held = next(splitter.split(data.questions, groups=np.array(data.groups)))
    train_rows, test_rows = data.take(rows), data.take(held)
    assert sum(test_rows.overlap(train_rows)) == 0, "the split tears a group apart"
    return train_rows, test_rows


# The table


def uncalibrated(predictor: TrainedPredictor) -> TrainedPredictor:
    """Return the predictor with raw scores of its models."""

    def raw(stage: Stage | None) -> Any:
        return None if stage is None else replace(stage, calibration=Calibration())

    views = {
        view: Stages(before=raw(stages.before), after=raw(stages.after))
        for view, stages in predictor.views.items()
    }
    return replace(predictor, views=views)


def lines_of(found: Evaluation, raw: Evaluation) -> Iterator[tuple[str, Metrics, Any]]:
    """Yield the lines of the table: name, figures, interval of APGR."""
    yield "prompt only", found.before, found.apgr_interval
    yield "prompt only, not calibrated", raw.before, None
    if found.after is not None and raw.after is not None:
        yield "after the edge", found.after, found.after_interval
        yield "after the edge, not calibrated", raw.after, None
    if found.with_tag is not None:
        yield "tag declared", found.with_tag.before, found.with_tag.apgr_interval
        if found.with_tag.after is not None:
            yield (
                "after the edge, tag declared",
                found.with_tag.after,
                found.with_tag.after_interval,
            )


def table(sets: Sets, seeds: int) -> list[dict[str, Any]]:
    """Train on every split of every set, and measure."""
    lines = []
    for name, data in sets.items():
        runs: dict[str, list[tuple[Metrics, Any]]] = {}
        reports: list[TrainingReport] = []
        for seed in range(seeds):
            rows, held = split(data, seed)
            predictor, report = train(rows)
            found = evaluate(predictor, held, seed=seed)
            raw = evaluate(uncalibrated(predictor), held, draws=0)
            for line, metrics, interval in lines_of(found, raw):
                runs.setdefault(line, []).append((metrics, interval))
            reports.append(report)
            print(f"... {name} seed {seed}: {report.cpu_s:.0f} CPU s", file=sys.stderr, flush=True)
        lines += [reduced(name, line, found) for line, found in runs.items()]
        lines.append(of_training(name, reports))
        show_table(lines, name)
    return lines


def reduced(name: str, line: str, found: list[tuple[Metrics, Any]]) -> dict[str, Any]:
    """Return one line of the table: means over the seeds."""
    metrics = [one for one, _ in found]
    intervals = [interval for _, interval in found if interval is not None]
    areas = [one.apgr or 0.5 for one in metrics]
    return {
        "set": name,
        "line": line,
        "apgr": mean(areas),
        "by_seed": areas,
        "spread": pstdev(areas) * (len(areas) / max(len(areas) - 1, 1)) ** 0.5,
        "interval": [mean(i.low for i in intervals), mean(i.high for i in intervals)]
        if intervals
        else None,
        "apgr_10": mean(one.apgr_10 or 0.5 for one in metrics),
        "oracle": mean(one.apgr_oracle or 0.5 for one in metrics),
        "cpt_50": mean(one.cpt_50 or 1.0 for one in metrics),
        "cpt_80": mean(one.cpt_80 or 1.0 for one in metrics),
        "auroc": mean(one.auroc or 0.5 for one in metrics),
        "ece": mean(one.ece for one in metrics),
        "ece_by_seed": [one.ece for one in metrics],
        "ece_equal_mass": mean(one.ece_equal_mass for one in metrics),
        "ece_noise": mean(one.ece_noise for one in metrics),
    }


def of_training(name: str, reports: list[TrainingReport]) -> dict[str, Any]:
    """Return what the trainings took, chose, and saw of the candidates out-of-fold."""
    first = reports[0].before.candidates
    return {
        "set": name,
        "line": "training",
        "rows": [report.rows for report in reports],
        "cpu_s": mean(report.cpu_s for report in reports),
        "chosen": [report.before.chosen for report in reports],
        "chosen_after": [report.after and report.after.chosen for report in reports],
        "candidates": {
            one: mean(report.before.candidates[one].apgr or 0.5 for report in reports)
            for one in first
        },
    }


def show_table(lines: list[dict[str, Any]], name: str) -> None:
    bars = {"prompt only": BARS[name].before, "after the edge": BARS[name].after}
    for line in lines:
        if line["set"] != name:
            continue
        if line["line"] == "training":
            ordered = sorted(line["candidates"].items(), key=lambda item: -item[1])
            print(f"{name}: {line['cpu_s']:.0f} CPU s a training, {'/'.join(line['chosen'])}")
            print(f"  out-of-fold: {', '.join(f'{n} {v:.3f}' for n, v in ordered)}", flush=True)
            continue
        bar = bars.get(line["line"])
        verdict = "" if bar is None else f" bar {bar} {'ok' if line['apgr'] >= bar else 'MISSED'}"
        between = "" if not line["interval"] else " {:.3f}-{:.3f}".format(*line["interval"])
        print(
            f"{name:<14} {line['line']:<31} APGR {line['apgr']:.4f} sd {line['spread']:.3f}"
            f"{between}{verdict} | CPT {line['cpt_50']:.1%} {line['cpt_80']:.1%} | AUROC "
            f"{line['auroc']:.3f} | ECE {line['ece']:.4f} (equal mass {line['ece_equal_mass']:.4f},"
            f" chance {line['ece_noise']:.4f}) | ten quantiles {line['apgr_10']:.4f} | seeds "
            f"{' '.join(f'{value:.3f}' for value in line['by_seed'])}"
        )


# The learning curve


def curve(sets: Sets, seeds: int) -> list[dict[str, Any]]:
    """Train on more and more of the rows; the forest alone, which every full training chose."""
    lines = []
    settings = TrainingSettings(models=("forest",))
    for name, data in sets.items():
        for size in (*SIZES, 0):
            ours, plain = [], []
            for seed in range(seeds):
                rows, held = split(data, seed)
                part = rows if size == 0 else rows.take(_first(len(rows), size, seed))
                bare = replace(part, answer_chars=None)
                predictor, _ = train(bare, settings=settings)
                ours.append(evaluate(predictor, held, draws=0).before.apgr or 0.5)
                plain.append(apgr(logistic(part, held), held.edge, held.cloud) or 0.5)
            lines.append(
                {
                    "set": name,
                    "rows": size or "all",
                    "apgr": mean(ours),
                    "spread": pstdev(ours),
                    "logistic": mean(plain),
                    "logistic_spread": pstdev(plain),
                }
            )
            print(lines[-1], flush=True)
    return lines


def _first(rows: int, size: int, seed: int) -> Any:
    return np.random.default_rng(seed).permutation(rows)[:size]


def logistic(rows: Dataset, held: Dataset) -> Any:
    """Return gains by two logistic regressions on TF-IDF, C chosen on a fifth of the groups."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupShuffleSplit

    def gains(x: Any, one: Dataset, y: Any, strength: float) -> Any:
        probabilities = []
        for scores in (one.edge, one.cloud):
            labels = scores >= 0.5
            if labels.all() or not labels.any():
                probabilities.append(np.full(y.shape[0], float(labels[0])))
                continue
            model = LogisticRegression(C=strength, max_iter=300).fit(x, labels)
            probabilities.append(model.predict_proba(y)[:, 1])
        return probabilities[1] - probabilities[0]

    terms = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=50_000)
    x = terms.fit_transform(rows.questions)
    splitter = GroupShuffleSplit(n_splits=1, test_size=0.2, random_state=0)
    inner, outer = next(splitter.split(x, groups=np.array(rows.groups)))
    part, other = rows.take(inner), rows.take(outer)

    def judged(strength: float) -> float:
        return apgr(gains(x[inner], part, x[outer], strength), other.edge, other.cloud) or 0.5

    best = max((0.1, 1.0, 10.0), key=judged)
    return gains(x, rows, terms.transform(held.questions), best)


# Time


def large(sets: Sets) -> list[dict[str, Any]]:
    """Train once on 12,000 questions of all sets together, with the lengths of answers."""
    parts = list(sets.values())
    texts = dict.fromkeys(text for data in parts for text in data.questions)
    owner = {text: (data, row) for data in parts for row, text in enumerate(data.questions)}
    chosen = [owner[text] for text in list(texts)[:LARGE]]

    def numbers(name: str, missing: float) -> Any:
        columns = {id(data): getattr(data, name) for data in parts}
        return [
            missing if columns[id(data)] is None else float(columns[id(data)][row])
            for data, row in chosen
        ]

    def words(name: str) -> list[str]:
        columns = {id(data): getattr(data, name) for data in parts}
        return [(columns[id(data)] or {row: "other"})[row] for data, row in chosen]

    data = Dataset.from_rows(
        {
            "question": words("questions"),
            "edge_correct": numbers("edge", 0),
            "cloud_correct": numbers("cloud", 0),
            "tag": words("tags"),
            "group": [f"{id(data)} {data.groups[row]}" for data, row in chosen],
            "edge_answer_chars": numbers("answer_chars", 300),
        }
    )
    started = time.process_time(), time.perf_counter()
    _, report = train(data)
    line = {
        "rows": report.rows,
        "cpu_s": time.process_time() - started[0],
        "wall_s": time.perf_counter() - started[1],
        "views": ["text", *report.views],
        "after_edge": report.after is not None,
    }
    print(line, flush=True)
    return [line]


def load(directory: Path, names: list[str]) -> Sets:
    """Return the sets that are there."""
    sets = {}
    for name in names:
        path = directory / BARS[name].file
        if path.is_file():
            sets[name] = load_dataset(path)
        else:
            print(f"SKIPPED {name}: there is no {path.name} in {path.parent}.")
    return sets


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts: dict[str, Callable[[Sets, int], list[dict[str, Any]]]] = {
        "table": table,
        "curve": curve,
        "large": lambda sets, _: large(sets),
        "price": lambda _, seeds: price(Path(arguments.data) / BARS["MMLU-Pro"].file, seeds),
        "structure": lambda _, seeds: structure(seeds),
        "latency": lambda sets, _: latency(sets, split),
    }
    parser.add_argument("--data", type=Path, default=os.environ.get("HYBRIDFLOW_ROUTER_DATA"))
    parser.add_argument("--part", nargs="+", choices=list(parts), default=["table"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", choices=list(BARS), default=list(BARS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.data is None:
        print("SKIPPED: no data; give --data DIR or HYBRIDFLOW_ROUTER_DATA.")
        return 0
    sets = load(Path(arguments.data), arguments.sets)
    found = {part: parts[part](sets, arguments.seeds) for part in arguments.part}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
