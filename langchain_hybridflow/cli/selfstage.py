"""What the demo shows of its second experiment: what the edge thought, and what asking is worth."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.cli.display import dollars, one_line
from langchain_hybridflow.cli.planview import last_line
from langchain_hybridflow.cli.selftrial import (
    ASKING_APPROACHES,
    AskingExperiment,
    AskingFindings,
    Shown,
    run_asking,
)
from langchain_hybridflow.cli.trials import interval
from langchain_hybridflow.errors import ArtifactError, MissingExtraError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["asking_json", "present_asking"]

# The random offload is made up of what the models answered alone.
_RUN = tuple(name for name in ASKING_APPROACHES if name != "random offload")
_MOST_CHARS = 200


def asking_json(experiment: AskingExperiment) -> dict[str, Any] | None:
    """Do the experiment; its figures, or why there are none. `None` if it is not wanted."""
    if not experiment.puzzles:
        return None
    try:
        return run_asking(experiment).to_json()
    except (ArtifactError, MissingExtraError) as error:
        return {"left_out": str(error)}


def present_asking(console: Console, experiment: AskingExperiment, *, live: bool) -> None:
    """Do the experiment and show it; without the extra, say in a line what is missing."""
    if not experiment.puzzles:
        return
    try:
        with _progress(console, experiment, live=live) as on_progress:
            findings = run_asking(experiment, on_progress=on_progress)
    except (ArtifactError, MissingExtraError) as error:
        console.print(f"Left out: a real small model that asks for help. {error}", soft_wrap=True)
        return
    console.print()
    console.print("A real language model on the edge, which says itself when to ask", style="bold")
    console.print(
        "It has about a million parameters and was trained on such puzzles: it generates its "
        "tokens here and now, and errs as it does. The cloud is the simulated one.\n"
    )
    for shown in findings.shown:
        _show(console, shown)
    console.print(_table(findings))
    console.print()
    for line in _remarks(findings):
        console.print(line, style="dim")
    console.print()


@contextlib.contextmanager
def _progress(
    console: Console, experiment: AskingExperiment, *, live: bool
) -> Iterator[Callable[[str], None]]:
    """Show a bar for each approach; nothing where nobody watches."""
    if not live:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=40), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bars = {
            name: progress.add_task(name.ljust(len("cloud only")), total=experiment.puzzles)
            for name in _RUN
        }
        yield lambda name: progress.advance(bars[name])


def _show(console: Console, shown: Shown) -> None:
    from rich.text import Text

    # Text, not markup: brackets belong to what the models wrote.
    lines = [f"thinks:  {one_line(shown.edge.thinking, most=_MOST_CHARS)}"]
    verdict = "right" if shown.correct else "wrong"
    if shown.cloud is None:
        lines.append(f"answers: {one_line(shown.edge.answer or 'nothing')} ({verdict})")
    else:
        lines.append("asks for help")
        lines.append(f"cloud:   {one_line(last_line(shown.cloud))} ({verdict})")
    console.print(Text(shown.puzzle.question))
    for line in lines:
        console.print(Text(f"  {line}"))
    console.print()


def _table(findings: AskingFindings) -> Table:
    from rich.table import Table

    table = Table(
        title=f"{findings.experiment.puzzles} puzzles",
        box=None,
        title_justify="left",
        title_style="bold",
    )
    table.add_column("")
    for heading in ("accuracy", "95% interval", "in the cloud", "seconds", "USD"):
        table.add_column(heading, justify="right")
    for trial in findings.trials:
        low, high = interval(trial.correct, len(trial.outcomes))
        table.add_row(
            trial.name,
            f"{trial.accuracy:.0%}",
            f"{low:.0%}-{high:.0%}".replace("%-", "-"),
            f"{findings.share(trial):.0%}",
            f"{trial.seconds:.1f}",
            dollars(trial.cost_usd),
            style="bold" if trial.name == "SelfRouter" else "",
        )
    return table


def _remarks(findings: AskingFindings) -> Iterator[str]:
    share = findings.share(findings.trials[-1])
    yield "edge only:      the same model, told that no help is to be had"
    yield f"random offload: {share:.0%} of the puzzles go to the cloud, drawn at random"
    yield "SelfRouter:     the edge solves first, then answers or asks"
