"""The program itself: help, version, usage errors, and a start that costs nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest
from typer.testing import Result

HEAVY = (
    "langchain_core",
    "langchain_openai",
    "langgraph",
    "matplotlib",
    "numpy",
    "openai",
    "sklearn",
    "uvicorn",
)


def test_help_lists_the_commands(hybridflow: Callable[..., Result]) -> None:
    result = hybridflow("--help")
    assert result.exit_code == 0
    for command in ("demo", "ask", "plan", "train", "evaluate", "router", "sandbox"):
        assert f"  {command} " in result.stdout


def test_version_is_that_of_the_package(hybridflow: Callable[..., Result]) -> None:
    result = hybridflow("--version")
    assert result.stdout == f"hybridflow {version('langchain-hybridflow')}\n"
    assert result.exit_code == 0


@pytest.mark.parametrize(
    "args",
    [
        ("nonsense",),
        ("ask", "?"),
        ("ask", "?", "--edge", "sandbox"),
        ("demo", "--problems", "0"),
        ("demo", "--nonsense"),
        ("train",),
        ("evaluate", "--data", "missing.parquet"),
        ("router", "tune", "missing", "--data", "missing.parquet", "--target-share", "3"),
        ("sandbox", "serve", "--port", "70000"),
        ("sandbox", "serve", "--host", "0.0.0.0"),
    ],
)
def test_misuse_ends_with_exit_code_2(
    hybridflow: Callable[..., Result], args: tuple[str, ...]
) -> None:
    result = hybridflow(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr


@pytest.mark.parametrize(
    "args", [["--help"], ["demo", "--help"], ["ask", "--help"], ["train", "--help"]]
)
def test_help_loads_nothing_heavy(args: list[str]) -> None:
    code = f"""
import sys
from langchain_hybridflow.cli import main
sys.argv = ["hybridflow", *{args!r}]
try:
    main()
finally:
    print(sorted({set(HEAVY)!r} & set(sys.modules)), file=sys.stderr)
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr.strip()) == (0, "[]")
