"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer.main

from langchain_hybridflow.cli import app

INTRODUCTION = """\
# Command line

Every command and option of `hybridflow`, as `--help` has them. Keys come from the environment only:
`OPENAI_API_KEY` for `openai:NAME`, `HYBRIDFLOW_API_KEY` for servers given by URL. Errors go to
standard error, with what to do about them, and end with an exit code other than 0.
<!-- made by: python docs/hooks/refresh.py -->
"""


def commands(command: Any = None, path: str = "hybridflow") -> Iterator[tuple[str, Any]]:
    """Yield each command that does something, with its whole name."""
    command = command or typer.main.get_command(app)
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, one in below.items():
        yield from commands(one, f"{path} {name}")


def reference() -> str:
    """Return the page of all commands."""
    described = "\n".join(describe(path, command) for path, command in commands())
    return f"{INTRODUCTION}\n{described}"


def describe(path: str, command: Any) -> str:
    """Describe a command: how it is called, what it does, its arguments and options."""
    with command.context_class(command, info_name=path) as context:
        usage = " ".join([path, *command.collect_usage_pieces(context)])
        records = [
            record
            for parameter in command.params
            if (record := parameter.get_help_record(context)) is not None
        ]
    rows = "\n".join(f"| `{escaped(named(name))}` | {escaped(help_)} |" for name, help_ in records)
    text = "\n".join(line.strip() for line in (command.help or "").splitlines())
    table = f"\n| | |\n|---|---|\n{rows}\n" if rows else ""
    return f"## {path}\n\n```text\n{usage}\n```\n\n{text.strip()}\n{table}"


def named(name: str) -> str:
    """Return an option with the kind of its value, as all releases of Typer would have it."""
    return re.sub(r"<(int|float) range>", r"<\1>", name)


def escaped(text: str) -> str:
    """Keep a text in its cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
