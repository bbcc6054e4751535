"""What the demo puts on the screen: one problem live, the progress, the table, the picture."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.cli.display import dollars, is_interactive, screen
from langchain_hybridflow.cli.experiment import APPROACHES, Experiment, Findings, run
from langchain_hybridflow.cli.live import LiveRun, drawn_live
from langchain_hybridflow.cli.planview import PlanView, last_line
from langchain_hybridflow.cli.selfstage import present_asking
from langchain_hybridflow.cli.trials import World, interval, typical
from langchain_hybridflow.errors import MissingExtraError
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.sandbox import Problem, is_correct

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

    from langchain_hybridflow.graph import HybridFlowGraph

__all__ = ["present"]

_LIMIT_OF_ONE = Decimal("0.02")
_SMALLER = "smaller budgets"
_TABLE: dict[str, Any] = {"box": None, "title_justify": "left", "title_style": "bold"}


@dataclass(slots=True)
class Showpiece:
    """One problem, answered in front of the audience."""

    problem: Problem
    view: PlanView
    out: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def tiers(self) -> dict[str, str]:
        """Who answered which subtask."""
        return {row["id"]: row["tier"] for row in self.out["report"]["subtasks"] if row["tier"]}


def present(experiment: Experiment, *, picture: Path) -> None:
    """Do the experiment and show it."""
    console = screen()
    live = is_interactive(console)
    console.print(
        "A simulated edge model (cheap) and cloud model (strong) work on problems with exact "
        "answers. All of it is offline, and nobody is really paid.\n"
    )
    shown = _show_one(console, experiment, live=live)
    with _progress(console, experiment, live=live) as on_progress:
        findings = run(experiment, on_progress=on_progress)
    console.print(_table(findings))
    console.print()
    for line in _remarks(findings):
        console.print(line, style="dim")
    console.print()
    console.print(_budget_table(findings))
    console.print()
    _draw(console, shown, findings, picture)
    present_asking(console, experiment.asking, live=live)
    console.print(f"The same again:\n  {experiment.command}")
    console.print("Your own models: hybridflow ask --help")


def _show_one(console: Console, experiment: Experiment, *, live: bool) -> Showpiece:
    """Answer one problem at real speed if somebody watches."""
    problem = typical(experiment.questions)
    # Nobody wants to wait for what nobody watches, nor after asking for no waiting.
    time_scale = 1.0 if live and experiment.time_scale else experiment.time_scale
    world = World(seed=experiment.seed, time_scale=time_scale)
    shown = Showpiece(problem, PlanView("Plan", time_scale=time_scale))
    budget = world.budget(_LIMIT_OF_ONE)
    console.print(f"One of {experiment.problems} problems:", style="bold")
    console.print(f"{problem.question}\n")
    if live:
        shown.view.title = "Plan, being written and worked on ..."
        with drawn_live(LiveRun(shown.view, budget), console):
            asyncio.run(_answer(shown, world.flow(budget)))
        shown.view.title = "Plan"
    else:
        asyncio.run(_answer(shown, world.flow(budget)))
    console.print(shown.view)
    right = is_correct(problem, shown.out["answer"])
    totals = shown.out["report"]["totals"]
    console.print(
        f"Answer: {last_line(shown.out['answer'])} ({'right' if right else 'wrong'}; exact is "
        f"{problem.answer}). {shown.seconds:.1f} s, {dollars(totals['cost_usd'])}, "
        f"{totals['cloud']['calls']} of {len(shown.tiers)} subtasks in the cloud.\n"
    )
    return shown


async def _answer(shown: Showpiece, flow: HybridFlowGraph) -> None:
    graph = flow.compile()
    started = time.monotonic()
    question = {"messages": [("user", shown.problem.question)]}
    events: Any = graph.astream(question, stream_mode=["custom", "values"], subgraphs=True)
    async for space, mode, event in events:
        if mode == "custom":
            shown.view.follow(event)
        elif not space:  # the state of the run, not that of a subtask
            shown.out = event
    shown.seconds = (time.monotonic() - started) / (shown.view.time_scale or 1.0)
    shown.view.measure(shown.out["report"])


@contextlib.contextmanager
def _progress(
    console: Console, experiment: Experiment, *, live: bool
) -> Iterator[Callable[[str], None]]:
    """Show a bar for each approach; nothing where nobody watches."""
    if not live:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=40), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bars = {
            name: progress.add_task(name.ljust(len(_SMALLER)), total=experiment.problems)
            for name in APPROACHES
        }
        bars[_SMALLER] = progress.add_task(_SMALLER, total=2 * experiment.problems)
        yield lambda name: progress.advance(bars[name])


def _table(findings: Findings) -> Table:
    from rich.table import Table

    count = findings.experiment.problems
    table = Table(title=f"All {count} problems", **_TABLE)
    table.add_column("")
    for heading in ("accuracy", "correct", "seconds", "cloud calls", "cloud tokens", "USD"):
        table.add_column(heading, justify="right")
    for trial in findings.trials:
        table.add_row(
            trial.name,
            f"{trial.accuracy:.0%}",
            f"{trial.correct}/{count}",
            f"{trial.seconds:.1f}",
            f"{trial.total('cloud_calls')}",
            f"{trial.total('cloud_tokens'):,}",
            dollars(trial.cost_usd),
            style="bold" if trial.name == "HybridFlow" else "",
        )
    return table


def _remarks(findings: Findings) -> Iterator[str]:
    experiment, trials = findings.experiment, findings.trials
    ranges = ", ".join(
        f"{low:.0%}-{high:.0%}"
        for low, high in (interval(trial.correct, experiment.problems) for trial in trials)
    ).replace("%-", "-")
    yield f"accuracy: measured against exact answers; 95% intervals {ranges}"
    yield (
        f"seconds:  mean per problem; models ran at {experiment.time_scale:g} of real time, "
        f"shown at real scale"
        if experiment.time_scale
        else "seconds:  of this package alone; the models did not wait"
    )
    if not findings.seconds_are_honest:
        yield (
            "          this machine was busy, which made HybridFlow look slower; try --at-once 1"
        )


def _budget_table(findings: Findings) -> Table:
    from rich.table import Table

    table = Table(title="The budget is a hard one: the same problems with less money", **_TABLE)
    for heading in ("limit USD", "spent USD", "still held", "calls refused", "accuracy"):
        table.add_column(heading, justify="right")
    for squeeze in findings.squeezes:
        table.add_row(
            dollars(squeeze.limit_usd),
            dollars(squeeze.spent_usd),
            dollars(squeeze.held_usd),
            f"{squeeze.trial.total('refused')}",
            f"{squeeze.trial.accuracy:.0%}",
        )
    return table


def _draw(console: Console, shown: Showpiece, findings: Findings, picture: Path) -> None:
    from langchain_hybridflow.cli.picture import save_picture

    points = [
        {
            "name": trial.name,
            "accuracy": trial.accuracy,
            "usd": float(trial.cost_usd),
            "seconds": trial.seconds,
        }
        for trial in findings.trials
    ]
    try:
        save_picture(
            Plan.model_validate(shown.out["plan"]),
            tiers=shown.tiers,
            critical=shown.out["report"]["critical_path"],
            points=points,  # type: ignore[arg-type]
            path=picture,
        )
    except MissingExtraError as error:
        console.print(str(error))
    except OSError as error:
        console.print(f"The picture could not be written: {error}")
    else:
        console.print(f"Picture: {picture}")
