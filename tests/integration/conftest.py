"""Integration tests may talk to servers of their own on 127.0.0.1, and to nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.browser import browser
from tests.integration.environments import interpreter
from tests.integration.postgres_server import pooler, postgres_server
from tests.integration.redis_server import redis_server

__all__ = ["browser", "pooler", "postgres_server", "redis_server"]

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def environment(require: Callable[..., None]) -> Callable[[str], Path]:
    """The Python of `.envs/NAME`, as `environment("studio")`; without it, as `require` has it."""

    def find(name: str) -> Path:
        python = interpreter(name)
        require(str(python or f".envs/{name}"), f"run `make .envs/{name}`")
        assert python is not None
        return python

    return find


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.allow_hosts(["127.0.0.1"]))
