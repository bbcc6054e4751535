"""`hybridflow evaluate`: how good a trained router is on recorded outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_hybridflow.cli.display import one_line, print_json, reports_errors, say_error, screen
from langchain_hybridflow.cli.embeddings import Cache, Spec, embedded_for
from langchain_hybridflow.cli.figures import figures, figures_table
from langchain_hybridflow.cli.report import check_writable, save_page
from langchain_hybridflow.cli.train import MODELS, models

if TYPE_CHECKING:
    from langchain_hybridflow.learning import Dataset, Evaluation, SavedRouter

__all__ = ["Data", "RouterDir", "evaluate"]

RouterDir = Annotated[
    Path, typer.Option(metavar="DIR", help="A router of hybridflow train.", show_default=False)
]
Data = Annotated[
    Path,
    typer.Option(metavar="FILE", help="Outcomes: .parquet, .jsonl or .csv; see docs/router.md."),
]


@reports_errors
def evaluate(
    *,
    router: RouterDir,
    data: Data,
    draws: Annotated[
        int, typer.Option(min=0, help="Resamplings behind the interval of APGR; 0 has none.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
    embeddings: Spec = None,
    embeddings_cache: Cache = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it, as one HTML page.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """Measure a router on questions that both tiers have answered.

    All figures are of calls that declare no tag, whatever the file says of their category: a plain
    call does not. What a router reaches that is told the tag of each question is under with_tag;
    there is no such thing if it was trained without. With --embeddings they are of a router that
    uses them, and without_embeddings has those of the text alone.

    The keys of --json: rows, seen_in_training, edge_accuracy, cloud_accuracy, apgr, apgr_low and
    apgr_high (90 % interval), apgr_10_points, apgr_oracle, cpt50, cpt80 (in %), auroc, brier,
    brier_edge, brier_cloud, ece, ece_equal_mass, ece_noise, regret; operating_point (min_gain,
    cloud_share, accuracy); curve (cloud_share, accuracy, low and high of its 90 % band, oracle);
    reliability (rows, predicted, observed, error of ten bins of gains); gains (edges, counts);
    warnings; by_category and after_edge hold the same figures for each category, and for decisions
    made once the edge has answered, and with_tag and without_embeddings have all of these figures
    (apgr_low, apgr_high and after_edge, too). What does not exist is null. Their meaning is in
    docs/router.md. Several such files are drawn together by hybridflow report --evaluation.
    """
    if html is not None:
        check_writable(html)
    from langchain_hybridflow.learning import Dataset, load_router, read_table
    from langchain_hybridflow.learning import evaluate as measure

    saved = load_router(router)
    columns = read_table(data)
    dataset = Dataset.from_rows(columns)
    vectors = embedded_for(saved.predictor, embeddings, dataset, embeddings_cache)
    found = measure(saved.predictor, dataset, embedded=vectors, draws=draws, seed=seed)
    seen = int((~saved.unseen(dataset)).sum())
    warnings = [*_warnings(dataset, found, seen), *_strangers(saved, columns)]
    for warning in warnings:
        say_error(warning)
    if html is not None or as_json:
        drawn = _drawn(found, dataset, draws=draws, seed=seed) | {"warnings": warnings}
        plain = _as_json(saved, dataset, found, seen) | drawn
        if html is not None:
            _save_html(html, router, plain)
        if as_json:
            print_json(plain)
    if not as_json:
        _show(saved, dataset, found)


def _drawn(found: Evaluation, data: Dataset, *, draws: int, seed: int) -> dict[str, Any]:
    """What the HTML page needs besides figures."""
    import numpy as np

    from langchain_hybridflow.learning.portrait import portray

    gains = np.array(found.gains)
    portrait = portray(gains, data.edge, data.cloud, groups=data.groups, draws=draws, seed=seed)
    return portrait.as_dict()


def _save_html(path: Path, router: Path, plain: dict[str, Any]) -> None:
    from langchain_hybridflow.report import evaluation_html

    save_page(evaluation_html({router.resolve().name: plain}), path, what="1 evaluation")


def _warnings(data: Dataset, found: Evaluation, seen: int) -> list[str]:
    warnings = [f"Note: {one_line(note)}" for note in data.notes]
    if seen:
        warnings.append(
            f"Warning: {seen:,} of {len(data):,} questions were in the training data, so that "
            f"these figures are better than those of new questions."
        )
    if found.before.apgr is None:
        warnings.append(
            "Note: the cloud is not better than the edge on these data, so that there is no gap "
            "to recover: APGR and CPT do not exist."
        )
    return warnings


def _strangers(saved: SavedRouter, columns: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    for tier in MODELS:
        known, found = saved.manifest.training_data.get(tier), models(columns, tier)
        if known and found and found != [known]:
            yield (
                f"Warning: the router was trained on answers of {one_line(str(known))}, and these "
                f"are of {one_line(', '.join(found), most=200)}."
            )


def _point(saved: SavedRouter, data: Dataset, found: Evaluation) -> dict[str, float]:
    import numpy as np

    chosen = np.array(found.gains) > saved.min_gain
    return {
        "min_gain": saved.min_gain,
        "cloud_share": float(chosen.mean()),
        "accuracy": float(np.where(chosen, data.cloud, data.edge).mean()),
    }


def _as_json(saved: SavedRouter, data: Dataset, found: Evaluation, seen: int) -> dict[str, Any]:
    return _main(found) | {
        "seen_in_training": seen,
        "operating_point": _point(saved, data, found),
        "by_category": {name: figures(metrics) for name, metrics in found.by_tag.items()},
        "with_tag": None if found.with_tag is None else _main(found.with_tag),
        "without_embeddings": None if found.by_text is None else _main(found.by_text),
    }


def _main(found: Evaluation) -> dict[str, Any]:
    interval = found.apgr_interval
    return figures(found.before) | {
        "apgr_low": None if interval is None else interval.low,
        "apgr_high": None if interval is None else interval.high,
        "after_edge": None if found.after is None else figures(found.after),
    }


def _show(saved: SavedRouter, data: Dataset, found: Evaluation) -> None:
    console = screen()
    rows = _rows(found)
    if found.with_tag is not None:
        rows |= {f"{name}, tag declared": row for name, row in _rows(found.with_tag).items()}
    if found.by_text is not None:
        rows |= {f"{name}, no embeddings": row for name, row in _rows(found.by_text).items()}
    rows["oracle"] = {"apgr": found.before.apgr_oracle, "regret": 0.0}
    console.print(figures_table(f"{len(data):,} questions", rows))
    if found.apgr_interval is not None:
        low, high = found.apgr_interval.low, found.apgr_interval.high
        console.print(f"APGR before any call: 90 % interval {low:.3f} to {high:.3f}")
    console.print(
        f"ECE of a perfectly calibrated router on so many questions, in ten bins of equal mass: "
        f"about {found.before.ece_noise:.3f}; this one has {found.before.ece_equal_mass:.3f}."
    )
    if found.by_tag:
        console.print()
        shown = {one_line(name, most=24): figures(m) for name, m in found.by_tag.items()}
        console.print(figures_table("By category, before any call", shown))
    point = _point(saved, data, found)
    console.print(
        f"\nAt its operating point (gain above {point['min_gain']:.3f}) "
        f"{point['cloud_share']:.1%} go to the cloud and {point['accuracy']:.1%} are right; "
        f"always-edge {found.before.edge_accuracy:.1%}, "
        f"always-cloud {found.before.cloud_accuracy:.1%}."
    )


def _rows(found: Evaluation) -> dict[str, dict[str, Any]]:
    rows = {"before any call": figures(found.before)}
    if found.after is not None:
        rows["once the edge has answered"] = figures(found.after)
    return rows
