"""`hybridflow router show | explain | tune`: what a trained router is, thinks and does.

`default` instead of a directory is the router that ships.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from langchain_hybridflow.cli.ask import read_question
from langchain_hybridflow.cli.display import one_line, print_json, reports_errors, say_error, screen
from langchain_hybridflow.cli.embeddings import Cache, Spec, embedded_for
from langchain_hybridflow.cli.evaluate import Data
from langchain_hybridflow.cli.figures import PLAIN, figures_table
from langchain_hybridflow.cli.train import writing
from langchain_hybridflow.cli.watch import drift, gate
from langchain_hybridflow.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.table import Table

    from langchain_hybridflow.learning import (
        Dataset,
        Explanation,
        LearnedRouter,
        OperatingPoint,
        SavedRouter,
    )
    from langchain_hybridflow.routing import DefaultRouter

__all__ = ["router"]

router = typer.Typer(
    help="Routers that hybridflow train has made.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

router.command()(gate)
router.command()(drift)

Place = Annotated[
    Path, typer.Argument(metavar="DIR", help="A router of hybridflow train.", show_default=False)
]
PlaceOrDefault = Annotated[
    Path,
    typer.Argument(
        metavar="DIR|default",
        help="A router of hybridflow train, or the one that ships.",
        show_default=False,
    ),
]
_DEFAULT: Final = Path("default")
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@router.command()
@reports_errors
def show(directory: PlaceOrDefault, *, as_json: AsJson = False) -> None:
    """Show what a router was trained on, what it reached, and where it operates."""
    manifest = _manifest(directory)
    if as_json:
        print_json(manifest)
        return
    console = screen()
    title, rows = _reached(manifest["metrics"])
    console.print(figures_table(title, rows))
    training = manifest["training_data"] | {"sha256": manifest["training_data_sha256"]}
    for title, facts in (
        ("Trained on", training),
        ("Operating point", manifest["parameters"]),
        ("Made with", manifest["versions"] | {"feature schema": manifest["feature_schema"]}),
    ):
        console.print(f"\n{title}", style="bold")  # a table's own title wraps to its width
        console.print(_facts_table(facts))


def _manifest(directory: Path) -> dict[str, Any]:
    if directory == _DEFAULT:
        from langchain_hybridflow.routing.default import load_default

        return dict(load_default().manifest)
    from langchain_hybridflow.learning import load_router

    return load_router(directory).manifest.to_json()


def _reached(metrics: Mapping[str, Any]) -> tuple[str, Mapping[str, Mapping[str, Any]]]:
    """Return a title and a row of figures for each time that the router was measured."""
    if "other sets" in metrics:  # the router that ships was measured on several sets
        return "Reached on questions held out, learnt from", {
            f"{name}, {how}": found
            for how in ("other sets", "same sets")
            for name, found in metrics[how].items()
        }
    before = {key: value for key, value in metrics.items() if not key.startswith("after_edge_")}
    after = {key.removeprefix("after_edge_"): metrics[key] for key in metrics.keys() - before}
    rows = {"before any call": before} | ({"once the edge has answered": after} if after else {})
    return f"Reached {metrics.get('how', '')}".strip(), rows


def _facts_table(facts: Mapping[str, Any]) -> Table:
    from rich.table import Table

    table = Table(show_header=False, **PLAIN)
    table.add_column("")
    table.add_column("", overflow="fold")
    for name, value in facts.items():
        nested = value.items() if isinstance(value, Mapping) else ((None, value),)
        for part, one in nested:
            table.add_row(one_line(name if part is None else f"{name} {part}"), _written(one))
    return table


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return one_line("; ".join(map(str, value))) or "none"
    return one_line(str(value))


@router.command()
@reports_errors
def explain(
    directory: PlaceOrDefault,
    question: Annotated[
        str | None,
        typer.Argument(help="The question; read from standard input if it is not given."),
    ] = None,
    *,
    answer: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The edge's answer, if it has answered.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option(metavar="TAG", help="What kind of question it declares to be.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say where a question would go, and which of its features speak for that."""
    text = read_question(question)
    from langchain_hybridflow.routing import EdgeAnswer, RouteRequest

    learned = _explainable(directory)
    known = getattr(learned.predictor, "tags", ())
    if tag is not None and tag not in known:
        say_error(
            f"Note: the router has not learnt what the tag {one_line(tag)} means, so that the text "
            f"alone decides. It knows {one_line(', '.join(known), most=300) or 'no tags'}."
        )
    request = RouteRequest(text=text, tag=tag)
    found = learned.explain(request, answer=None if answer is None else EdgeAnswer(text=answer))
    decision = learned.decide(request, found.prediction)
    if as_json:
        print_json(_explanation(found) | {"tier": decision.tier, "threshold": decision.threshold})
        return
    console = screen()
    console.print(f"{decision.tier}: {one_line(decision.reason)}", style="bold", soft_wrap=True)
    console.print(str(found), soft_wrap=True)


