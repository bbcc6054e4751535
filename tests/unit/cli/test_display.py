"""What every command has in common: errors in one line, no keys, no control characters."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from langchain_hybridflow.cli.display import hide_keys, one_line, reports_errors
from langchain_hybridflow.errors import (
    BudgetExceeded,
    ConfigurationError,
    HybridFlowError,
    InputError,
    MissingExtraError,
    UnknownPriceError,
)

KEY = "hf-canary-0123"


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (ConfigurationError("bad"), 2),
        (InputError("bad"), 2),
        (UnknownPriceError("m"), 2),
        (MissingExtraError("It", "plot"), 1),
        (HybridFlowError("bad"), 1),
        (
            BudgetExceeded(dimension="usd", requested=2, remaining=1, limit=1, scope="run"),
            1,
        ),
        (KeyboardInterrupt(), 130),
    ],
)
def test_error_becomes_one_line_and_an_exit_code(error: BaseException, exit_code: int) -> None:
    app = typer.Typer()

    @app.command()
    @reports_errors
    def fail() -> None:
        raise error

    result = CliRunner().invoke(app)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.stderr.startswith("hybridflow: ")
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_keys_are_blanked_everywhere_in_plain_json() -> None:
    value = {"a": [f"x{KEY}y", {"b": (KEY, 1, None)}]}
    assert hide_keys(value, environ={"SOME_API_KEY": KEY}) == {
        "a": ["x***y", {"b": ["***", 1, None]}]
    }


def test_longer_key_is_blanked_whole_when_another_is_its_beginning() -> None:
    environ = {"A_KEY": KEY, "B_KEY": f"{KEY}-and-more"}
    assert hide_keys(f"{KEY}-and-more", environ=environ) == "***"


def test_key_with_a_line_break_at_its_end_is_blanked() -> None:
    environ = {"HYBRIDFLOW_API_KEY": f"{KEY}\n"}
    assert hide_keys(f"Illegal header value b'Bearer {KEY}\\n'", environ=environ).count(KEY) == 0


def test_what_is_not_a_key_stays() -> None:
    environ = {"PATH": "/usr/bin:/bin", "DUMMY_API_KEY": "none"}
    assert hide_keys("none in /usr/bin:/bin", environ=environ) == "none in /usr/bin:/bin"


def test_one_line_disarms_terminal_escapes() -> None:
    assert one_line("a\x1b]0;owned\x07\r\nb\u2028c\x9b2J") == "a ]0;owned b c 2J"
