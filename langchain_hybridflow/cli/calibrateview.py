"""What is seen of a calibration: a bar while the model is asked, and figures at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_hybridflow.cli.display import dollars
from langchain_hybridflow.cli.figures import PLAIN
from langchain_hybridflow.cli.profilerun import RunView

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, TaskID
    from rich.table import Table

    from langchain_hybridflow.learning.confidence_report import ConfidenceReport
    from langchain_hybridflow.profiling import Collected
    from langchain_hybridflow.profiling.collecting import Collector

__all__ = ["CollectView", "figures_of", "how_to_go_on", "sentence_of"]


class CollectView(RunView):
    """A bar for the edge."""

    def __init__(self) -> None:
        super().__init__()
        self._task: TaskID | None = None

    def columns(self) -> tuple[ProgressColumn, ...]:
        """What the bar shows."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        return (
            TextColumn("{task.description:5}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )

    def begin(self, collector: Collector) -> None:
        """Take Ctrl-C over, from within the event loop of the run."""

        def stop() -> str:
            collector.ask_to_stop()
            return f"{collector.under_way} questions are under way and"

        self.take_ctrl_c(is_stopping=lambda: collector.stop is not None, stop=stop)

    def follow(self, collector: Collector) -> None:
        """Move the bar."""
        if self.bars is None:
            return
        notes = [f"{collector.failed} failed"] if collector.failed else []
        notes.append(dollars(collector.store.spent_usd))
        if self._task is None:
            self._task = self.bars.add_task("edge", note="")
        self.bars.update(
            self._task, total=collector.total, completed=collector.done, note=", ".join(notes)
        )


def how_to_go_on(found: Collected) -> str:
    """Say why something is missing, and what to do about it."""
    missing = f"{found.missing:,} of {found.questions:,} answers are missing or have no label yet"
    again = (
        f"Repeat the command to go on: nothing is bought twice. To calibrate on what is there: "
        f"hybridflow calibrate --runs {found.table.parent} ..."
    )
    stop = found.stop
    if stop is None:
        return f"{missing}, because calls failed. {again}"
    if stop.kind == "asked":
        return f"Interrupted: {missing}. {again}"
    if stop.kind == "failures":
        who = f"the {stop.tier}" if stop.tier else "the scorer"
        return f"Stopped, because {who} kept failing: {stop.cause}\n{missing}. Mend it. {again}"
    return f"Stopped by the budget: {stop.cause}\n{missing}. Give a higher --limit-usd. {again}"


def figures_of(report: ConfidenceReport) -> Table:
    """Show the figures of a signal."""
    from rich.table import Table

    table = Table(show_header=False, **PLAIN)
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("")
    rows = (
        ("answers", f"{report.rows:,}", f"{report.missing:,} without a score"),
        ("right", f"{report.accuracy:.1%}", "of those with one"),
        ("AUROC", _written(report.auroc), "tells right from wrong; chance has 0.5"),
        (
            "AURC",
            _written(report.aurc),
            f"risk over all coverages; oracle {report.aurc_oracle:.3f}",
        ),
        ("ECE", _written(report.ece), f"cross-fitted; chance alone {report.ece_noise:.3f}"),
        ("Brier", _written(report.brier), "cross-fitted"),
    )
    for row in rows:
        table.add_row(*row)
    return table


def sentence_of(report: ConfidenceReport) -> str:
    """Say where the calibrator operates."""
    share = (
        f"{report.cloud_share:.1%} of the answers go to the cloud (on new questions "
        f"{report.cloud_share_low:.1%} to {report.cloud_share_high:.1%})"
    )
    if report.kept_risk is None or report.kept_risk_low is None or report.kept_risk_high is None:
        return f"{share}; none is kept."
    kept = f"{report.kept_risk:.1%} ({report.kept_risk_low:.1%} to {report.kept_risk_high:.1%})"
    least = "" if report.min_probability is None else f" from P(right) {report.min_probability:.3f}"
    return f"{share}. Kept{least} on: {kept} of those are wrong; of all {1 - report.accuracy:.1%}."


def _written(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
