"""What is seen of a profile: bars while it is being made, and a table at its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.cli.display import dollars, one_line, screen
from langchain_hybridflow.cli.profilerun import RunView
from langchain_hybridflow.profiling import Profile

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, TaskID
    from rich.table import Table

    from langchain_hybridflow.profiling import Progress, Runner
    from langchain_hybridflow.profiling.summary import TierSummary

__all__ = ["ProfileView", "how_to_go_on", "show_profile"]

_MIN_TO_TRAIN = 50
_MOST_CHARS = 160
_WIDEST_NAME = 28


class ProfileView(RunView):
    """A bar for each tier."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks: dict[str, TaskID] = {}

    def columns(self) -> tuple[ProgressColumn, ...]:
        """What each bar shows."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        return (
            TextColumn("{task.description:5}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )

    def begin(self, runner: Runner) -> None:
        """Take Ctrl-C over, from within the event loop of the run."""

        def stop() -> str:
            runner.ask_to_stop()
            return f"{runner.progress.under_way} calls are under way and"

        self.take_ctrl_c(is_stopping=lambda: runner.progress.stopping, stop=stop)

    def follow(self, progress: Progress) -> None:
        """Move the bars."""
        if self.bars is None:
            return
        for tier, one in progress.tiers.items():
            notes = [f"{one.failed} failed"] if one.failed else []
            if tier == "cloud":
                notes += [f"{progress.to_grade} to grade"] if progress.to_grade else []
                notes += [dollars(progress.spent_usd)]
            if tier not in self._tasks:
                self._tasks[tier] = self.bars.add_task(tier, note="")
            self.bars.update(
                self._tasks[tier], total=one.total, completed=one.done, note=", ".join(notes)
            )


def show_profile(found: Profile, next_command: str) -> None:
    """Show the figures, where they are, and what to do with them."""
    console = screen()
    for line in _remarks(found):
        console.print(line, soft_wrap=True)
    console.print(_table(found))
    console.print()
    for line in _comparison(found):
        console.print(line)
    gap = found.summary.gap
    rows = 0 if gap is None else gap.questions
    console.print(f"Outcomes: {found.outcomes} ({_questions(rows)})", soft_wrap=True)
    console.print(f"Answers:  {found.answers}", soft_wrap=True)
    if rows < _MIN_TO_TRAIN:
        console.print(
            f"To learn from, at least {_MIN_TO_TRAIN} questions with both scores are needed, "
            f"1,000 to be of use."
        )
    else:
        console.print(f"Next:     {next_command}", soft_wrap=True, style="bold")


def how_to_go_on(found: Profile) -> str:
    """Say why something is missing, and what to do about it."""
    missing = f"{found.summary.missing:,} answers are missing or have no score yet"
    again = "Repeat the command to go on: nothing is bought twice."
    stop = found.stop
    if stop is None:
        return f"{missing}, because calls failed. {again}"
    if stop.kind == "asked":
        return f"Interrupted: {missing}. {again}"
    if stop.kind == "failures":
        who = f"the {stop.tier}" if stop.tier else "the scorer"
        return f"Stopped, because {who} kept failing: {stop.cause}\n{missing}. Mend it. {again}"
    usd = found.budget["usd"]
    spent, limit, held = (dollars(usd[name]) for name in ("spent", "limit", "held"))
    also = f" (and {held} held for calls of a run that was killed)" if usd["held"] else ""
    return (
        f"Stopped, because the budget has too little left for another call of the {stop.tier}: "
        f"{spent} of {limit} are spent{also}. {missing}. Repeat the command with a higher "
        f"--limit-usd to go on: nothing is bought twice."
    )


def _questions(count: int) -> str:
    return f"{count:,} question{'' if count == 1 else 's'}"


def _table(found: Profile) -> Table:
    from rich.table import Table

    table = Table(box=None)
    table.add_column("")
    tiers = found.summary.tiers
    for tier in tiers:
        table.add_column(tier, justify="right")
    for name in ("accuracy", "95 % interval", "tokens an answer", "seconds an answer"):
        table.add_row(name, *(_figure(name, one) for one in tiers.values()))
    table.add_row("USD altogether", *(dollars(one.usd) for one in tiers.values()))
    for name in ("model", "scored", "unscored", "failed", "missing"):
        shown = [one_line(str(getattr(one, name)), most=_WIDEST_NAME) for one in tiers.values()]
        if name in ("model", "scored") or any(value != "0" for value in shown):
            table.add_row(name, *shown)
    return table


def _figure(name: str, tier: TierSummary) -> str:
    """Write a figure of a tier; what nobody knows is a dash."""
    value: Any = {
        "accuracy": tier.accuracy,
        "95 % interval": tier.interval,
        "tokens an answer": tier.output_tokens,
        "seconds an answer": tier.seconds,
    }[name]
    if value is None:
        return "-"
    if name == "accuracy":
        return f"{value:.1%}"
    if name == "95 % interval":
        return f"{value[0]:.1%} to {value[1]:.1%}"
    return f"{value:,.0f}" if name == "tokens an answer" else f"{value:.2g}"


def _comparison(found: Profile) -> Iterator[str]:
    gap = found.summary.gap
    if gap is None:
        yield "No question has a score of both tiers yet."
        return
    low, high = gap.interval
    around = f"({low:+.1%} to {high:+.1%})"
    yield f"The cloud adds {gap.mean:+.1%} {around} on {_questions(gap.questions)}."
    yield (
        f"Right: both {gap.both:.1%}, only the cloud {gap.only_cloud:.1%}, only the edge "
        f"{gap.only_edge:.1%}, neither {gap.neither:.1%}."
    )


def _remarks(found: Profile) -> Iterator[str]:
    yield from (f"Note: {one_line(note)}" for note in found.notes)
    if found.summary.judged:
        yield "Note: a model gave the scores; they are as good as that model."
    for tier, one in found.summary.tiers.items():
        if one.truncated:
            yield (
                f"Note: {one.truncated:,} answers of the {tier} were cut off at --max-tokens; "
                f"give it more."
            )
        if one.unscored and one.common_reason:
            reason = one_line(one.common_reason, most=_MOST_CHARS)
            yield f"Note: {one.unscored:,} answers of the {tier} have no score, mostly: {reason}"
        if one.failed and one.common_error:
            error = one_line(one.common_error, most=_MOST_CHARS)
            yield f"Note: {one.failed:,} calls of the {tier} failed, mostly: {error}"
