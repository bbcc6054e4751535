"""The command line, run in this process: no terminal, no keys, 80 columns."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from langchain_hybridflow.cli import app

Run = Callable[..., Result]


@pytest.fixture
def hybridflow(monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("OPENAI_API_KEY", "HYBRIDFLOW_API_KEY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*args: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, list(args), input=stdin)

    return run
