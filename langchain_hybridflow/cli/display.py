"""What all commands say in the same way: errors, money, and plans with who did what."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import typer

from langchain_hybridflow.errors import (
    ConfigurationError,
    HybridFlowError,
    InputError,
    MissingExtraError,
    UnknownPriceError,
)

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "USAGE",
    "dollars",
    "hide_keys",
    "is_interactive",
    "one_line",
    "print_json",
    "reports_errors",
    "say_error",
    "screen",
    "visible",
]

FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

_MISUSE = (ConfigurationError, InputError, UnknownPriceError)
_KEY_ENDINGS = ("_KEY", "_TOKEN", "_SECRET")
_MIN_KEY_CHARS = 8

P = ParamSpec("P")
T = TypeVar("T")


def screen(*, stderr: bool = False) -> Console:
    """Return a console: colours and movement on a terminal only, plain text elsewhere.

    It follows NO_COLOR, and the width of the terminal.
    """
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def reports_errors(command: Callable[P, T]) -> Callable[P, T]:
    """Let a command end with one clear line and an exit code instead of a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except HybridFlowError as error:
            say_error(str(error))
            misuse = isinstance(error, _MISUSE) and not isinstance(error, MissingExtraError)
            raise typer.Exit(USAGE if misuse else FAILED) from error
        except KeyboardInterrupt:
            say_error("Interrupted.")
            raise typer.Exit(INTERRUPTED) from None

    return run


def say_error(message: str) -> None:
    """Write a message to stderr, without keys and control characters."""
    lines = (one_line(line) for line in hide_keys(message).splitlines())
    typer.echo("hybridflow: " + "\n".join(line for line in lines if line), err=True)


def print_json(value: object) -> None:
    """Write one JSON object to stdout, without keys."""
    typer.echo(json.dumps(hide_keys(value), indent=2, ensure_ascii=False))


def hide_keys(value: Any, *, environ: Mapping[str, str] = os.environ) -> Any:
    """Blank every API key of the environment in a text, or in all texts of plain JSON.

    Servers echo keys in error messages, and those end up in answers, records and logs.

    Example:
        >>> hide_keys(["bad key: hf-12345678"], environ={"HYBRIDFLOW_API_KEY": "hf-12345678"})
        ['bad key: ***']
    """
    # Stripped: a key with a line break at its end is shown by clients in another form.
    texts = (text.strip() for name, text in environ.items() if name.upper().endswith(_KEY_ENDINGS))
    keys = [text for text in texts if len(text) >= _MIN_KEY_CHARS]
    return _without(value, sorted(keys, key=len, reverse=True))


def _without(value: Any, keys: list[str]) -> Any:
    if isinstance(value, str):
        for key in keys:
            value = value.replace(key, "***")
        return value
    if isinstance(value, Mapping):
        return {name: _without(one, keys) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without(one, keys) for one in value]
    return value


def one_line(text: str, most: int | None = None) -> str:
    r"""Put a text on one line, without the control characters that a terminal would obey.

    Example:
        >>> one_line("first\n\x1b[2Jsecond", most=9)
        'first [2…'
    """
    line = " ".join(visible(text).split())
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"


def visible(text: str) -> str:
    r"""Replace each control character by a space: a terminal would obey it, whoever wrote it.

    Example:
        >>> visible("red: \x1b[31m")
        'red:  [31m'
    """
    return "".join(char if char.isprintable() else " " for char in text)


def dollars(usd: str | float | Decimal | None) -> str:
    """Write an amount of USD; what is unknown is called so, not 0.

    Example:
        >>> dollars("0.00187"), dollars(0), dollars(None)
        ('$0.0019', '$0', 'unknown')
    """
    if usd is None:
        return "unknown"
    amount = Decimal(str(usd))
    return f"${amount:.4f}" if amount else "$0"


def is_interactive(console: Console) -> bool:
    """Tell whether somebody watches: only then anything moves."""
    return console.is_terminal and not console.is_dumb_terminal and sys.stdout.isatty()
