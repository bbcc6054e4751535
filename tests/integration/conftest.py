"""Integration tests may talk to servers of their own on 127.0.0.1, and to nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.postgres_server import pooler, postgres_server
from tests.integration.redis_server import redis_server

__all__ = ["pooler", "postgres_server", "redis_server"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.allow_hosts(["127.0.0.1"]))
