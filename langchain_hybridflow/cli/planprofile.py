"""`hybridflow profile --as subtasks`: both tiers on the subtasks of plans, and what they change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import typer

from langchain_hybridflow.cli.display import (
    FAILED,
    INTERRUPTED,
    dollars,
    one_line,
    print_json,
    say_error,
    screen,
)
from langchain_hybridflow.cli.profilerun import RunView, in_words_of_the_command, next_command
from langchain_hybridflow.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, TaskID
    from rich.table import Table

    from langchain_hybridflow.profiling.credit import CreditDesign
    from langchain_hybridflow.profiling.plans import PlanProgress, PlanRunner, SubtaskProfile

__all__ = ["credit_design", "profile_subtasks"]

_MIN_TO_TRAIN = 50
_MOST_REASONS = 6
_WORDS = {
    "runs": "planning and answering the questions",
    "tiers": "asking the other tier, too",
    "trials": "changing one subtask's tier at a time",
}
_PURPOSES = {
    "recorded": "answered before, by the recorded runs",
    "run": "to answer the questions",
    "other tier": "of the other tier, in the same context",
    "credit": "for trials",
}


def credit_design(
    *, wanted: bool, samples: int | None, share: float | None, seed: int
) -> CreditDesign | None:
    """Return the trials that the command line asks for.

    Raises:
        ConfigurationError: They are ruled out and described at once.
    """
    from langchain_hybridflow.profiling.credit import CreditDesign

    if not wanted:
        if samples is not None or share is not None:
            raise ConfigurationError("--no-credit makes no trials: leave --credit-... out.")
        return None
    design = CreditDesign(share=share, seed=seed)
    return design if samples is None else replace(design, samples=samples)


def profile_subtasks(data: str | None, *, runs: Path | None, as_json: bool, **options: Any) -> None:
    """Profile subtasks and show what came of it; options are those of `aprofile_plans`.

    Raises:
        ConfigurationError: Something cannot work as it was given.
        typer.Exit: Something is missing.
    """
    from langchain_hybridflow.profiling.plans import profile_plans

    with _View() as view, in_words_of_the_command():
        found = profile_plans(
            data, runs=runs, on_start=view.begin, on_progress=view.follow, **options
        )
    following = next_command(found.outcomes)
    if as_json:
        print_json(found.to_json() | {"next": following})
    else:
        _show(found, following)
    if not found.is_complete:
        say_error(_how_to_go_on(found))
        stopped = found.stop is not None and found.stop.kind == "asked"
        raise typer.Exit(INTERRUPTED if stopped else FAILED)


class _View(RunView):
    """One bar, for the questions."""

    def __init__(self) -> None:
        super().__init__()
        self._task: TaskID | None = None

    def columns(self) -> tuple[ProgressColumn, ...]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

        return BarColumn(bar_width=30), MofNCompleteColumn(), TextColumn("{task.description}")

    def __enter__(self) -> Self:
        super().__enter__()
        if self.bars is not None:
            self._task = self.bars.add_task("", total=None)
        return self

    def begin(self, runner: PlanRunner) -> None:
        """Take Ctrl-C over, from within the event loop of the run."""

        def stop() -> str:
            runner.ask_to_stop()
            return "Plans under way are"

        self.take_ctrl_c(is_stopping=lambda: runner.stop is not None, stop=stop)

    def follow(self, progress: PlanProgress) -> None:
        """Move the bar."""
        if self.bars is None or self._task is None:
            return
        words = "stopping" if progress.stopping else _WORDS[progress.phase]
        self.bars.update(
            self._task, total=progress.total, completed=progress.done, description=words
        )


def _show(found: SubtaskProfile, following: str) -> None:
    console = screen()
    for note in found.notes:
        console.print(f"Note: {one_line(note)}")
    console.print(_table(found))
    console.print()
    summary = found.summary
    for line in _credits(found):
        console.print(line)
    reasons = sorted(summary.left_out.items(), key=lambda item: -item[1])[:_MOST_REASONS]
    for reason, count in reasons:
        console.print(f"Left out: {count:,} subtasks: {one_line(reason)}")
    for question_id, reason in list(found.failed.items())[:_MOST_REASONS]:
        console.print(
            f"Not run: question {one_line(question_id)}: {one_line(reason)}", soft_wrap=True
        )
    console.print(f"Outcomes: {found.outcomes} ({summary.rows:,} subtasks)", soft_wrap=True)
    console.print(f"Answers:  {found.answers}", soft_wrap=True)
    if summary.rows < _MIN_TO_TRAIN:
        console.print(f"To learn from, at least {_MIN_TO_TRAIN} subtasks are needed.")
    else:
        console.print(f"Next:     {following}", soft_wrap=True, style="bold")


def _table(found: SubtaskProfile) -> Table:
    from rich.table import Table

    summary = found.summary
    table = Table(
        box=None,
        title=f"{summary.plans:,} of {summary.questions:,} questions planned and answered: "
        f"{summary.subtasks:,} subtasks",
        title_justify="left",
    )
    table.add_column("answers bought", justify="right")
    table.add_column("USD", justify="right")
    table.add_column("")
    for purpose, words in _PURPOSES.items():
        if purpose in summary.calls:
            usd = summary.usd[purpose]
            table.add_row(f"{summary.calls[purpose]:,}", dollars(usd), words)
    if summary.planning_usd != 0:
        table.add_row("", dollars(summary.planning_usd), "to plan")
    return table


def _credits(found: SubtaskProfile) -> list[str]:
    summary = found.summary
    if summary.mean_credit is None or summary.mean_se is None:
        if summary.failed_trials:
            return [
                f"All {summary.failed_trials:,} trials failed: without a final answer or score."
            ]
        yet = "yet" if found.stop else "with --no-credit: only the last subtasks have a score"
        return [f"No trials were made {yet}."]
    gain = f"a subtask on the cloud adds {summary.mean_credit:+.1%} to the final score on average"
    error = f"the credit of one has a standard error of {summary.mean_se:.2f}"
    lines = [
        f"{summary.trials:,} trials: {gain}; {error}.",
        f"Credits that are clearly not 0 (95 % intervals): {summary.clear:,}.",
    ]
    if summary.all_cloud_gain is not None:
        lines.append(f"All on the cloud would add {summary.all_cloud_gain:+.1%}.")
    if summary.failed_trials:
        lines.append(f"{summary.failed_trials:,} trials failed: without a final answer or score.")
    return lines


def _how_to_go_on(found: SubtaskProfile) -> str:
    again = "Repeat the command to go on: nothing is bought twice."
    stop = found.stop
    if stop is None:
        return f"Something is missing, because calls or the scorer failed. {again}"
    if stop.kind == "asked":
        return f"Interrupted. {again}"
    if stop.kind == "failures":
        who = "the scorer" if stop.tier is None else f"calls of the {stop.tier}"
        return f"Stopped, because {who} kept failing: {stop.cause}\nMend it. {again}"
    usd = found.budget["usd"]
    spent, limit = dollars(usd["spent"]), dollars(usd["limit"])
    return (
        f"Stopped, because the budget has too little left for another call: {spent} of {limit} are "
        f"spent. What stands in the table is sound, with fewer trials. Repeat the command with a "
        f"higher --limit-usd to go on: nothing is bought twice. Each call holds its longest answer "
        f"while it is under way: a lower --max-tokens holds less."
    )
