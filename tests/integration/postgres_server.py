"""A PostgreSQL server that a test session starts for itself, on 127.0.0.1, and throws away."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

__all__ = ["PostgresServer", "pooler", "postgres_binaries", "postgres_server", "running_postgres"]

USER = "postgres"  # PostgreSQL and PgBouncer refuse to run as root


def postgres_binaries() -> Path | None:
    """The directory of `postgres` and `initdb`: on PATH, or where Debian puts them."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).resolve().parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "postgres").exists()), None)


class PostgresServer:
    """A server in a directory of its own; it can be stopped, killed, frozen and started again."""

    def __init__(self, binaries: Path, directory: Path) -> None:
        self._binaries = binaries
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.url = f"postgresql://ledger@127.0.0.1:{self.port}/postgres"

    def initialise(self) -> None:
        self._run("initdb", "--auth=trust", "--username=ledger", "--encoding=UTF8", "--no-locale")

    def start(self) -> None:
        with suppress(FileNotFoundError):
            (self._directory / "data" / "postmaster.pid").unlink()
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._directory),
            "max_connections": "200",
            "shared_buffers": "64MB",
        }
        command = [*as_user(), self._binaries / "postgres", "-D", self._directory / "data"]
        command += [f"--port={self.port}", *(f"-c{name}={text}" for name, text in options.items())]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._directory, start_new_session=True
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """End it at once, as a crash does; what was committed is on disk."""
        if self._process is not None:
            self._run("pg_ctl", "stop", "--mode=immediate", "--wait")
            self._process.wait(timeout=30)
            self._process = None

    def log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")

    def _wait_until_ready(self) -> None:
        ready = [
            self._binaries / "pg_isready",
            "--host=127.0.0.1",
            f"--port={self.port}",
            "--quiet",
        ]
        for _ in range(600):
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended at once:\n{self.log()}")
            if subprocess.run([*ready, "--timeout=1"], check=False).returncode == 0:
                return
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.05)
        raise RuntimeError(f"PostgreSQL does not answer:\n{self.log()}")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*as_user(), self._binaries / program, "-D", self._directory / "data", *arguments],
            check=True,
            capture_output=True,
            cwd=self._directory,
        )


@contextmanager
def running_postgres(binaries: Path) -> Iterator[PostgresServer]:
    """A server that is stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="hybridflow-pg-") as name:
        directory = Path(name)
        _give_to_user(directory)
        server = PostgresServer(binaries, directory)
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def as_user() -> list[str]:
    """What a command of a server starts with."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]


def _give_to_user(path: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(path, USER, USER)


def required_binaries(require: Callable[[str], None]) -> Path:
    require("psycopg")
    binaries = postgres_binaries()
    if binaries is None:
        require("initdb")
    assert binaries is not None
    return binaries


@pytest.fixture(scope="session")
def postgres_server(require: Callable[[str], None]) -> Iterator[PostgresServer]:
    """A server for the whole session; tests keep apart by the namespaces of their ledgers."""
    with running_postgres(required_binaries(require)) as server:
        yield server


@pytest.fixture(scope="session")
def pooler(require: Callable[[str], None], postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a PgBouncer in transaction mode before the server, with few connections to it."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        require("pgbouncer")
    assert program is not None
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="hybridflow-pooler-") as name:
        settings = Path(name) / "pgbouncer.ini"
        settings.write_text(
            "[databases]\n"
            f"postgres = host=127.0.0.1 port={postgres_server.port} user=ledger\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            "auth_type = any\npool_mode = transaction\ndefault_pool_size = 3\n"
            "max_client_conn = 500\n"
        )
        _give_to_user(Path(name))
        _give_to_user(settings)
        with (Path(name) / "log").open("ab") as log:
            process = subprocess.Popen([*as_user(), program, settings], stdout=log, stderr=log)
        try:
            _wait_for_port(port, process)
            yield f"postgresql://anybody@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        with suppress(subprocess.TimeoutExpired):
            raise RuntimeError(f"PgBouncer ended with {process.wait(timeout=0.05)}")
    raise RuntimeError("PgBouncer does not answer")
