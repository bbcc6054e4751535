"""Throw-away Redis servers on 127.0.0.1, for tests that want a real one."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

START_S = 20.0


def free_port() -> int:
    """A port that nobody listens on; somebody else may take it before it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """A server with a folder of its own, which can be killed and started again.

    Args:
        folder: Where it keeps its data.
        options: More of its command line, such as `("--appendonly", "yes")`.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--save", "", "--daemonize", "no", *self.options]
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log)
        end = time.monotonic() + START_S
        # Anything else is an answer, too: a server may want a password first.
        while self.ask("PING").partition(" ")[0] in {"", "-LOADING"}:
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                said = (self.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"redis-server did not start:\n{said[-2000:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ask(self, command: str) -> str:
        """Send a command to it, and return the first line of the reply; empty if there is none."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(command.encode() + b"\r\n")
                return connection.makefile("rb").readline().decode().strip()
        except OSError:
            return ""


@pytest.fixture(scope="session")
def redis_server(require: Callable[[str], None]) -> Iterator[RedisServer]:
    """A server for the whole session; tests keep apart by the namespaces of their ledgers."""
    require("redis")
    require("redis-server")
    # Not below pytest's folders: their names are long, and the server is gone before they are.
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        yield server
