"""Stores that can be killed and started again, for the tests of faults."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from langchain_hybridflow.budget import Ledger
from langchain_hybridflow.budget.stores.opening import open_ledger
from tests.integration.postgres_server import required_binaries, running_postgres
from tests.integration.redis_server import RedisServer

__all__ = ["FaultStore", "opened_store"]

_NUMBERS = count()


class FaultStore(Protocol):
    """A store with a switch."""

    name: str

    def url(self, port: int | None = None) -> str:
        """Where it is; through a proxy, at another port."""
        ...

    @property
    def port(self) -> int:
        """Where its server listens."""
        ...

    def down(self) -> None:
        """End it at once, as a power cut would."""
        ...

    def up(self) -> None:
        """Start it again."""
        ...


class _Redis:
    name = "Redis"

    def __init__(self, folder: Path) -> None:
        # It keeps what it has acknowledged.
        self._server = RedisServer(folder, "--appendonly", "yes", "--appendfsync", "always")

    @property
    def port(self) -> int:
        return self._server.port

    def url(self, port: int | None = None) -> str:
        return f"redis://127.0.0.1:{port or self.port}/0"

    def down(self) -> None:
        self._server.kill()

    def up(self) -> None:
        self._server.start()


class _Postgres:
    name = "PostgreSQL"

    def __init__(self, server: Any) -> None:
        self._server = server

    @property
    def port(self) -> int:
        return int(self._server.port)

    def url(self, port: int | None = None) -> str:
        return f"postgresql://ledger@127.0.0.1:{port or self.port}/postgres"

    def down(self) -> None:
        self._server.stop()

    def up(self) -> None:
        self._server.start()


class _SQLite:
    """A file: it is down while somebody else holds it."""

    name = "SQLite"
    port = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._holder: sqlite3.Connection | None = None

    def url(self, port: int | None = None) -> str:
        return f"sqlite:///{self._path}"

    def down(self) -> None:
        self._holder = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._holder.execute("BEGIN EXCLUSIVE")

    def up(self) -> None:
        if self._holder is not None:
            self._holder.execute("ROLLBACK")
            self._holder.close()


@contextmanager
def opened_store(name: str, folder: Path, require: Callable[[str], None]) -> Iterator[FaultStore]:
    """A running store of its own, by name."""
    if name == "sqlite":
        yield _SQLite(folder / "budget.db")
    elif name == "redis":
        require("redis")
        require("redis-server")
        store = _Redis(folder)
        store.up()
        try:
            yield store
        finally:
            store.down()
    else:
        with running_postgres(required_binaries(require)) as server:
            yield _Postgres(server)


def fresh_ledger(store: FaultStore, *, port: int | None = None, **options: Any) -> Ledger:
    """A ledger that nobody has used, or with `namespace=` another handle to one."""
    options.setdefault("namespace", fresh_namespace())
    return open_ledger(store.url(port), **options)


def fresh_namespace() -> str:
    """A namespace that nobody has used."""
    return f"faults_{next(_NUMBERS)}"
