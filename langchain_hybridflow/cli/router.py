"""`hybridflow router show | explain | tune`: what a trained router is, thinks and does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_hybridflow.cli.ask import read_question
from langchain_hybridflow.cli.display import one_line, print_json, reports_errors, say_error, screen
from langchain_hybridflow.cli.evaluate import Data
from langchain_hybridflow.cli.figures import PLAIN, figures_table
from langchain_hybridflow.cli.train import writing
from langchain_hybridflow.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.table import Table

    from langchain_hybridflow.learning import Dataset, Explanation, OperatingPoint, SavedRouter

__all__ = ["router"]

router = typer.Typer(
    help="Routers that hybridflow train has made.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Place = Annotated[
    Path, typer.Argument(metavar="DIR", help="A router of hybridflow train.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@router.command()
@reports_errors
def show(directory: Place, *, as_json: AsJson = False) -> None:
    """Show what a router was trained on, what it reached, and where it operates."""
    from langchain_hybridflow.learning import load_router

    manifest = load_router(directory).manifest.to_json()
    if as_json:
        print_json(manifest)
        return
    console = screen()
    metrics = dict(manifest["metrics"])
    after = {
        key.removeprefix("after_edge_"): metrics.pop(key)
        for key in list(metrics)
        if key.startswith("after_edge_")
    }
    rows = {"before any call": metrics} | ({"once the edge has answered": after} if after else {})
    console.print(figures_table(f"Reached {metrics.get('how', '')}".strip(), rows))
    training = manifest["training_data"] | {"sha256": manifest["training_data_sha256"]}
    for title, facts in (
        ("Trained on", training),
        ("Operating point", manifest["parameters"]),
        ("Made with", manifest["versions"] | {"feature schema": manifest["feature_schema"]}),
    ):
        console.print(f"\n{title}", style="bold")  # a table's own title wraps to its width
        console.print(_facts_table(facts))


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
        return one_line(" ".join(map(str, value))) or "none"
    return one_line(str(value))


@router.command()
@reports_errors
def explain(
    directory: Place,
    question: Annotated[
        str | None,
        typer.Argument(help="The question; read from standard input if it is not given."),
    ] = None,
    *,
    answer: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The edge's answer, if it has answered.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say where a question would go, and which of its features speak for that."""
    text = read_question(question)
    from langchain_hybridflow.learning import LearnedRouter
    from langchain_hybridflow.routing import EdgeAnswer, RouteRequest

    learned = LearnedRouter.load(directory)
    request = RouteRequest(text=text)
    found = learned.explain(request, answer=None if answer is None else EdgeAnswer(text=answer))
    decision = learned.decide(request, found.prediction)
    if as_json:
        print_json(_explanation(found) | {"tier": decision.tier, "threshold": decision.threshold})
        return
    console = screen()
    console.print(f"{decision.tier}: {one_line(decision.reason)}", style="bold", soft_wrap=True)
    console.print(str(found), soft_wrap=True)


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
    point = pick(
        saved.predictor,
        _held_out(saved, every),
        target_share=target_share,
        usd_per_question=None if limit_usd is None else limit_usd / (questions or len(every)),
        min_quality=min_quality,
    )
    ((name, value),) = wanted.items()
    how = {"by": f"{name} {value:g}", "data": data.name, **point.as_dict()}
    del how["min_gain"]
    with writing(directory):
        saved.tuned(point.min_gain, how).save(directory)
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
