"""A plan as text: for people (tree, HTML), for documents (Mermaid), and for planners (XML)."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Final

from langchain_hybridflow.plan._text import escape_attribute
from langchain_hybridflow.plan.models import Plan
from langchain_hybridflow.plan.subtask import Subtask

__all__ = ["plan_to_xml", "to_html", "to_mermaid", "to_tree"]

_LABEL_CHARS: Final = 60
_TREE_CHARS: Final = 100
_CELL_CHARS: Final = 300
_MOST_ROWS: Final = 60
_TIER_STYLES: Final = {
    "edge": "fill:#edf6fc,stroke:#0072b2,color:#1f2937",
    "cloud": "fill:#fef3eb,stroke:#d55e00,color:#1f2937",
}


def plan_to_xml(plan: Plan) -> str:
    """Write a plan as a planner does, one `<Step .../>` a line.

    `parse_plan` reads it back as the same plan; only characters that XML cannot carry (control
    characters) become U+FFFD.

    Example:
        >>> plan = Plan(subtasks=[Subtask(id="1", task="Is 1 < 2?", role="generate")])
        >>> print(plan_to_xml(plan))
        <Plan>
        <Step ID="1" Role="generate" Task="Is 1 &lt; 2?" Difficulty="5" Token="128" Rely=""/>
        </Plan>
    """
    steps = (
        f'<Step ID="{subtask.id}" Role="{subtask.role.value}" '
        f'Task="{escape_attribute(subtask.task)}" Difficulty="{subtask.difficulty}" '
        f'Token="{subtask.expected_output_tokens}" Rely="{",".join(subtask.depends_on)}"/>'
        for subtask in plan.subtasks
    )
    return "\n".join(["<Plan>", *steps, "</Plan>"])


def to_tree(plan: Plan) -> str:
    """Draw a plan as indented lines: each subtask one step deeper than what it waits for.

    Example:
        >>> plan = Plan(
        ...     subtasks=[
        ...         Subtask(id="1", task="What is asked?", role="explain"),
        ...         Subtask(id="2", task="Who pays more?", role="generate", depends_on=["1"]),
        ...     ]
        ... )
        >>> print(to_tree(plan))
        1 explain: What is asked?
          2 generate: Who pays more? (after 1)
    """
    depth: dict[str, int] = {}
    lines: list[str] = []
    for subtask_id in plan.order:
        subtask = plan[subtask_id]
        depth[subtask_id] = max((depth[dep] + 1 for dep in subtask.depends_on), default=0)
        after = f" (after {', '.join(subtask.depends_on)})" if subtask.depends_on else ""
        text = _one_line(subtask.task, _TREE_CHARS)
        indent = "  " * depth[subtask_id]
        lines.append(f"{indent}{subtask_id} {subtask.role.value}: {text}{after}")
    return "\n".join(lines)


def to_mermaid(plan: Plan, tiers: Mapping[str, str] | None = None) -> str:
    """Draw a plan as a Mermaid flowchart.

    Task texts are model output: they are shortened and escaped, and node names are not made of
    them.

    Args:
        plan: Any plan.
        tiers: Which tier answered, `"edge"` or `"cloud"`, by subtask id; these nodes are coloured.

    Example:
        >>> plan = Plan(subtasks=[Subtask(id="1", task="Why?", role="generate")])
        >>> print(to_mermaid(plan))
        flowchart TD
            s0["1 generate: Why?"]
    """
    name = {subtask.id: f"s{position}" for position, subtask in enumerate(plan.subtasks)}
    lines = ["flowchart TD"]
    lines += (f'    {name[subtask.id]}["{_label(subtask)}"]' for subtask in plan.subtasks)
    lines += (
        f"    {name[dep]} --> {name[subtask.id]}"
        for subtask in plan.subtasks
        for dep in subtask.depends_on
    )
    for tier, style in _TIER_STYLES.items():
        members = [
            name[key] for key, value in (tiers or {}).items() if value == tier and key in name
        ]
        if members:
            lines.append(f"    classDef {tier} {style}")
            lines.append(f"    class {','.join(members)} {tier}")
    return "\n".join(lines)


def to_html(plan: Plan) -> str:
    """Show a plan as a table for a notebook, in the order in which it can run.

    Task texts are model output: they are shortened and escaped.

    Example:
        >>> html = to_html(Plan(subtasks=[Subtask(id="1", task="Is 1 < 2?", role="generate")]))
        >>> "Is 1 &lt; 2?" in html
        True
    """
    heads = ("Subtask", "Role", "Task", "Needs", "Difficulty")
    rows = []
    for subtask_id in plan.order[:_MOST_ROWS]:
        subtask = plan[subtask_id]
        task, needs = _one_line(subtask.task, _CELL_CHARS), ", ".join(subtask.depends_on)
        cells = (subtask_id, subtask.role.value, task, needs, str(subtask.difficulty))
        rows.append("".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in cells))
    if len(plan) > _MOST_ROWS:
        rows.append(f"<td colspan='{len(heads)}'>{len(plan) - _MOST_ROWS:,} more</td>")
    head = "".join(f"<th style='text-align:left'>{name}</th>" for name in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _label(subtask: Subtask) -> str:
    text = f"{subtask.id} {subtask.role.value}: {_one_line(subtask.task, _LABEL_CHARS)}"
    return "".join(char if _is_plain(char) else f"#{ord(char)};" for char in text)


def _is_plain(char: str) -> bool:
    """Whether Mermaid shows the character as itself within a quoted label."""
    return char.isalnum() or char in " .,:?!-_'()/=+"


def _one_line(text: str, most: int) -> str:
    # Terminals act on control characters, and this is a model's text.
    printable = (char if char.isprintable() else " " for char in text)
    line = " ".join("".join(printable).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
