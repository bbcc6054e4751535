"""`hybridflow report`: runs, or evaluations of routers, as one HTML file."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_hybridflow.cli.display import hide_keys, one_line, reports_errors, say_error
from langchain_hybridflow.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from langchain_hybridflow.report import Run

__all__ = ["check_writable", "report", "save_page", "save_run"]

_STDIN = "-"


@reports_errors
def report(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help="Files of hybridflow ask --run-out or --json, of Run.save, or JSON lines of "
            "many; - is standard input.",
            show_default=False,
        ),
    ] = None,
    *,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Where the page goes.")
    ] = Path("report.html"),
    evaluation: Annotated[
        bool,
        typer.Option(
            "--evaluation",
            help="The files are what hybridflow evaluate or calibrate --json printed.",
        ),
    ] = False,
    title: Annotated[str, typer.Option(help="Of the page.")] = "",
    detailed: Annotated[
        int, typer.Option(min=0, help="How many of several runs are shown in full.")
    ] = 12,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Make one HTML file of runs: the plan, the time, the money, and each decision in words.

    Several runs are compared: grouped by their label, or else by their file, with means and
    intervals, and on the planes of score, cost and time. Evaluations of routers and of signals of
    confidence are drawn together with --evaluation. The page loads nothing from elsewhere.
    """
    if not files:
        raise ConfigurationError(
            "Give the files of runs (hybridflow ask ... --run-out run.json makes one), or with "
            "--evaluation those of evaluations (hybridflow evaluate ... --json > router.json)."
        )
    from langchain_hybridflow.report import evaluation_html, report_html

    check_writable(output)
    if evaluation:
        named = _evaluations(files)
        html = evaluation_html(named, title=title)
        what = f"{len(named):,} evaluation{'s' * (len(named) > 1)}"
    else:
        found = _runs(files)
        html = report_html(found, title=title, detailed=detailed)
        what = f"{len(found):,} run{'s' * (len(found) > 1)}"
    save_page(html, output, what=what, open_it=open_it)


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be made, before anything is done for it.

    Raises:
        ConfigurationError: Its directory is not there, it is a directory itself, it may not be
            written, or its name is none.
    """
    try:
        if path.is_dir():
            raise ConfigurationError(f"{path} is a directory. Give the name of a file in it.")
        if not path.parent.is_dir():
            raise ConfigurationError(f"There is no directory {path.parent}. Make it first.")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise ConfigurationError(f"{path} may not be written. Give another file.")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error


def save_page(html: str, path: Path, *, what: str, open_it: bool = False) -> None:
    """Write a page, and say so on standard error."""
    from langchain_hybridflow.report import write_page

    write_page(html, path)
    size = f"{len(html.encode()) / 1000:,.0f} kB"
    typer.echo(f"{one_line(str(path))}: {what}, {size}", err=True)
    if open_it:
        import webbrowser

        if not webbrowser.open(path.resolve().as_uri()):
            say_error("There is no browser to open it with.")


def save_run(out: dict[str, Any], question: str, path: Path) -> None:
    """Save the run of `hybridflow ask`, without keys.

    Raises:
        InputError: The file cannot be written.
    """
    from langchain_hybridflow.report import Run

    plain = {key: value for key, value in out.items() if key != "messages"}
    run = Run.of(hide_keys(plain), question=hide_keys(question))
    try:
        run.save(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error


def _runs(names: Sequence[str]) -> list[Run]:
    """Read runs; those of several files are told apart by their files, if they have no label."""
    from langchain_hybridflow.report import load_runs

    found: list[Run] = []
    for name in names:
        read = load_runs(sys.stdin if name == _STDIN else name)
        if len(names) > 1:
            stem = "standard input" if name == _STDIN else Path(name).stem
            read = [run if run.label else run.model_copy(update={"label": stem}) for run in read]
        found += read
    return found


def _evaluations(names: Sequence[str]) -> dict[str, Any]:
    """Read evaluations, each under the name of its file."""
    from langchain_hybridflow.report import read_json

    found: dict[str, Any] = {}
    for name in names:
        source = sys.stdin if name == _STDIN else name
        stem = "standard input" if name == _STDIN else Path(name).stem
        for place, value in read_json(source):
            key = f"{stem}{place}"
            found[key if key not in found else f"{key} ({len(found) + 1})"] = value
    return found
