"""A TCP proxy that cuts the line at a chosen moment, or lets nothing through."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

Moment = Literal["before", "inside", "after"]


@dataclass(slots=True)
class _Cut:
    when: Moment
    marker: bytes
    times: int


class CuttingProxy:
    """Stands between a client and a server, both on 127.0.0.1.

    Args:
        port: Where the server listens.

    Attributes:
        port: Where the proxy listens.
        cuts_made: How often it has cut the line.
    """

    def __init__(self, port: int) -> None:
        self.cuts_made = 0
        self._server_port = port
        self._lock = threading.Lock()
        self._cut: _Cut | None = None
        self._silent = False
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._connections):
            _close(connection)

    def cut(self, when: Moment, *, marker: bytes = b"", times: int = 1) -> None:
        """Cut the line of the next clients that send something.

        Args:
            when: `"before"` the server gets anything of it, `"inside"`, when it has got half of
                it, or `"after"` it has carried it out, in the place of its reply.
            marker: Only of what has this in it.
            times: How many times.
        """
        with self._lock:
            self._cut = _Cut(when, marker, times)

    def silence(self, *, on: bool) -> None:
        """Swallow all that is sent, either way, and leave the connections open."""
        self._silent = on

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                _close(client)
                continue
            self._connections |= {client, server}
            reply_is_cut = threading.Event()
            for work in (self._pass_requests, self._pass_replies):
                threading.Thread(
                    target=work, args=(client, server, reply_is_cut), daemon=True
                ).start()

    def _pass_requests(
        self, client: socket.socket, server: socket.socket, reply_is_cut: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                if self._silent:
                    continue
                when = self._due(data)
                if when == "after":
                    reply_is_cut.set()
                elif when == "inside":
                    data = data[: len(data) // 2]
                if when != "before":
                    server.sendall(data)
                if when in {"before", "inside"}:
                    break
        self._end(client, server)

    def _pass_replies(
        self, client: socket.socket, server: socket.socket, reply_is_cut: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                if reply_is_cut.is_set():
                    break
                if not self._silent:
                    client.sendall(data)
        self._end(client, server)

    def _due(self, data: bytes) -> Moment | None:
        with self._lock:
            cut = self._cut
            if cut is None or cut.times == 0 or cut.marker not in data:
                return None
            cut.times -= 1
            self.cuts_made += 1
            return cut.when

    def _end(self, *connections: socket.socket) -> None:
        for connection in connections:
            self._connections.discard(connection)
            _close(connection)


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
