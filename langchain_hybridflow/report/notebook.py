"""How a run shows itself in a notebook: compact and static, without a script."""

from __future__ import annotations

from langchain_hybridflow.errors import MissingExtraError
from langchain_hybridflow.report._markup import Html, tag
from langchain_hybridflow.report._page import asset
from langchain_hybridflow.report._words import dollars, percent, seconds, title_of, wait_s
from langchain_hybridflow.report.records import SubtaskRun
from langchain_hybridflow.report.run import Run

__all__ = ["run_html"]

_MOST_ROWS = 30
_MOST_BARS = 60
_MOST_CHARS = 4_000


def run_html(run: Run) -> str:
    """Return a piece of HTML for one cell: answer, totals, a table, and a Gantt chart.

    The chart needs the extra `report`; without it the table has the times.
    """
    facts = " · ".join(
        [
            dollars(run.cost_usd),
            seconds(run.seconds),
            f"{len(run.subtasks)} subtasks",
            f"{percent(run.cloud_share)} cloud",
            f"{run.tokens:,} tokens",
        ]
    )
    style = Html(f"<style>{asset('notebook.css')}</style>")
    return tag(
        "div",
        style,
        tag("strong", title_of(run)),
        tag("div", facts, class_="facts"),
        tag("div", run.answer[:_MOST_CHARS], class_="answer"),
        _chart(run),
        _table(run),
        class_="hybridflow-run",
    )


def _chart(run: Run) -> Html | None:
    if len(run.subtasks) > _MOST_BARS:
        return None
    from langchain_hybridflow.report._charts import gantt_chart
    from langchain_hybridflow.report._svg import inline_svg

    try:
        chart = gantt_chart(run)
    except MissingExtraError:
        return None
    label = "When each subtask waited and was worked on."
    return inline_svg(chart, name="hybridflow-gantt", label=label)


def _table(run: Run) -> Html:
    heads = ("Subtask", "Task", "Tier", "Waited", "Took", "Cost")
    head = tag("thead", tag("tr", *(tag("th", one) for one in heads)))
    rows = [_row(run, one) for one in run.subtasks[:_MOST_ROWS]]
    left_out = len(run.subtasks) - len(rows)
    more = tag("tr", tag("td", f"{left_out:,} more", colspan=6)) if left_out else None
    return tag("table", head, tag("tbody", *rows, more))


def _row(run: Run, one: SubtaskRun) -> Html:
    task = " ".join(run.plan[one.id].task.split())
    return tag(
        "tr",
        tag("td", f"{one.id} {run.plan[one.id].role.value}"),
        tag("td", task[:160] + ("…" if len(task) > 160 else "")),
        tag("td", one.tier if one.status == "ok" else one.status, class_=one.tier),
        tag("td", seconds(wait_s(one)), class_="n"),
        tag("td", seconds(one.end_s - one.start_s), class_="n"),
        tag("td", dollars(one.cost_usd), class_="n"),
    )
