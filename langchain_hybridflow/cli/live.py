"""A run on the screen while it runs: the plan, and below it time and money."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from langchain_hybridflow.cli.display import dollars, screen
from langchain_hybridflow.cli.planview import PlanView

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

    from langchain_hybridflow.budget import Budget

__all__ = ["LiveRun", "Progress", "drawn_live"]

_REFRESH_PER_S: Final = 8


class Progress(StrEnum):
    """How a run is shown while it runs, on standard error."""

    AUTO = "auto"
    LIVE = "live"
    LINES = "lines"
    NONE = "none"

    def settled(self) -> Progress:
        """Decide what `AUTO` is: drawn on a terminal, line by line on a dumb one, else nothing."""
        if self is not Progress.AUTO:
            return self
        console = screen(stderr=True)
        if not console.is_terminal:
            return Progress.NONE
        return Progress.LINES if console.is_dumb_terminal else Progress.LIVE


@dataclass(slots=True)
class LiveRun:
    """The plan with who does what, drawn to fit the screen, and the state of the run below it.

    It is drawn by another thread than the one that follows the run.

    Attributes:
        view: The plan, which follows the events of the run.
        budget: What may be spent; only this run spends from it.
        clock: Seconds; of what the view's clock is, too.
        started_s: When the run began, by that clock.
    """

    view: PlanView
    budget: Budget
    clock: Callable[[], float] = time.monotonic
    started_s: float = 0.0

    def __post_init__(self) -> None:
        self.started_s = self.clock()

    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self.started_s

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.console import Group
        from rich.segment import SegmentLines

        height = options.max_height - 2  # the line below, and one that stays empty
        try:
            drawn = Group(self.view.fitted(height, width=options.max_width), self.status())
            lines = console.render_lines(drawn, options.update(height=None), pad=False)
        except Exception as error:  # noqa: BLE001 - a picture is no reason to lose a paid answer
            yield f"The run goes on, but cannot be drawn now: {type(error).__name__}."
        else:
            yield SegmentLines(lines, new_lines=True)

    def status(self) -> Text:
        """Say in one line what is done, what it has taken, and what is left."""
        from rich.text import Text

        done, known = self.view.progress()
        elapsed_s = self.elapsed_s()
        facts = [f"{done} of {known} done" if known else "planning"]
        facts.append(f"{elapsed_s / (self.view.time_scale or 1.0):.1f} s")
        if self.budget.deadline_s is not None:
            facts.append(f"{max(0.0, self.budget.deadline_s - elapsed_s):.1f} s left")
        usd = self.budget.snapshot()["usd"]
        money = f"spent {dollars(usd['spent'])}"
        if float(usd["held"]):
            money += f" + held {dollars(usd['held'])}"
        if usd["limit"] is not None:
            money += f" of {dollars(usd['limit'])}"
        facts.append(money)
        return Text(" · ".join(facts), style="bold", overflow="ellipsis", no_wrap=True)


@contextmanager
def drawn_live(run: LiveRun, console: Console | None = None) -> Iterator[None]:
    """Draw the run again and again, on standard error if no other console is given.

    Nothing of it stays on the screen in the end.
    """
    from rich.live import Live

    shown = console or screen(stderr=True)
    live = Live(run, console=shown, refresh_per_second=_REFRESH_PER_S, transient=True)
    live.start(refresh=True)
    try:
        yield
    finally:
        with suppress(OSError):  # the terminal has gone; the run need not
            live.stop()
