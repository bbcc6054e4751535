"""The conformance suite of ledgers on a real Redis server."""

from __future__ import annotations

from itertools import count

import hypothesis
import pytest

from langchain_hybridflow.budget.stores.redis import RedisLedger
from langchain_hybridflow.testing import (
    LedgerConformance,
    LedgerShareConformance,
    ManualClock,
    ledger_state_machine,
)
from tests.integration.redis_server import RedisServer

NUMBERS = count()


def fresh(prefix: str) -> str:
    return f"{prefix}_{next(NUMBERS)}"


class TestRedisLedger(LedgerConformance):
    threads, turns = 16, 4

    @pytest.fixture(autouse=True)
    def server(self, redis_server: RedisServer) -> None:
        self.url = redis_server.url

    def make_ledger(self, clock: ManualClock) -> RedisLedger:
        self.namespace = fresh("suite")
        return RedisLedger(self.url, namespace=self.namespace, timeout_s=10, clock=clock)

    def another_handle(self, ledger: object, clock: ManualClock) -> RedisLedger:
        return RedisLedger(self.url, namespace=self.namespace, timeout_s=10, clock=clock)


class TestRedisLedgerShares(LedgerShareConformance):
    threads, turns = 16, 4

    @pytest.fixture(autouse=True)
    def server(self, redis_server: RedisServer) -> None:
        self.url = redis_server.url

    def make_ledger(self, clock: ManualClock) -> RedisLedger:
        self.namespace = fresh("shares")
        return RedisLedger(self.url, namespace=self.namespace, timeout_s=10, clock=clock)

    def another_handle(self, ledger: object, clock: ManualClock) -> RedisLedger:
        return RedisLedger(self.url, namespace=self.namespace, timeout_s=10, clock=clock)


@pytest.mark.parametrize("on_expiry", ["charge", "refund"])
def test_ledger_says_what_the_model_says_when_two_handles_take_turns(
    redis_server: RedisServer, on_expiry: str
) -> None:
    def two_handles(clock: ManualClock) -> list[RedisLedger]:
        namespace = fresh("machine")
        return [
            RedisLedger(
                redis_server.url,
                namespace=namespace,
                timeout_s=10,
                on_expiry=on_expiry,
                clock=clock,
            )
            for _ in range(2)
        ]

    case = ledger_state_machine(two_handles, on_expiry=on_expiry).TestCase
    case.settings = hypothesis.settings(max_examples=25, stateful_step_count=30, deadline=None)
    case().runTest()
