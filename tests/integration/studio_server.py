"""The Studio template in a folder of its own, served by the real `langgraph dev`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.integration.environments import ROOT

__all__ = [
    "Studio",
    "add_blocking_graph",
    "copied_template",
    "running_studio",
    "template_environ",
]

TEMPLATE = ROOT / "templates" / "studio-agent"

_START_S = 90.0
_STOP_S = 20.0
_OWN = (
    *("EDGE_MODELS", "CLOUD_MODELS", "PRICES", "LIMIT_USD", "BUDGET_STORE", "SANDBOX_TIME_SCALE"),
    *("OPENAI_API_KEY", "HYBRIDFLOW_API_KEY"),
)

BLOCKING = """
import time

from langgraph.graph import START, MessagesState, StateGraph


async def wait(state: MessagesState) -> None:
    time.sleep(0.01)


graph = StateGraph(MessagesState).add_node(wait).add_edge(START, "wait").compile()
"""


@dataclass(frozen=True)
class Studio:
    """A running server.

    Attributes:
        url: Where it listens.
        folder: The copy of the template that it serves.
        log: What it says.
    """

    url: str
    folder: Path
    log: Path


def copied_template(folder: Path, *, env: Mapping[str, str] | None = None) -> Path:
    """Copy the template as a user would, with these lines in its `.env`."""
    copy = folder / "my-agent"
    shutil.copytree(
        TEMPLATE, copy, ignore=shutil.ignore_patterns("__pycache__", ".env", ".langgraph_api")
    )
    if env is not None:
        lines = [f"{name}={value}" for name, value in env.items()]
        (copy / ".env").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return copy


def template_environ(copy: Path) -> dict[str, str]:
    """The environment to run the copy in: offline, and nothing of the developer's own.

    The path stands for `pip install --editable .`, which would need the index.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _OWN}
    return {
        **kept,
        "PYTHONPATH": str(copy / "src"),
        "LANGSMITH_TRACING": "false",
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
        "LANGGRAPH_NO_VERSION_CHECK": "true",
        "NO_COLOR": "1",
    }


def add_blocking_graph(copy: Path) -> None:
    """Add a graph that blocks the event loop: the server is to notice that."""
    (copy / "src" / "blocking.py").write_text(BLOCKING, encoding="utf-8")
    config = json.loads((copy / "langgraph.json").read_text(encoding="utf-8"))
    config["graphs"]["blocking"] = "blocking:graph"
    (copy / "langgraph.json").write_text(json.dumps(config), encoding="utf-8")


@contextmanager
def running_studio(python: Path, copy: Path) -> Iterator[Studio]:
    """Run `langgraph dev` on a copy, with the check for blocking calls, until the block ends."""
    port, log = _free_port(), copy.parent / "langgraph-dev.log"
    command = [
        *(str(python), "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload"),
        *("--host", "127.0.0.1", "--port", str(port), "--n-jobs-per-worker", "4"),
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=copy, env=template_environ(copy), stdout=out, stderr=out
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_it_answers(process, url, log)
        yield Studio(url, copy, log)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/ok").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"langgraph dev does not answer:\n{log.read_text(errors='replace')}")
