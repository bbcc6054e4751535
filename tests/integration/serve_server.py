"""The web service of templates/serve-api, copied out of the repository and really started."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from langchain_hybridflow import Budget
from tests.integration.environments import ROOT, interpreter
from tests.integration.redis_server import free_port

TEMPLATE = ROOT / "templates" / "serve-api"
START_S = 60.0
STOP_S = 30.0

TOKENS = {name: f"{name}-token-0123456789" for name in ("ada", "bob")}


def copied_template(folder: Path) -> Path:
    """The template in a folder of its own, as somebody who copies it has it."""
    ignored = shutil.ignore_patterns("__pycache__", ".pytest_cache", "*.db*")
    return Path(shutil.copytree(TEMPLATE, folder / "app", ignore=ignored))


def headers(user: str | None) -> dict[str, str]:
    """What a request of a user brings."""
    return {"Authorization": f"Bearer {TOKENS[user]}"} if user else {}


class Spent(NamedTuple):
    """What a budget has spent and holds, in USD, and how many calls to the cloud it has booked."""

    usd: Decimal
    held: Decimal
    calls: int


class ServeServer:
    """A running server.

    Args:
        folder: The copied template; the budget and the log are there, too.
        python: The interpreter that runs it.
        settings: Its environment variables, without `HYBRIDFLOW_`.
        options: More of its command line.
    """

    def __init__(
        self, folder: Path, python: Path, settings: Mapping[str, object], *options: str
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self._command = [str(python), "-m", "serve_api", "--port", str(self.port), *options]
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environ(self) -> dict[str, str]:
        usual = {"SANDBOX_TIME_SCALE": 0, "REQUESTS_PER_MINUTE": 1_000_000}
        given = {f"HYBRIDFLOW_{name}": str(it) for name, it in {**usual, **self._settings}.items()}
        clean = {name: it for name, it in os.environ.items() if not name.startswith("HYBRIDFLOW")}
        return {**clean, **given, "PYTHONUNBUFFERED": "1"}

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"The server did not start:\n{self.said()[-3000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def said(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(errors="replace")

    def terminate(self) -> None:
        """Ask it to stop, as a service manager does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait until it has stopped; returns its exit status."""
        assert self._process is not None
        return self._process.wait(STOP_S)

    def kill(self) -> None:
        """End it and its workers at once."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def spent(self) -> Spent:
        """What its budget has spent and holds at this moment."""
        budget = Budget(limit_usd=1, window="day", name="serve", store=self.store)
        try:
            found = budget.snapshot()
        finally:
            budget.close()
        usd, held = (Decimal(str(found["usd"][name])) for name in ("spent", "held"))
        return Spent(usd, held, found["cloud_calls"]["spent"])

    @property
    def store(self) -> str:
        return str(self._settings.get("STORE", f"sqlite:///{self.folder}/budget.db"))


@pytest.fixture(scope="session")
def serve_python(require: Callable[..., None]) -> Path:
    """The interpreter of the environment that the template is installed into."""
    python = interpreter("serve") or ROOT / ".envs" / "serve" / "bin" / "python"
    require(str(python), "run `make environments`")
    return python


@contextmanager
def started(
    folder: Path, python: Path, *options: str, tokens: bool = True, **settings: object
) -> Iterator[ServeServer]:
    """Run the template in an empty folder.

    Args:
        folder: The folder.
        python: The interpreter.
        *options: More of the command line.
        tokens: Whether ada and bob have tokens; without, this machine is everybody.
        **settings: Settings by their names in capitals.
    """
    whose = {token: {"user": name, "tenant": "acme"} for name, token in TOKENS.items()}
    known: dict[str, Any] = {"TOKENS": json.dumps(whose)} if tokens else {}
    server = ServeServer(copied_template(folder), python, {**known, **settings}, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
