"""`hybridflow demo`: the main job on the embedded sandbox, measured, in under a minute."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from langchain_hybridflow.cli.display import print_json, reports_errors

__all__ = ["demo"]

PICTURE = Path("hybridflow-demo.png")


@reports_errors
def demo(
    problems: Annotated[int, typer.Option(min=1, max=10_000, help="How many to answer.")] = 40,
    seed: Annotated[int, typer.Option(help="Other seeds give other problems and errors.")] = 0,
    limit_usd: Annotated[
        str | None,
        typer.Option(
            metavar="USD",
            help="Hard limit of what HybridFlow may spend on all problems; by default a third or "
            "so of what the cloud alone costs.",
        ),
    ] = None,
    time_scale: Annotated[
        float,
        typer.Option(min=0, help="Speed of the models: 1 is real time, 0 does not wait."),
    ] = 0.25,
    at_once: Annotated[
        int, typer.Option(min=1, max=64, help="Problems under way at once, each on its own edge.")
    ] = 8,
    puzzles: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2_000,
            show_default=False,
            help="How many to put to a real small model that asks when it had better; by default "
            "five for each problem. 0 leaves that part out.",
        ),
    ] = None,
    picture: Annotated[Path, typer.Option(help="Where the picture goes.")] = PICTURE,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object instead, and no picture.")
    ] = False,
) -> None:
    """Watch hard questions become plans; offline, no key.

    The same problems are put to the edge model, to the cloud model, and to both together.

    The problems are told in natural language and have exact answers, so accuracy is measured.
    The models are simulated: they see nothing but their prompts, and err as real ones do.

    Then puzzles are put to a real language model on the edge, which says itself when to ask. It is
    small, and comes with this package; it needs the extra `tiny`.
    """
    from langchain_hybridflow.cli.experiment import Experiment, run
    from langchain_hybridflow.cli.selfstage import asking_json

    experiment = Experiment(
        problems=problems,
        seed=seed,
        limit_usd=_limit(limit_usd, problems),
        time_scale=time_scale,
        at_once=at_once,
        puzzles=puzzles,
    )
    if as_json:
        found = run(experiment).to_json()
        print_json(found | {"self_routing": asking_json(experiment.asking)})
        return
    from langchain_hybridflow.cli.stage import present

    present(experiment, picture=picture)


def _limit(given: str | None, problems: int) -> Decimal:
    """The limit in USD; one problem alone needs room for the worst case of its parallel calls."""
    from langchain_hybridflow.budget import Limits

    if given is not None:
        limit: Any = Limits(usd=given).usd
        return Decimal(limit)
    return max(Decimal("0.02"), problems * Decimal("0.0025"))