def _explainable(directory: Path) -> DefaultRouter | LearnedRouter:
    if directory == _DEFAULT:
        from langchain_hybridflow.routing import DefaultRouter

        return DefaultRouter()
    from langchain_hybridflow.learning import LearnedRouter

    return LearnedRouter.load(directory)


def _explanation(found: Explanation) -> dict[str, Any]:
    prediction = found.prediction
    return {
        "gain": prediction.gain,
        "edge_quality": prediction.edge_quality,
        "cloud_quality": prediction.cloud_quality,
        "start": found.start,
        "contributions": dict(found.contributions),
        "output_tokens": dict(prediction.output_tokens),
        "seconds": dict(prediction.seconds),
        "cost_usd": dict(prediction.cost_usd),
    }


@router.command()
@reports_errors
def tune(
    directory: Place,
    *,
    data: Data,
    target_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of questions that may go to the cloud, 0 to 1."),
    ] = None,
    limit_usd: Annotated[
        float | None,
        typer.Option(min=0, metavar="USD", help="What --questions may cost; needs cloud_usd."),
    ] = None,
    min_quality: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least share of right answers, 0 to 1.")
    ] = None,
    questions: Annotated[
        int | None,
        typer.Option(min=1, help="How many --limit-usd is for; as many as FILE has if not given."),
    ] = None,
    after_edge: Annotated[
        bool,
        typer.Option(
            "--after-edge",
            help="For decisions made once the edge has answered: the point of a verifier.",
        ),
    ] = False,
    embeddings: Spec = None,
    embeddings_cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Pick the operating point on questions that the router was not trained on, and write it.

    Questions that it was trained on are left out.
    """
    from langchain_hybridflow.learning import load_dataset, load_router
    from langchain_hybridflow.learning import tune as pick

    given = {
        "--target-share": target_share,
        "--limit-usd": limit_usd,
        "--min-quality": min_quality,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    if len(wanted) != 1:
        raise ConfigurationError("Give one of --target-share, --limit-usd and --min-quality.")
    saved, every = load_router(directory), load_dataset(data)
    held_out = _held_out(saved, every)
    point = pick(
        saved.predictor,
        held_out,
        after_edge=after_edge,
        embedded=embedded_for(saved.predictor, embeddings, held_out, embeddings_cache),
        target_share=target_share,
        usd_per_question=None if limit_usd is None else limit_usd / (questions or len(every)),
        min_quality=min_quality,
    )
    ((name, value),) = wanted.items()
    how = {"by": f"{name} {value:g}", "data": data.name, **point.as_dict()}
    del how["min_gain"]
    with writing(directory):
        saved.tuned(point.min_gain, how, after_edge=after_edge).save(directory)
    if as_json:
        print_json(point.as_dict())
    else:
        _show_point(point, questions)


def _held_out(saved: SavedRouter, data: Dataset) -> Dataset:
    import numpy as np

    unseen = saved.unseen(data)
    seen = len(data) - int(unseen.sum())
    if seen:
        say_error(f"Note: {seen:,} of {len(data):,} questions were in the training data: left out.")
    return data.take(np.flatnonzero(unseen)) if seen else data


def _show_point(point: OperatingPoint, questions: int | None) -> None:
    console = screen()
    console.print(
        f"The cloud is asked where the gain is above {point.min_gain:.4f}: "
        f"{point.cloud_share:.1%} of {point.rows:,} held-out questions, and "
        f"{point.accuracy:.1%} of the answers are right."
    )
    if point.usd_per_question is not None:
        count = questions or 1_000
        console.print(f"{count:,} questions cost about ${point.usd_per_question * count:.4f}.")
