"""The Redis ledger passes the public conformance suite of its administration."""

from __future__ import annotations

from itertools import count

import pytest

from langchain_hybridflow.budget.stores.redis import RedisLedger
from langchain_hybridflow.testing import LedgerAdminConformance, ManualClock
from tests.integration.redis_server import RedisServer

NUMBERS = count()


class TestRedisLedgerAdmin(LedgerAdminConformance):
    turns = 20

    @pytest.fixture(autouse=True)
    def server(self, redis_server: RedisServer) -> None:
        self.url = redis_server.url

    def make_ledger(self, clock: ManualClock) -> RedisLedger:
        namespace = f"admin_{next(NUMBERS)}"
        return RedisLedger(self.url, namespace=namespace, timeout_s=10, clock=clock)
