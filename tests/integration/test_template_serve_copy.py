"""The template as somebody has it who copies it: its own tests, and how it refuses to start."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from tests.integration.serve_server import (
    TEMPLATE,
    TOKENS,
    copied_template,
    headers,
    serve_python,
    started,
)

__all__ = ["serve_python"]


def run(
    python: Path, folder: Path, *command: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in the copied template."""
    given = {f"HYBRIDFLOW_{name}": value for name, value in settings.items()}
    return subprocess.run(
        [str(python), *command],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", **given},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


def test_tests_of_the_template_pass_in_its_copy(serve_python: Path, tmp_path: Path) -> None:
    folder = copied_template(tmp_path)
    found = run(serve_python, folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-1000:]
    assert " passed" in found.stdout


@pytest.mark.parametrize(
    ("options", "settings", "reason"),
    [
        (["--host", "0.0.0.0"], {}, "HYBRIDFLOW_TOKENS"),
        (["--host", "::"], {}, "HYBRIDFLOW_TOKENS"),
        (["--workers", "2"], {"STORE": "memory://"}, "2 workers"),
        ([], {"TOKENS": "no-such-file.json"}, "cannot be read"),
        ([], {"TOKENS": '{"short": {"user": "ada"}}'}, "fewer than 16 characters"),
        ([], {"LIMIT_USD": "much"}, "limit_usd"),
        ([], {"ON_EXHAUSTED": "ask"}, "on_exhausted"),
    ],
)
def test_server_is_not_started_when_that_would_be_unsafe_or_wrong(
    serve_python: Path, tmp_path: Path, options: list[str], settings: dict[str, str], reason: str
) -> None:
    folder = copied_template(tmp_path)
    found = run(serve_python, folder, "-m", "serve_api", *options, **settings)
    assert found.returncode == 1
    assert reason in found.stderr
    assert "Traceback" not in found.stderr


def test_runnable_that_langserve_is_told_of_is_there(serve_python: Path, tmp_path: Path) -> None:
    folder = copied_template(tmp_path)
    told = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["tool"]["langserve"]
    code = f"import {told['export_module']} as m; print(m.{told['export_attr']}.get_name())"
    found = run(serve_python, folder, "-c", code)
    assert found.stdout.strip() == "HybridFlow", found.stderr


def test_package_is_the_one_that_is_tested(serve_python: Path, tmp_path: Path) -> None:
    code = "import importlib.metadata as m; print(m.version('langchain-hybridflow'))"
    found = run(serve_python, tmp_path, "-c", code)
    assert found.stdout.strip() == version("langchain-hybridflow"), sys.executable


def test_metrics_of_all_workers_are_added_up(serve_python: Path, tmp_path: Path) -> None:
    with started(tmp_path, serve_python, "--workers", "2") as server:
        for _ in range(20):  # a connection each, so that both workers get some
            httpx.get(f"{server.url}/v1/models", headers=headers("ada"))
        text = httpx.get(f"{server.url}/metrics", headers=headers("bob")).text
    counted = [line for line in text.splitlines() if 'route="/v1/models"' in line]
    assert any(line.startswith("hybridflow_http_requests_total") for line in counted)
    assert sum(float(line.split()[-1]) for line in counted if "requests_total" in line) == 20
    assert json.dumps(TOKENS["ada"]) not in text
