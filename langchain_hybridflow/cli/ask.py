"""`hybridflow ask`: a question for two models of the user's own choice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_hybridflow.budget.share import SHARE_BURST
from langchain_hybridflow.cli.display import (
    FAILED,
    INTERRUPTED,
    dollars,
    hide_keys,
    print_json,
    reports_errors,
    say_error,
    screen,
    visible,
)
from langchain_hybridflow.cli.live import Progress
from langchain_hybridflow.cli.models import FORMS, ModelSpec, read_prices
from langchain_hybridflow.cli.report import check_writable, save_run
from langchain_hybridflow.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from langchain_hybridflow.cli.session import Session

__all__ = ["ask", "read_question"]

Question = Annotated[
    str | None, typer.Argument(help="The question; read from standard input if it is not given.")
]


ROUTERS = ("default", "difficulty", "threshold", "self", "always-edge", "always-cloud", "random")
"""The routing policies that can be chosen by name."""


@reports_errors
def ask(
    question: Question = None,
    *,
    edge: Annotated[str, typer.Option(metavar="MODEL", help=f"The cheap model: {FORMS}.")],
    cloud: Annotated[str, typer.Option(metavar="MODEL", help="The expensive model, likewise.")],
    limit_usd: Annotated[
        str | None, typer.Option(metavar="USD", help="Hard limit of what it may cost.")
    ] = None,
    max_cloud_tokens: Annotated[
        int | None, typer.Option(min=0, help="Hard limit of prompt and answer tokens.")
    ] = None,
    max_cloud_calls: Annotated[int | None, typer.Option(min=0, help="Hard limit.")] = None,
    max_cloud_share: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE", help="Hard limit of the share of subtasks, in 0..1, in the cloud."
        ),
    ] = None,
    share_burst: Annotated[
        int, typer.Option(min=1, help="Cloud calls in a row that the share allows.")
    ] = SHARE_BURST,
    deadline_s: Annotated[float | None, typer.Option(help="Seconds for the whole run.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds for each model call.")] = 120.0,
    router: Annotated[
        str,
        typer.Option(
            metavar="NAME|DIR",
            help=f"Who decides the tier of a subtask: {', '.join(ROUTERS)}, or the directory of "
            f"a router that hybridflow train has made.",
        ),
    ] = "default",
    planner: Annotated[
        str,
        typer.Option(
            metavar="auto|always|MODEL",
            help="Who plans: the edge model, unless the question is trivial (auto) or always; "
            "or another model.",
        ),
    ] = "auto",
    price: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=IN,OUT", help="USD per million tokens; may be repeated."),
    ] = None,
    edge_slots: Annotated[int, typer.Option(min=1, help="Edge calls at once.")] = 1,
    cloud_slots: Annotated[int, typer.Option(min=1, help="Cloud calls at once.")] = 8,
    time_scale: Annotated[
        float, typer.Option(min=0, help="Speed of sandbox models: 1 is real time, 0 no waiting.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Of sandbox models and random routers.")] = 0,
    approve_cloud: Annotated[
        bool, typer.Option("--approve-cloud", help="Ask before each cloud call.")
    ] = False,
    progress: Annotated[
        Progress,
        typer.Option(
            help="What happens, on standard error: drawn live, told in lines, or not at all. "
            "auto draws on a terminal, and is quiet elsewhere."
        ),
    ] = Progress.AUTO,
    run_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save the run for hybridflow report."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """Answer a question with two models of your own.

    Its subtasks go to the edge or the cloud, under a hard budget.

    API keys come from the environment only: OPENAI_API_KEY for openai:..., HYBRIDFLOW_API_KEY
    for servers given by URL. The answer goes to standard output.
    """
    text = read_question(question)
    if run_out is not None:
        check_writable(run_out)
    from langchain_hybridflow.cli.session import Session

    if approve_cloud and (as_json or not sys.stdin.isatty()):
        raise ConfigurationError(
            "--approve-cloud asks a person: it needs a terminal, and it does not go with --json."
        )
    session = Session.build(
        edge=ModelSpec.parse(edge),
        cloud=ModelSpec.parse(cloud),
        planner=planner,
        router=router,
        limits={
            "limit_usd": limit_usd,
            "max_cloud_tokens": max_cloud_tokens,
            "max_cloud_calls": max_cloud_calls,
            "max_cloud_share": max_cloud_share,
            "share_burst": share_burst,
            "deadline_s": deadline_s,
        },
        prices=read_prices(price or ()),
        edge_slots=edge_slots,
        cloud_slots=cloud_slots,
        timeout_s=timeout_s,
        time_scale=time_scale,
        seed=seed,
        approve_cloud=approve_cloud,
    )
    try:
        session.run(text, progress=Progress.NONE if as_json else progress.settled())
    except (KeyboardInterrupt, typer.Abort):
        booked = dollars(session.budget.snapshot()["usd"]["spent"])
        say_error(f"Interrupted. Booked so far: {booked}, with what was under way at its worst.")
        raise typer.Exit(INTERRUPTED) from None
    found = session.findings()
    try:
        if run_out is not None:
            save_run(session.out, text, run_out)
    finally:  # the answer is paid for: a disk that is full does not take it away
        if as_json:
            print_json(found)
        else:
            _show(session, found)
    if not found["complete"]:
        raise typer.Exit(FAILED)


def read_question(given: str | None) -> str:
    """Return the question, from standard input if there is none on the command line.

    Raises:
        InputError: There is none, or it is empty.
    """
    if given is None:
        if sys.stdin is None or sys.stdin.isatty():
            raise InputError(
                "There is no question. Give it as an argument in quotes, or pipe it in."
            )
        given = sys.stdin.read()
    if not given.strip():
        raise InputError("The question is empty.")
    return given


def _show(session: Session, found: dict[str, Any]) -> None:
    console = screen()
    console.print(session.view)
    console.print()
    for line in hide_keys(found["answer"]).splitlines():
        console.print(visible(line), soft_wrap=True)
    console.print()
    edge, cloud = found["totals"]["edge"], found["totals"]["cloud"]
    limit = found["budget"]["usd"]["limit"]
    of_limit = "" if limit is None else f" of {dollars(limit)}"
    tokens = cloud["input_tokens"] + cloud["output_tokens"]
    console.print(
        f"{dollars(found['cost_usd'])}{of_limit} · {found['seconds']:.1f} s · "
        f"edge calls: {edge['calls']} · cloud calls: {cloud['calls']} ({tokens:,} tokens)",
        style="bold",
    )
    if found["degraded"]:
        console.print("Where the cloud was refused, the edge answered.")
