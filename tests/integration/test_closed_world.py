"""Integration tests reach this machine, and nothing else."""

from __future__ import annotations

import socket

import pytest


def test_connection_to_another_machine_is_refused() -> None:
    # An address that is set aside for documentation: nobody would answer anyhow.
    with pytest.raises(Exception, match=r"192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


def test_connection_to_this_machine_is_made() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
