"""How well a router trained with the shipped defaults orders questions it has never seen.

    python benchmarks/router.py --data DIR [--seeds 5] [--sets NAME ...] [--models forest ...]
                                [--ablations] [--latency] [--json FILE]

DIR (or HYBRIDFLOW_ROUTER_DATA) holds tables of outcomes, one Parquet file a pair of models. Each is
split by group, 30 % for the test, with seeds 0 to 4; one configuration for all. A set that is not
there is named and left out.

- APGR, CPT: area under the recovered gap and shares of cloud calls (RouteLLM's definitions);
- after:     decisions made once the edge has answered, where lengths of its answers are known;
- ECE:       calibration error of dq, 10 equally wide bins over [-1, 1]; beside it that of ten bins
             of equal mass, and what a perfect prediction would have there by chance;
- interval:  mean of the seeds' own 90 % intervals, each from resampled groups of its test rows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from langchain_hybridflow.learning import (
    Dataset,
    Evaluation,
    TrainingReport,
    TrainingSettings,
    evaluate,
    load_dataset,
    train,
)
from langchain_hybridflow.learning.features import structure_matrix
from langchain_hybridflow.routing import RouteRequest

TEST_SHARE = 0.3


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

Change = Callable[[Dataset], Dataset]
ABLATIONS: dict[str, Change] = {
    "as shipped": lambda data: data,
    "no topics": lambda data: replace(data, tags=None),
    "no other models' scores": lambda data: replace(data, hardness=None),
}


def split(data: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    from sklearn.model_selection import GroupShuffleSplit

    splitter = GroupShuffleSplit(n_splits=1, test_size=TEST_SHARE, random_state=seed)
    rows, held = next(splitter.split(data.questions, groups=np.array(data.groups)))
    return data.take(rows), data.take(held)


def run(
    data: Dataset, *, seeds: int, settings: TrainingSettings
) -> list[tuple[TrainingReport, Evaluation]]:
    found = []
    for seed in range(seeds):
        rows, held = split(data, seed)
        same_text, same_group = held.overlap(rows)
        assert same_text + same_group == 0, "the split tears a group apart"
        predictor, report = train(rows, settings=settings)
        found.append((report, evaluate(predictor, held, seed=seed)))
    return found


def row(name: str, bar: Bar, runs: list[tuple[TrainingReport, Evaluation]]) -> dict[str, Any]:
    """Reduce the runs of one set to a line of the table."""
    before = [e.before for _, e in runs]
    after = [e.after for _, e in runs if e.after is not None]
    intervals = [e.apgr_interval for _, e in runs if e.apgr_interval is not None]
    return {
        "set": name,
        "bar": bar.before,
        "apgr": mean(m.apgr or 0.5 for m in before),
        "apgr_by_seed": [m.apgr for m in before],
        # Each seed's own interval, on average: wider than that of the mean, so on the safe side.
        "interval": [mean(i.low for i in intervals), mean(i.high for i in intervals)],
        "apgr_10": mean(m.apgr_10 or 0.5 for m in before),
        "cpt_50": mean(m.cpt_50 or 1.0 for m in before),
        "cpt_80": mean(m.cpt_80 or 1.0 for m in before),
        "auroc": mean(m.auroc or 0.5 for m in before),
        "oracle": mean(m.apgr_oracle or 0.5 for m in before),
        "ece": mean(m.ece for m in before),
        "ece_equal_mass": mean(m.ece_equal_mass for m in before),
        "ece_noise": mean(m.ece_noise for m in before),
        "after_bar": bar.after,
        "after": mean(m.apgr or 0.5 for m in after) if after else None,
        "after_by_seed": [m.apgr for m in after],
        "after_ece": mean(m.ece for m in after) if after else None,
        "chosen": sorted({report.before.chosen for report, _ in runs}),
        "cpu_s": mean(report.cpu_s for report, _ in runs),
        "candidates": {
            name: mean(r.before.candidates[name].apgr or 0.5 for r, _ in runs)
            for name in runs[0][0].before.candidates
        },
    }


def show(line: dict[str, Any]) -> None:
    def verdict(value: float, bar: float) -> str:
        return "reached" if value >= bar else "MISSED"

    low, high = line["interval"]
    print(
        f"{line['set']:<16} APGR {line['apgr']:.4f} (a seed: {low:.3f} to {high:.3f}; bar "
        f"{line['bar']:.3f} {verdict(line['apgr'], line['bar'])}), oracle {line['oracle']:.3f}, "
        f"at ten quantiles {line['apgr_10']:.4f}\n"
        f"{'':<16} CPT50 {line['cpt_50']:.1%}, CPT80 {line['cpt_80']:.1%}, AUROC "
        f"{line['auroc']:.3f}, ECE {line['ece']:.4f} "
        f"({'reached' if line['ece'] <= ECE_BAR else 'MISSED'}; equal mass "
        f"{line['ece_equal_mass']:.4f}, of which chance {line['ece_noise']:.4f})\n"
        f"{'':<16} seeds {', '.join(f'{value:.3f}' for value in line['apgr_by_seed'])}; "
        f"{'/'.join(line['chosen'])}, {line['cpu_s']:.0f} CPU s a training"
    )
    if line["after"] is not None:
        print(
            f"{'':<16} after the edge answered: APGR {line['after']:.4f} (bar "
            f"{line['after_bar']:.3f} {verdict(line['after'], line['after_bar'])}), ECE "
            f"{line['after_ece']:.4f}; seeds "
            f"{', '.join(f'{value:.3f}' for value in line['after_by_seed'])}"
        )
    ordered = sorted(line["candidates"].items(), key=lambda item: -item[1])
    print(f"{'':<16} out-of-fold: {', '.join(f'{n} {v:.3f}' for n, v in ordered)}", flush=True)


def latency(data: Dataset, settings: TrainingSettings) -> dict[str, float]:
    """Time single predictions and a batch of a thousand, in microseconds a request."""
    rows, held = split(data, 0)
    predictor, _ = train(rows, settings=replace(settings, models=("forest",)))
    requests = [RouteRequest(text=text) for text in held.questions[:1_000]]
    single = []
    for request in requests:
        start = time.perf_counter()
        predictor.predict([request])
        single.append(time.perf_counter() - start)
    structure = structure_matrix({}, len(requests))
    batch = []
    for _ in range(5):
        start = time.perf_counter()
        predictor.foresee([request.text for request in requests], structure=structure)
        batch.append((time.perf_counter() - start) / len(requests))
    return {
        "p50_us": median(single) * 1e6,
        "p95_us": float(np.quantile(single, 0.95)) * 1e6,
        "batch_us": median(batch) * 1e6,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=os.environ.get("HYBRIDFLOW_ROUTER_DATA"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", choices=list(BARS), default=list(BARS))
    parser.add_argument("--models", nargs="+", default=list(TrainingSettings().models))
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.data is None:
        print("SKIPPED: no data; give --data DIR or HYBRIDFLOW_ROUTER_DATA.")
        return 0
    settings = TrainingSettings(models=tuple(arguments.models))
    changes = ABLATIONS if arguments.ablations else {"as shipped": ABLATIONS["as shipped"]}
    lines = []
    for name in arguments.sets:
        path = Path(arguments.data) / BARS[name].file
        if not path.is_file():
            print(f"SKIPPED {name}: there is no {path.name} in {path.parent}.")
            continue
        data = load_dataset(path)
        for variant, change in changes.items():
            line = row(
                name, BARS[name], run(change(data), seeds=arguments.seeds, settings=settings)
            )
            print(f"--- {variant}")
            show(line)
            lines.append({"variant": variant, **line})
        if arguments.latency:
            lines.append({"variant": "latency", "set": name, **latency(data, settings)})
            print(lines[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
