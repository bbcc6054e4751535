"""The sections of one run: figures, plan, work over time, money, and every decision in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from langchain_hybridflow.report._charts import (
    budget_chart,
    gantt_chart,
    lanes_chart,
    limited,
    price_chart,
)
from langchain_hybridflow.report._diagram import LARGE, plan_diagram
from langchain_hybridflow.report._markup import Html, Node, join, tag
from langchain_hybridflow.report._page import figure, legend, section, tiles
from langchain_hybridflow.report._pieces import PLANNING, Gauge
from langchain_hybridflow.report._svg import inline_svg
from langchain_hybridflow.report._words import (
    decision_words,
    dollars,
    percent,
    seconds,
    wait_s,
    what_happened,
)
from langchain_hybridflow.report.records import SubtaskRun, TierName
from langchain_hybridflow.report.run import Run

__all__ = ["run_sections", "run_tiles"]

_SIGNS: Final = (
    "Thin bar: a verifier looks. Gap: a wait before the same model is asked again. "
    "Triangle: a call was refused."
)
_DECISIONS: Final = "/decisions"  # no id of a subtask has a slash
_TITLES: Final[dict[Gauge, str]] = {
    "usd": "Money",
    "cloud_tokens": "Cloud tokens",
    "cloud_calls": "Cloud calls",
}


def run_tiles(run: Run) -> Html:
    """Return the totals of a run."""
    calls = run.edge.calls + run.cloud.calls
    ok = sum(one.status == "ok" for one in run.subtasks)
    over = run.makespan_s / run.critical_path_s if run.critical_path_s else 0.0
    tokens = f"edge {_count(run.edge)}, cloud {_count(run.cloud)}"
    entries = [
        ("Cost", dollars(run.cost_usd), f"cloud {dollars(run.cloud.cost_usd)}"),
        ("Time", seconds(run.seconds), f"makespan {seconds(run.makespan_s)}"),
        ("Critical path", seconds(run.critical_path_s), f"makespan: {over:.2f} times it"),
        ("Subtasks", f"{len(run.subtasks):,}", f"{ok:,} answered"),
        ("Cloud share", percent(run.cloud_share), "of the answered subtasks"),
        ("Calls", f"{calls:,}", f"edge {run.edge.calls:,}, cloud {run.cloud.calls:,}"),
        ("Tokens", f"{run.tokens:,}", tokens),
    ]
    if run.score is not None:
        entries.append(("Score", f"{run.score:.3g}", "of 1"))
    return tiles(*entries)


def run_sections(run: Run, *, scope: str, end_s: float | None = None) -> Iterator[Html]:
    """Yield the sections of a run.

    Args:
        run: The run.
        scope: Stands before its ids on the page.
        end_s: Where its time axes end; by default where the run does.
    """
    yield section("Answer", *_remarks(run), tag("div", run.answer or "none", class_="answer"))
    yield _plan_section(run, scope)
    yield _time_section(run, scope, end_s)
    yield from _budget_section(run, scope, end_s)
    yield _decisions_section(run, scope)


def _remarks(run: Run) -> Iterator[Html]:
    lost = [one.id for one in run.subtasks if one.status != "ok"]
    if lost:
        names = ", ".join(lost[:20]) + (" …" if len(lost) > 20 else "")
        yield tag("p", f"Without an answer: {names}.", class_="warn")
    degraded = [one.id for one in run.subtasks if one.degraded]
    if degraded:
        names = ", ".join(degraded[:20]) + (" …" if len(degraded) > 20 else "")
        yield tag("p", f"The edge answered although the cloud was wanted: {names}.", class_="warn")


def _plan_section(run: Run, scope: str) -> Html:
    large = len(run.subtasks) > LARGE
    made = f" Made by: {run.planning.source}." if run.planning.source else ""
    why = f" {run.planning.reason}." if run.planning.reason else ""
    note = (
        f"{len(run.subtasks)} subtasks; the critical path has {len(run.critical_path)}.{made}{why}"
    )
    marks = [("edge", "edge"), ("cloud", "cloud"), ("critical", "critical path")]
    return section(
        "Plan",
        tag("p", note, class_="note"),
        figure(
            plan_diagram(run, scope=scope),
            "Point at a subtask for its decision; click to go to it."
            + (" Ctrl and the wheel zoom, dragging moves." if large else ""),
            zooms=True,
            label="The plan as a graph",
        ),
        legend(*marks),
    )


def _time_section(run: Run, scope: str, end_s: float | None) -> Html:
    gantt = inline_svg(
        gantt_chart(run, end_s=end_s),
        name=f"{scope}gantt",
        scope=scope,
        label="When each subtask waited and was worked on; the table below has the seconds.",
    )
    lanes = lanes_chart(run, end_s=end_s) if any(one.timeline for one in run.subtasks) else None
    slots: Node = None
    if lanes is not None:
        svg = inline_svg(
            lanes, name=f"{scope}lanes", scope=scope, label="Which slots of each tier were at work."
        )
        slots = join(tag("h3", "The same by slot"), figure(svg, label="Slots over time"))
    return section(
        "Work over time",
        figure(gantt, zooms=len(run.subtasks) > LARGE, label="Work over time"),
        legend(
            ("edge", "edge"),
            ("cloud", "cloud"),
            ("wait", "waits for a slot"),
            ("pale", "failed, or not accepted"),
            ("critical", "critical path"),
        ),
        tag("p", _SIGNS, class_="note"),
        slots,
    )


def _budget_section(run: Run, scope: str, end_s: float | None) -> Iterator[Html]:
    charts = [
        join(
            tag("h3", _TITLES[gauge]),
            figure(
                inline_svg(
                    budget_chart(run, gauge, end_s=end_s),
                    name=f"{scope}{gauge.replace('_', '-')}",
                    scope=scope,
                    label=f"{_TITLES[gauge]}: spent and held over time, against the limit.",
                ),
                label=_TITLES[gauge],
            ),
        )
        for gauge in limited(run)
    ]
    price = price_chart(run, end_s=end_s)
    if charts:
        charts.append(
            legend(
                ("cloud", "spent"),
                ("held", "held for calls under way"),
                ("others", "used by others"),
                ("limit", "limit"),
            )
        )
    if price is not None:
        svg = inline_svg(
            price, name=f"{scope}price", scope=scope, label="The shadow price at each decision."
        )
        charts.append(tag("h3", "Shadow price"))
        charts.append(figure(svg, "What a call had to add in quality for each USD.", label="Price"))
    if charts:
        yield section("Budget", *charts)


def _decisions_section(run: Run, scope: str) -> Html:
    heads = ("Subtask", "Task, decision and answer", "Tier")
    numbers = ("Waited", "Took", "Expected", "On the other tier", "Cost")
    rows = [_planning_row(run, scope)] if run.planning.attempts else []
    rows += [_row(run, one, scope) for one in run.subtasks]
    table = tag(
        "table",
        tag(
            "thead",
            tag(
                "tr",
                *(tag("th", head, scope="col") for head in heads),
                *(tag("th", head, scope="col", class_="n") for head in numbers),
            ),
        ),
        tag("tbody", *rows),
        id=f"{scope}{_DECISIONS}",
        class_="many",
    )
    label = "Show the rows that contain"
    search = tag("input", type="search", placeholder=f"{label} …", aria_label=label)
    actions = tag(
        "div",
        Html(search.removesuffix("</input>")),
        tag("button", "Open or close all", type="button"),
        class_="actions",
        data_for=f"{scope}{_DECISIONS}",
        hidden=True,
    )
    return section("Decisions", actions, tag("div", table, class_="wide"))


def _row(run: Run, one: SubtaskRun, scope: str) -> Html:
    subtask, decision = run.plan[one.id], one.decision
    other: TierName = "edge" if decision and decision.tier == "cloud" else "cloud"
    expected = one.expected_usd
    usd = decision.expected_cost_usd if decision else None
    state = one.tier if one.status == "ok" else one.status
    facts = f"{one.model or 'no model'} · waited {seconds(wait_s(one))} · took "
    facts += f"{seconds(one.end_s - one.start_s)} · {one.input_tokens:,} + {one.output_tokens:,} "
    facts += f"tokens · {dollars(one.cost_usd)}"
    details = tag(
        "details",
        tag("summary", subtask.task),
        tag("p", facts, class_="facts"),
        tag("ul", *(tag("li", words) for words in decision_words(one)), class_="words"),
        tag("ul", *(tag("li", words) for words in what_happened(one)), class_="words"),
        tag("h4", "Answer" if one.answer is not None else "No answer"),
        tag("div", one.answer if one.answer is not None else one.error or "", class_="answer"),
    )
    return tag(
        "tr",
        tag("td", one.id, " ", tag("span", subtask.role.value, class_="note"), class_="id"),
        tag("td", details),
        tag("td", tag("span", _tier_words(one), class_=f"badge {state or ''}")),
        tag("td", seconds(wait_s(one)), class_="n"),
        tag("td", seconds(one.end_s - one.start_s), class_="n"),
        tag("td", dollars(usd) if decision else "", class_="n"),
        tag("td", dollars(expected[other]) if other in expected else "", class_="n"),
        tag("td", dollars(one.cost_usd), class_="n"),
        id=f"{scope}{one.id}",
        data_of=f"{scope}{one.id}",
        data_title=f"{one.id} {subtask.role.value}: {subtask.task[:300]}",
    )


def _planning_row(run: Run, scope: str) -> Html:
    planning = run.planning
    words = [
        f"{one.tier} ({one.model}): {one.status}, {one.input_tokens:,} + {one.output_tokens:,} "
        f"tokens, {dollars(one.cost_usd)}{f': {one.error}' if one.error else ''}."
        for one in planning.attempts
    ]
    times = [moment.at_s for moment in planning.timeline]
    took = seconds(max(times) - min(times)) if times else ""
    costs = [one.cost_usd for one in planning.attempts]
    known = [cost for cost in costs if cost is not None]
    cost = dollars(sum(known)) if len(known) == len(costs) else dollars(None)
    tier = planning.attempts[-1].tier
    details = tag(
        "details",
        tag("summary", f"The plan was made by: {planning.source or 'unknown'}."),
        tag("ul", *(tag("li", one) for one in [*words, planning.reason] if one), class_="words"),
    )
    return tag(
        "tr",
        tag("td", "planning", class_="id"),
        tag("td", details),
        tag("td", tag("span", tier, class_=f"badge {tier}")),
        tag("td", class_="n"),
        tag("td", took, class_="n"),
        tag("td", class_="n"),
        tag("td", class_="n"),
        tag("td", cost, class_="n"),
        id=f"{scope}{PLANNING}",
        data_of=f"{scope}{PLANNING}",
        data_title="Planning",
    )


def _tier_words(one: SubtaskRun) -> str:
    if one.status != "ok":
        return one.status
    notes = {"escalated": one.escalated, "degraded": one.degraded, "kept local": one.kept_local}
    note = ", ".join(name for name, holds in notes.items() if holds)
    return f"{one.tier} ({note})" if note else one.tier or ""


def _count(tier: object) -> str:
    inputs, outputs = getattr(tier, "input_tokens", 0), getattr(tier, "output_tokens", 0)
    return f"{inputs + outputs:,}"
