"""`hybridflow plan`: what a question would be divided into."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from langchain_hybridflow.cli.ask import Question, read_question
from langchain_hybridflow.cli.display import FAILED, print_json, reports_errors, say_error, screen
from langchain_hybridflow.cli.models import FORMS, ModelSpec
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["plan"]


@reports_errors
def plan(
    question: Question = None,
    planner: Annotated[str, typer.Option(metavar="MODEL", help=f"Who plans: {FORMS}.")] = "sandbox",
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a Mermaid flowchart.")] = False,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="As a picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    max_subtasks: Annotated[int, typer.Option(min=2, help="The most a plan may have.")] = 6,
    timeout_s: Annotated[float, typer.Option(help="Seconds for the planner.")] = 120.0,
) -> None:
    """Show the plan of a question, and stop there.

    The sandbox's planner reads the sandbox's kind of problems only. For others name a real model:
    --planner openai:gpt-4.1-mini, --planner ollama:llama3.2:3b.
    """
    if sum((mermaid, png is not None, as_json)) > 1:
        raise ConfigurationError("Choose one of --mermaid, --png and --json.")
    text = read_question(question)
    from langchain_hybridflow.cli.planning import make_plan

    made, planning = make_plan(
        text,
        model=ModelSpec.parse(planner).build("edge", timeout_s=timeout_s, time_scale=0),
        max_subtasks=max_subtasks,
        timeout_s=timeout_s,
    )
    if as_json:
        from langchain_hybridflow.plan import compression_ratio, critical_path, depth, width

        metrics = {
            "depth": depth(made),
            "width": width(made),
            "critical_path": list(critical_path(made).ids),
            "compression_ratio": compression_ratio(made),
        }
        print_json(made.model_dump(mode="json") | {"metrics": metrics, "planning": planning})
    elif mermaid:
        from langchain_hybridflow.plan import to_mermaid

        typer.echo(to_mermaid(made))
    elif png is not None:
        _save(made, png)
    else:
        from langchain_hybridflow.cli.planview import PlanView

        screen().print(PlanView.of_plan(made.model_dump(mode="json"), title="Plan"))
    if planner == "sandbox" and len(made.subtasks) == 1:
        say_error(
            "The sandbox's planner reads nothing but problems like those of the demo. For others "
            "name a real model with --planner."
        )
    for repair in planning["repairs"]:
        say_error(f"repaired: {repair['message']}")
    if planning["source"] == "fallback":
        say_error(f"No plan could be made: {planning['reason']}.")
        raise typer.Exit(FAILED)


def _save(made: Any, png: Path) -> None:
    from langchain_hybridflow.plan import critical_path
    from langchain_hybridflow.report import plan_figure, save_png

    figure = plan_figure(made, critical=critical_path(made).ids)
    try:
        save_png(figure, png)
    except OSError as error:
        raise ConfigurationError(f"The picture could not be written: {error}") from error
    typer.echo(str(png))
