"""The program `hybridflow`: its commands, and what they have in common."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from langchain_hybridflow.cli.ask import ask
from langchain_hybridflow.cli.budget import budget
from langchain_hybridflow.cli.calibrate import calibrate
from langchain_hybridflow.cli.demo import demo
from langchain_hybridflow.cli.display import INTERRUPTED, say_error
from langchain_hybridflow.cli.evaluate import evaluate
from langchain_hybridflow.cli.plan import plan
from langchain_hybridflow.cli.posttrain import posttrain
from langchain_hybridflow.cli.profile import profile
from langchain_hybridflow.cli.report import report
from langchain_hybridflow.cli.router import router
from langchain_hybridflow.cli.sandbox import sandbox
from langchain_hybridflow.cli.train import train

__all__ = ["app", "main"]

app = typer.Typer(
    name="hybridflow",
    help="Answer hard questions with a cheap edge model and an expensive cloud model, "
    "working together under a hard budget.",
    epilog="Start with: hybridflow demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # they print local variables, and those can hold keys
)
app.command()(demo)
app.command()(ask)
app.command()(plan)
app.command()(profile)
app.command()(train)
app.command()(evaluate)
app.command()(calibrate)
app.command()(posttrain)
app.command()(report)
app.add_typer(sandbox, name="sandbox")
app.add_typer(budget, name="budget")
app.add_typer(router, name="router")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"hybridflow {version('langchain-hybridflow')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="And exit."),
    ] = False,
) -> None:
    """Take the options that stand before the command."""


def main() -> None:
    """Run the command line; this is what `hybridflow` calls."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character shows "?" for it; it is no reason to fail.
            stream.reconfigure(errors="replace")
    try:
        app()
    except KeyboardInterrupt:
        say_error("Interrupted.")
        sys.exit(INTERRUPTED)
