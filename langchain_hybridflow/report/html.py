"""The report: one or more runs as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from langchain_hybridflow.errors import ConfigurationError, InputError
from langchain_hybridflow.report._comparing import comparison, grouped
from langchain_hybridflow.report._markup import Html, tag
from langchain_hybridflow.report._page import page
from langchain_hybridflow.report._sections import run_sections, run_tiles
from langchain_hybridflow.report._words import dollars, seconds, title_of
from langchain_hybridflow.report.run import Run

__all__ = ["report_html", "write_page"]

_SIDE_BY_SIDE: Final = 4


def report_html(runs: Sequence[Run], *, title: str = "", detailed: int = 12) -> str:
    """Draw runs as one HTML page that loads nothing from elsewhere.

    One run is shown in full: the plan with tiers and critical path, when each subtask waited and
    was worked on, the budget over time, and each decision in words. Several are compared first:
    by group of the same label, and on the planes of score, cost and time.

    Args:
        runs: At least one.
        title: Of the page; by default the label or the question.
        detailed: How many of several runs are shown in full as well.

    Raises:
        ConfigurationError: There are no runs.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> from langchain_hybridflow import HybridFlowGraph, RoutedChatModel
        >>> from langchain_hybridflow.report import Run
        >>> from langchain_hybridflow.sandbox import sandbox_cloud, sandbox_edge
        >>> model = RoutedChatModel(
        ...     edge=sandbox_edge(time_scale=0), cloud=sandbox_cloud(time_scale=0)
        ... )
        >>> out = HybridFlowGraph(model).compile().invoke({"messages": [("user", "Why?")]})
        >>> report_html([Run.of(out)])[:15]
        '<!doctype html>'
    """
    if not runs:
        raise ConfigurationError("A report needs at least one run.")
    if len(runs) == 1:
        return _of_one(runs[0], title)
    return _of_many(runs, title or _names(runs), detailed)


def write_page(html: str, path: str | Path) -> None:
    """Write a page to a file.

    Raises:
        InputError: The file cannot be written.
    """
    try:
        Path(path).write_text(html, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error


def _of_one(run: Run, title: str) -> str:
    title = title or title_of(run)
    asked = tag("p", run.question, class_="question") if run.question else None
    header = tag("header", tag("p", _when(run), class_="kicker"), tag("h1", title), asked)
    main = tag("main", run_tiles(run), *run_sections(run, scope="s-"))
    return page(title, header, main, _footer())


def _of_many(runs: Sequence[Run], title: str, detailed: int) -> str:
    shown = list(runs[:detailed])
    # Few runs have the same time axis, so that they can be compared with eyes.
    end_s = max(run.seconds for run in shown) if len(runs) <= _SIDE_BY_SIDE and shown else None
    parts = [_part(place, run, end_s) for place, run in enumerate(shown)]
    left_out = len(runs) - len(shown)
    note = f"{left_out:,} more runs are in the table only." if left_out else None
    header = tag("header", tag("p", "Runs compared", class_="kicker"), tag("h1", title))
    main = tag("main", *comparison(runs, detailed=len(shown)), *parts, tag("p", note))
    return page(title, header, main, _footer())


def _part(place: int, run: Run, end_s: float | None) -> Html:
    facts = f"{dollars(run.cost_usd)} · {seconds(run.seconds)}"
    return tag(
        "details",
        tag("summary", f"{place + 1}  {title_of(run)}", tag("small", facts)),
        tag("p", run.question, class_="question"),
        run_tiles(run),
        *run_sections(run, scope=f"s{place}-", end_s=end_s),
        class_="run",
        id=f"of-{place}",
    )


def _names(runs: Sequence[Run]) -> str:
    labels = [label for label in grouped(runs) if label != "no label"]
    if not 1 < len(labels) <= _SIDE_BY_SIDE:
        return f"{len(runs):,} runs"
    return f"{len(runs):,} runs: {', '.join(labels)}"


def _when(run: Run) -> str:
    if run.started_at is None:
        return "Run"
    try:
        began = datetime.fromtimestamp(run.started_at, UTC)
    except (OverflowError, OSError, ValueError):
        return "Run"
    return f"Run of {began:%Y-%m-%d %H:%M:%S} UTC"


def _footer() -> Html:
    return tag("footer", "Made by hybridflow report. This page loads nothing from elsewhere.")
